//! The data of a measurement in parts and in one order, however they are stored.

use std::ops::Range;

use num_complex::Complex;

use super::model::{Mdf, Measurement};
use super::sample::Sample;
use super::sparse::Sparse;
use super::value::Numeric;
use super::{File, Stored};
use crate::Error;

/// Rows that are read at once when frames are taken out of them.
const BLOCK_BYTES: u64 = 8 << 20;

/// The data of a measurement: N frames of J periods of C channels of K frequencies (or W samples).
#[derive(Debug)]
pub struct MeasurementData<'f> {
    stored: Stored<'f>,
    numeric: Numeric,
    fast_frames: bool,
    fourier: bool,
    sparse: Option<Sparse<'f>>,
    frames: usize,
    periods: usize,
    channels: usize,
    samples: usize,
    /// Stored frame of each frame that is given.
    order: Vec<usize>,
    background: Vec<bool>,
    selection: Option<Vec<usize>>,
    /// Per channel: factor, and the offset of a sample.
    conversion: Option<Vec<(f64, f64)>>,
    points: f64,
}

impl<'f> MeasurementData<'f> {
    /// Opens the data of a file. Frames come in the order in which they are stored, and numbers as they are stored.
    ///
    /// # Errors
    ///
    /// There is no measurement, or its shape contradicts its flags and metadata.
    pub fn open(file: &'f File, mdf: &Mdf) -> Result<Self, Error> {
        let stored = file.get("/measurement/data")?;
        let Some(measurement) = &mdf.measurement else {
            return Err(Error::Missing { path: file.path().to_owned(), dataset: "/measurement".to_owned() });
        };
        let numeric = stored.numeric()?;
        let background: Vec<_> = measurement.is_background_frame.data.iter().map(|flag| *flag != 0).collect();
        let sparse = match measurement.is_sparsity_transformed {
            Some(true) => Some(Sparse::open(file, mdf, measurement)?),
            _ => None,
        };
        let fast_frames = measurement.is_fast_frame_axis || sparse.is_some();
        let lengths = lengths(&stored)?;
        let [frames, periods, channels, samples] = match lengths {
            [j, c, k, n] if fast_frames => [n, j, c, k],
            other => other,
        };
        let frames = match &sparse {
            Some(sparse) => sparse.frames(&stored, frames, &background)?,
            None => frames,
        };
        if background.len() != frames {
            let expected = format!("{} frames, as isBackgroundFrame has", background.len());
            return Err(stored.unexpected(format!("{frames} frames"), expected));
        }
        let selection = selection(&stored, measurement, samples)?;
        let points = mdf.acquisition.receiver.num_sampling_points;
        Ok(Self {
            fourier: measurement.is_fourier_transformed,
            order: (0..frames).collect(),
            conversion: None,
            #[expect(clippy::cast_precision_loss, reason = "samples of a period are far below 2^53")]
            points: points as f64,
            stored,
            numeric,
            fast_frames,
            sparse,
            frames,
            periods,
            channels,
            samples,
            background,
            selection,
        })
    }

    /// Gives frames in the order in which they were measured, if they are stored in another: stored frame n is measured
    /// frame framePermutation\[n\]. System matrices are stored in the order of their grid, and want no such thing.
    ///
    /// # Errors
    ///
    /// The permutation is none of the frames.
    pub fn in_measured_order(mut self, mdf: &Mdf) -> Result<Self, Error> {
        let measurement = mdf.measurement.as_ref().filter(|measurement| measurement.is_frame_permutation);
        let Some(permutation) = measurement.and_then(|measurement| measurement.frame_permutation.as_ref())
        else {
            return Ok(self);
        };
        let wrong = |found: String| self.stored.unexpected(found, format!("ordered by 1 to {}", self.frames));
        let mut order = vec![usize::MAX; self.frames];
        for (stored, place) in permutation.data.iter().enumerate() {
            let measured = usize::try_from(*place).ok().and_then(|place| place.checked_sub(1));
            match measured.and_then(|measured| order.get_mut(measured)) {
                Some(slot) if *slot == usize::MAX => *slot = stored,
                _ => return Err(wrong(format!("permuted with {place}"))),
            }
        }
        if order.contains(&usize::MAX) {
            return Err(wrong(format!("permuted with {} numbers", permutation.data.len())));
        }
        self.background = order.iter().map(|stored| self.background[*stored]).collect();
        self.order = order;
        Ok(self)
    }

