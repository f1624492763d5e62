//! A file from another one: contiguous, in another order, precision or version.

use std::path::Path;

use super::File;
use super::data::MeasurementData;
use super::fields::{self, Need};
use super::model::Mdf;
use super::sample::Sample;
use super::tree::Tree;
use super::value::{Number, Numeric};
use super::write::{DataShape, Element, ElementType, Options, Writer, write};
use crate::Error;
use num_complex::Complex;

/// Elements that are converted at once; 16 MiB of Complex128.
const ELEMENTS_AT_ONCE: usize = 1 << 20;

/// What is to change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// The version, and whether a file may be replaced.
    pub options: Options,
    /// Whether frames are to be the fastest dimension; as it is, if nothing is said. Sparse rows have fast frames.
    pub fast_frames: Option<bool>,
    /// Numbers of 32 bits, or of 64. Without it, types stay; integers other than Int16 and Int32 become Float64.
    pub single: Option<bool>,
}

/// Writes `file` anew to `to`. Metadata stay as they are; sparse rows become whole ones. `progress` is told how many of
/// how many elements are done. Returns the paths of what is left out: datasets that are no fields of MDF.
///
/// Frames out of a file whose frames are the fastest dimension need the whole file to be read once for each part of
/// them.
///
/// # Errors
///
/// The file cannot be read as MDF, or the new one cannot be written. Nothing is left of it then.
pub fn convert(
    file: &File,
    to: &Path,
    change: Change,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>, Error> {
    let (mut mdf, _) = Mdf::read(file)?;
    let data = match mdf.measurement {
        Some(_) => Some(MeasurementData::open(file, &mdf)?),
        None => None,
    };
    match (data, &mut mdf.measurement) {
        (Some(data), Some(measurement)) => {
            let fast = change.fast_frames.unwrap_or(data.has_fast_frames());
            measurement.is_fast_frame_axis = fast;
            measurement.is_sparsity_transformed = Some(false);
            measurement.sparsity_transformation = None;
            let element = element(data.numeric(), change.single);
            let mut copy = Copy { data: &data, fast, progress };
            let writer = Writer::create(to, &mdf, Some(&copy.shape(element)), change.options)?;
            match element {
                ElementType::Int16 => copy.run::<i16>(writer)?,
                ElementType::Int32 => copy.run::<i32>(writer)?,
                ElementType::Float32 => copy.run::<f32>(writer)?,
                ElementType::Float64 => copy.run::<f64>(writer)?,
                ElementType::Complex64 => copy.run::<Complex<f32>>(writer)?,
                ElementType::Complex128 => copy.run::<Complex<f64>>(writer)?,
            }
        }
        _ => write(to, &mdf, change.options)?,
    }
    Ok(left_out(file))
}

/// The type of the new data.
fn element(numeric: Numeric, single: Option<bool>) -> ElementType {
    let keeps = single.is_none();
    let narrow = single.unwrap_or(numeric.number == Number::F32);
    match (numeric.is_complex(), narrow, numeric.number) {
        (false, _, Number::Int(2)) if keeps => ElementType::Int16,
        (false, _, Number::Int(4)) if keeps => ElementType::Int32,
        (false, true, _) => ElementType::Float32,
        (false, false, _) => ElementType::Float64,
        (true, true, _) => ElementType::Complex64,
        (true, false, _) => ElementType::Complex128,
    }
}

struct Copy<'a, 'f> {
    data: &'a MeasurementData<'f>,
    fast: bool,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Copy<'_, '_> {
    fn shape(&self, element: ElementType) -> DataShape {
        let (n, rest) =
            (self.data.frames(), [self.data.periods(), self.data.channels(), self.data.samples()]);
        let [j, c, k] = rest;
        let shape = if self.fast { [j, c, k, n] } else { [n, j, c, k] };
        DataShape { shape: shape.map(|length| length as u64), element }
    }

    fn run<T: Element + Sample>(&mut self, mut writer: Writer) -> Result<(), Error> {
        let (frames, samples) = (self.data.frames(), self.data.samples());
        let rows = self.data.periods() * self.data.channels();
        let total = (frames * rows * samples) as u64;
        let mut done = 0;
        let mut put = |part: &[T], writer: &mut Writer| {
            writer.append(part)?;
            done += part.len() as u64;
            (self.progress)(done, total);
            Ok::<_, Error>(())
        };
        if self.fast {
            let step = (ELEMENTS_AT_ONCE / frames.max(1)).max(1);
            for row in 0..rows {
                let (period, channel) = (row / self.data.channels(), row % self.data.channels());
                for first in (0..samples).step_by(step) {
                    let part = self.data.read_rows::<T>(period, channel, first..samples.min(first + step))?;
                    put(&part, &mut writer)?;
                }
            }
        } else {
            let step = (ELEMENTS_AT_ONCE / (rows * samples).max(1)).max(1);
            for first in (0..frames).step_by(step) {
                put(&self.data.read_frames::<T>(first..frames.min(first + step))?, &mut writer)?;
            }
        }
        writer.finish()
    }
}

/// Datasets that no section of the model has.
fn left_out(file: &File) -> Vec<String> {
    let known = |path: &str| fields::find(path).is_some_and(|field| field.need != Need::Extension);
    let entries = Tree::of(file).entries.into_iter();
    entries.filter(|entry| entry.is_dataset && !known(&entry.path)).map(|entry| entry.path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_stay_unless_another_precision_is_asked_for() {
        let numeric = |number, imaginary| Numeric {
            number,
            big_endian: false,
            imaginary,
            real: 0,
            size: 16,
            enumeration: false,
        };
        for (number, imaginary, single, expected) in [
            (Number::Int(2), None, None, ElementType::Int16),
            (Number::Int(2), None, Some(true), ElementType::Float32),
            (Number::Int(8), None, None, ElementType::Float64),
            (Number::Unsigned(2), None, None, ElementType::Float64),
            (Number::F32, None, None, ElementType::Float32),
            (Number::F32, Some(4), None, ElementType::Complex64),
            (Number::F32, Some(4), Some(false), ElementType::Complex128),
            (Number::F64, Some(8), Some(true), ElementType::Complex64),
        ] {
            assert_eq!(
                element(numeric(number, imaginary), single),
                expected,
                "{number:?} {imaginary:?} {single:?}"
            );
        }
    }
}
