//! Files with a measurement, and what is divided out of it.

use std::path::Path;

use num_complex::Complex64;

use crate::Error;
use crate::mdf::{File, Mdf, MeasurementData};

/// A file with a measurement.
pub(super) struct Opened<'f> {
    pub(super) path: &'f Path,
    pub(super) mdf: Mdf,
    pub(super) data: MeasurementData<'f>,
}

pub(super) fn open<'f>(path: &'f Path, file: &'f File, is_calibration: bool) -> Result<Opened<'f>, Error> {
    let (mdf, _) = Mdf::read(file)?;
    let mut data = MeasurementData::open(file, &mdf)?.converted(&mdf)?;
    if is_calibration {
        if mdf.calibration.is_none() {
            return Err(Error::Missing { path: path.into(), dataset: "/calibration".to_owned() });
        }
        if !data.is_fourier() {
            return Err(unusable(
                path,
                "/measurement/isFourierTransformed",
                "0",
                "1: a system matrix is of spectra",
            ));
        }
    } else {
        data = data.in_measured_order(&mdf)?;
    }
    Ok(Opened { path, mdf, data })
}

pub(super) fn unusable(
    path: &Path,
    dataset: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    let (found, expected) = (found.into(), expected.into());
    Error::Unexpected { path: path.into(), dataset: dataset.to_owned(), found, expected }
}

/// Where a frequency is in a file that may have only some.
pub(super) fn stored_sample(opened: &Opened<'_>, frequency: usize) -> Result<usize, Error> {
    // Files with all of them have each in its place.
    if opened.data.frequency(frequency) == Some(frequency) {
        return Ok(frequency);
    }
    let found = (0..opened.data.samples()).find(|sample| opened.data.frequency(*sample) == Some(frequency));
    found.ok_or_else(|| {
        let found = format!("without frequency {frequency} (counted from 0)");
        unusable(opened.path, "/measurement/frequencySelection", found, "with all of the chosen rows")
    })
}

/// What the values of each receive channel and frequency are divided by, C × K.
#[derive(Debug)]
pub(super) struct Divisors {
    pub(super) values: Vec<Complex64>,
    frequencies: usize,
}

impl Divisors {
    /// The receive chain of a file, `transferFunction · inductionFactor` (without a factor, 1), if that is wanted and has not been divided
    /// out before.
    pub(super) fn of(opened: &Opened<'_>, is_wanted: bool) -> Result<Option<Self>, Error> {
        let is_corrected =
            opened.mdf.measurement.as_ref().is_some_and(|of| of.is_transfer_function_corrected);
        if !is_wanted || is_corrected {
            return Ok(None);
        }
        let receiver = &opened.mdf.acquisition.receiver;
        let name = "/acquisition/receiver/transferFunction";
        let transfer = receiver
            .transfer_function
            .as_ref()
            .ok_or_else(|| Error::Missing { path: opened.path.into(), dataset: name.to_owned() })?;
        let channels = opened.data.channels();
        let frequencies = usize::try_from(receiver.num_sampling_points).unwrap_or(0) / 2 + 1;
        if transfer.data.len() != channels * frequencies {
            let expected = format!("{channels} channels of {frequencies} frequencies");
            return Err(unusable(opened.path, name, format!("{} values", transfer.data.len()), expected));
        }
        let factors = match &receiver.induction_factor {
            Some(factors) if factors.data.len() == channels => factors.data.clone(),
            Some(factors) => {
                let dataset = "/acquisition/receiver/inductionFactor";
                let found = format!("{} values", factors.data.len());
                return Err(unusable(
                    opened.path,
                    dataset,
                    found,
                    format!("{channels}, one for each channel"),
                ));
            }
            None => vec![1.0; channels],
        };
        let values = transfer.data.iter().enumerate().map(|(at, value)| value * factors[at / frequencies]);
        Ok(Some(Self { values: values.collect(), frequencies }))
    }

    /// That of a channel and a frequency.
    pub(super) fn at(
        &self,
        opened: &Opened<'_>,
        channel: usize,
        frequency: usize,
    ) -> Result<Complex64, Error> {
        let value = self.values[channel * self.frequencies + frequency];
        if value.is_finite() && value.norm() > 0.0 {
            return Ok(value);
        }
        let name = "/acquisition/receiver/transferFunction";
        let found = format!("{value} at frequency {frequency} (counted from 0) of channel {channel}");
        Err(unusable(
            opened.path,
            name,
            found,
            "a number that can be divided by, for each of the chosen rows",
        ))
    }
}