    /// Applies `dataConversionFactor` (a, b), if there is one: samples become a x + b. Of a spectrum, which is the
    /// unscaled sum over V samples, every frequency is scaled by a, and 0 Hz gets V b.
    ///
    /// # Errors
    ///
    /// The factor is not one of all channels.
    pub fn converted(mut self, mdf: &Mdf) -> Result<Self, Error> {
        if let Some(factor) = &mdf.acquisition.receiver.data_conversion_factor {
            let pairs: Vec<_> = factor.data.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            if pairs.len() != self.channels {
                let found = format!("of {} channels", self.channels);
                let expected = format!("of {}, as dataConversionFactor has", pairs.len());
                return Err(self.stored.unexpected(found, expected));
            }
            self.conversion = Some(pairs);
        }
        Ok(self)
    }

    /// N, with the background frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// J.
    #[must_use]
    pub fn periods(&self) -> usize {
        self.periods
    }

    /// C.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// K for spectra, else W.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The type in which numbers are stored.
    #[must_use]
    pub fn numeric(&self) -> Numeric {
        self.numeric
    }

    /// Whether frames are stored as the fastest dimension.
    #[must_use]
    pub fn has_fast_frames(&self) -> bool {
        self.fast_frames
    }

    /// Whether samples are frequencies.
    #[must_use]
    pub fn is_fourier(&self) -> bool {
        self.fourier
    }

    /// Which frames are background, in the order in which frames are given.
    #[must_use]
    pub fn background(&self) -> &[bool] {
        &self.background
    }

    /// The number of a stored frequency in the whole spectrum, from 0, which is 0 Hz.
    #[must_use]
    pub fn frequency(&self, sample: usize) -> Option<usize> {
        match &self.selection {
            Some(selection) => selection.get(sample).copied(),
            None => (sample < self.samples).then_some(sample),
        }
    }

