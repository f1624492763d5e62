//! What a scan's file says of its fields and its receive chain.

use num_complex::Complex64;

use super::super::opened::{Divisors, Opened, unusable};
use crate::Error;
use crate::mdf::model::Array;
use crate::xspace::{Drive, Path, inverse_chain};

/// Samples of a period.
pub(super) fn samples(scan: &Opened<'_>) -> Result<usize, Error> {
    let points = scan.mdf.acquisition.receiver.num_sampling_points;
    usize::try_from(points).ok().filter(|samples| *samples > 1).ok_or_else(|| {
        unusable(scan.path, "/acquisition/receiver/numSamplingPoints", points.to_string(), "2 or more")
    })
}

/// What the spectra of all channels are multiplied by, C × K: nothing above `most` hertz is left, unless that is 0.
pub(super) fn chain(
    scan: &Opened<'_>,
    samples: usize,
    floor: f64,
    most: f64,
) -> Result<Vec<Complex64>, Error> {
    let (channels, frequencies) = (scan.data.channels(), samples / 2 + 1);
    let is_known = scan.mdf.acquisition.receiver.transfer_function.is_some();
    let transfer = match Divisors::of(scan, is_known)? {
        Some(divisors) => divisors.values,
        // Without one the samples are taken for what the coils saw.
        None => vec![Complex64::new(1.0, 0.0); channels * frequencies],
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let hertz = |k: usize| k as f64 * 2.0 * scan.mdf.acquisition.receiver.bandwidth / samples as f64;
    let mut chain: Vec<Complex64> =
        transfer.chunks_exact(frequencies).flat_map(|of| inverse_chain(of, floor)).collect();
    for (index, factor) in chain.iter_mut().enumerate() {
        if most > 0.0 && hertz(index % frequencies) > most {
            *factor = Complex64::default();
        }
    }
    Ok(chain)
}

/// The fields of each period.
pub(super) fn paths(scan: &Opened<'_>) -> Result<Vec<Path>, Error> {
    let periods = scan.data.periods();
    let sequence = &scan.mdf.acquisition.sequence;
    let missing = |dataset: &str| Error::Missing { path: scan.path.into(), dataset: dataset.to_owned() };
    let name = "/acquisition/gradient";
    let gradient = sequence.gradient.as_ref().ok_or_else(|| missing(name))?;
    let gradients = of_periods(scan, name, gradient, 9)?;
    let offsets = match &sequence.offset_field {
        Some(offset) => of_periods(scan, "/acquisition/offsetField", offset, 3)?,
        None => vec![[0.0; 3].to_vec(); periods],
    };
    let drives = drives(scan)?;
    let path = |((gradient, offset), drive): ((Vec<f64>, Vec<f64>), Vec<Drive>)| Path {
        gradient: std::array::from_fn(|row| std::array::from_fn(|column| gradient[3 * row + column])),
        offset: std::array::from_fn(|axis| offset[axis]),
        drive,
    };
    Ok(gradients.into_iter().zip(offsets).zip(drives).map(path).collect())
}

/// So many numbers for each period: J × one step × numbers in the file, or one for all periods.
pub(in super::super) fn of_periods(
    scan: &Opened<'_>,
    dataset: &str,
    array: &Array<f64>,
    numbers: usize,
) -> Result<Vec<Vec<f64>>, Error> {
    let periods = scan.data.periods();
    let is_number = array.data.iter().all(|value| value.is_finite());
    if is_number && array.data.len() == numbers * periods {
        Ok(array.data.chunks_exact(numbers).map(<[f64]>::to_vec).collect())
    } else if is_number && array.data.len() == numbers {
        Ok(vec![array.data.clone(); periods])
    } else {
        let found = format!("{:?} values", array.shape);
        let expected = format!("{numbers} numbers for each of {periods} periods, the same all through it");
        Err(unusable(scan.path, dataset, found, expected))
    }
}

/// The drive fields of each period: channel D is along axis D.
fn drives(scan: &Opened<'_>) -> Result<Vec<Vec<Drive>>, Error> {
    let of = &scan.mdf.acquisition.drive_field;
    let channels = usize::try_from(of.num_channels).unwrap_or(0);
    let fields = of.divider.data.len();
    if !(1..=3).contains(&channels) || fields == 0 || !fields.is_multiple_of(channels) {
        let found = format!("{channels} channels with {fields} dividers");
        return Err(unusable(
            scan.path,
            "/acquisition/drivefield/divider",
            found,
            "for one to three channels",
        ));
    }
    if let Some(other) = of.waveform.data.iter().find(|waveform| *waveform != "sine") {
        let dataset = "/acquisition/drivefield/waveform";
        return Err(unusable(scan.path, dataset, format!("`{other}`"), "`sine`, whose path is known"));
    }
    if let Some(divider) = of.divider.data.iter().find(|divider| **divider < 1) {
        let dataset = "/acquisition/drivefield/divider";
        return Err(unusable(scan.path, dataset, divider.to_string(), "above 0"));
    }
    let bandwidth = scan.mdf.acquisition.receiver.bandwidth;
    #[expect(clippy::cast_precision_loss, reason = "dividers are small")]
    let fastest =
        of.divider.data.iter().map(|divider| of.base_frequency / *divider as f64).fold(0.0, f64::max);
    if !(fastest > 0.0 && fastest < bandwidth) {
        let dataset = "/acquisition/drivefield/baseFrequency";
        let expected = format!("one of drive fields below the bandwidth of {bandwidth} Hz");
        return Err(unusable(scan.path, dataset, of.base_frequency.to_string(), expected));
    }
    let strengths = of_periods(scan, "/acquisition/drivefield/strength", &of.strength, fields)?;
    let phases = of_periods(scan, "/acquisition/drivefield/phase", &of.phase, fields)?;
    #[expect(clippy::cast_precision_loss, reason = "dividers are small")]
    let drive = |(index, (strength, phase)): (usize, (&f64, &f64))| Drive {
        axis: index / (fields / channels),
        strength: *strength,
        frequency: of.base_frequency / of.divider.data[index] as f64,
        phase: *phase,
    };
    let period = |(strengths, phases): (&Vec<f64>, &Vec<f64>)| {
        strengths.iter().zip(phases).enumerate().map(drive).collect()
    };
    Ok(strengths.iter().zip(&phases).map(period).collect())
}

/// Whether the field is free along a line in the plane of x and y, in all periods, or at points.
pub(super) fn is_line(scan: &Opened<'_>, paths: &[Path]) -> Result<bool, Error> {
    let lines = paths.iter().filter(|path| path.across().is_some()).count();
    if lines == 0 || lines == paths.len() {
        return Ok(lines > 0);
    }
    let found = format!("that of a field-free line in {lines} of {} periods", paths.len());
    Err(unusable(scan.path, "/acquisition/gradient", found, "that of a line in all periods, or in none"))
}

/// What a field-free point needs: the same gradient in all periods, which leaves a point free, and a receive channel for each axis along which
/// the field moves.
pub(super) fn check_point(scan: &Opened<'_>, paths: &[Path]) -> Result<(), Error> {
    let gradient =
        |found: String, expected: &str| unusable(scan.path, "/acquisition/gradient", found, expected);
    for (period, path) in paths.iter().enumerate() {
        if path.inverse().is_none() {
            let found = format!("{:?} in period {period}", path.gradient);
            return Err(gradient(found, "one that leaves a point or a line in the plane of x and y free"));
        }
        if !path.has_gradient_of(&paths[0]) {
            let found = format!("{:?} in period {period}", path.gradient);
            return Err(gradient(found, "that of period 0"));
        }
    }
    let drives = paths.iter().flat_map(|path| &path.drive).filter(|drive| drive.strength > 0.0);
    let axes = drives.map(|drive| drive.axis + 1).max().unwrap_or(0).max(2);
    if scan.data.channels() < axes {
        let expected = format!("{axes} or more: the field moves along as many axes");
        let found = scan.data.channels().to_string();
        return Err(unusable(scan.path, "/acquisition/receiver/numChannels", found, expected));
    }
    Ok(())
}