    /// Frames as `[frame][period][channel][sample]`. With the frame axis fastest, all rows are read once, in blocks.
    ///
    /// # Errors
    ///
    /// There are no such frames, data are complex where real samples are wanted, or cannot be read.
    pub fn read_frames<T: Sample>(&self, frames: Range<usize>) -> Result<Vec<T>, Error> {
        self.check_wanted::<T>("frames", &frames, self.frames)?;
        let per_frame = self.periods * self.channels * self.samples;
        let mut all = vec![T::default(); per_frame * frames.len()];
        if !self.fast_frames {
            for (frame, out) in frames.zip(all.chunks_exact_mut(per_frame.max(1))) {
                let start = (self.order[frame] * per_frame) as u64;
                let raw = self.stored.run(start, per_frame as u64)?;
                for (at, (element, out)) in self.numeric.elements(&raw).zip(out).enumerate() {
                    let channel = at / self.samples % self.channels;
                    *out = T::from_complex(self.convert(
                        self.numeric.complex(element),
                        channel,
                        at % self.samples,
                    ));
                }
            }
            return Ok(all);
        }
        let block = self.rows_at_once();
        for row in 0..self.periods * self.channels {
            let (period, channel) = (row / self.channels, row % self.channels);
            for first in (0..self.samples).step_by(block) {
                let samples = first..self.samples.min(first + block);
                let rows = self.rows(period, channel, samples.clone())?;
                for (sample, values) in samples.zip(rows.chunks_exact(self.frames.max(1))) {
                    for (out, frame) in all.chunks_exact_mut(per_frame).zip(frames.clone()) {
                        out[row * self.samples + sample] = T::from_complex(values[frame]);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Rows of a system matrix as `[sample][frame]`: some samples of one channel in one period, of all frames.
    ///
    /// # Errors
    ///
    /// There are no such rows, data are complex where real samples are wanted, or cannot be read.
    pub fn read_rows<T: Sample>(
        &self,
        period: usize,
        channel: usize,
        samples: Range<usize>,
    ) -> Result<Vec<T>, Error> {
        self.check_wanted::<T>("periods", &(period..period.saturating_add(1)), self.periods)?;
        self.check_wanted::<T>("channels", &(channel..channel.saturating_add(1)), self.channels)?;
        self.check_wanted::<T>("samples", &samples, self.samples)?;
        Ok(self.rows(period, channel, samples)?.into_iter().map(T::from_complex).collect())
    }

    fn check_wanted<T: Sample>(&self, what: &str, wanted: &Range<usize>, most: usize) -> Result<(), Error> {
        if wanted.start > wanted.end || wanted.end > most {
            let what = format!("{what} {} to {} of `/measurement/data`", wanted.start, wanted.end);
            return Err(Error::OutOfRange { what, limit: most.to_string() });
        }
        if self.numeric.is_complex() && !T::COMPLEX {
            return Err(self.stored.unexpected(self.numeric.name(), "real, as real samples are wanted"));
        }
        Ok(())
    }

    fn rows_at_once(&self) -> usize {
        let row = (self.frames * self.numeric.size).max(1) as u64;
        usize::try_from(BLOCK_BYTES / row).unwrap_or(1).max(1)
    }

    fn rows(&self, period: usize, channel: usize, samples: Range<usize>) -> Result<Vec<Complex<f64>>, Error> {
        let mut all = vec![Complex::default(); samples.len() * self.frames];
        let first = (period * self.channels + channel) * self.samples + samples.start;
        match &self.sparse {
            Some(sparse) => self.sparse_rows(sparse, first, &mut all)?,
            None if self.fast_frames => self.whole_rows(first, &mut all)?,
            None => {
                for (at, frame) in self.order.iter().enumerate() {
                    let start = frame * self.periods * self.channels * self.samples + first;
                    let raw = self.stored.run(start as u64, samples.len() as u64)?;
                    for (sample, element) in self.numeric.elements(&raw).enumerate() {
                        all[sample * self.frames + at] = self.numeric.complex(element);
                    }
                }
            }
        }
        for (sample, row) in samples.zip(all.chunks_exact_mut(self.frames)) {
            row.iter_mut().for_each(|value| *value = self.convert(*value, channel, sample));
        }
        Ok(all)
    }

    /// Rows from `first` on, which lie behind each other.
    fn whole_rows(&self, first: usize, all: &mut [Complex<f64>]) -> Result<(), Error> {
        let size = self.numeric.size;
        let raw = self.stored.run((first * self.frames) as u64, all.len() as u64)?;
        for (row, out) in raw.chunks_exact(self.frames * size).zip(all.chunks_exact_mut(self.frames)) {
            for (out, frame) in out.iter_mut().zip(&self.order) {
                *out = self.numeric.complex(&row[frame * size..(frame + 1) * size]);
            }
        }
        Ok(())
    }

    /// Rows from `first` on, each expanded.
    fn sparse_rows(&self, sparse: &Sparse<'f>, first: usize, all: &mut [Complex<f64>]) -> Result<(), Error> {
        for (row, out) in (first..).zip(all.chunks_exact_mut(self.frames)) {
            let values = sparse.expand(&self.stored, self.numeric, row as u64, self.frames)?;
            for (out, frame) in out.iter_mut().zip(&self.order) {
                *out = values[*frame];
            }
        }
        Ok(())
    }

    fn convert(&self, value: Complex<f64>, channel: usize, sample: usize) -> Complex<f64> {
        let Some((factor, offset)) = self.conversion.as_ref().and_then(|all| all.get(channel)) else {
            return value;
        };
        let offset = match self.fourier {
            false => *offset,
            true if self.frequency(sample) == Some(0) => offset * self.points,
            true => 0.0,
        };
        value * factor + offset
    }
}

fn lengths(stored: &Stored<'_>) -> Result<[usize; 4], Error> {
    let all: Vec<_> = stored.shape().iter().filter_map(|length| usize::try_from(*length).ok()).collect();
    let shape = super::stored::shape_name(stored.shape());
    let lengths: [usize; 4] =
        all.try_into().map_err(|_| stored.unexpected(shape, "an array of four dimensions"))?;
    if lengths.contains(&0) {
        return Err(stored.unexpected("empty".to_owned(), "at least one frame"));
    }
    Ok(lengths)
}

/// Stored frequencies from 0, where they are selected.
fn selection(
    stored: &Stored<'_>,
    measurement: &Measurement,
    samples: usize,
) -> Result<Option<Vec<usize>>, Error> {
    if !measurement.is_frequency_selection {
        return Ok(None);
    }
    let chosen =
        measurement.frequency_selection.as_ref().map(|chosen| chosen.data.as_slice()).unwrap_or_default();
    let from_zero = |number: &i64| usize::try_from(*number).ok()?.checked_sub(1);
    let selection: Vec<_> = chosen.iter().filter_map(from_zero).collect();
    if selection.len() != samples || chosen.len() != samples {
        let expected = format!("{} frequencies, as frequencySelection has", selection.len());
        return Err(stored.unexpected(format!("{samples} frequencies"), expected));
    }
    Ok(Some(selection))
}
