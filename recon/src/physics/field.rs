//! The fields of a scan: selection field, offset and drive field over one period.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::{Tensor, Vector, norm};
use crate::Error;

/// A sinusoidal field that is the same everywhere: `amplitude · direction · sin(2π f t + phase)` with `f = base frequency / divider`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DriveChannel {
    /// Where it points; of length 1.
    pub direction: Vector,
    /// Peak value in tesla.
    pub amplitude: f64,
    /// The base frequency is divided by it.
    pub divider: u32,
    /// In radians.
    #[serde(default)]
    pub phase: f64,
}

/// What is static during one period of the drive field: the selection field, and a shift of it (a patch of a larger field of view, a
/// step of a calibration, or one angle of a field-free line).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Period {
    /// The field's change along x, y and z in T/m: row `i` is the gradient of component `i`. Of rank 2 it leaves a line free of field.
    pub gradient: Tensor,
    /// A uniform field in tesla.
    #[serde(default)]
    pub offset: Vector,
    /// What each drive channel's amplitude is multiplied by in this period; 1 for all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drive: Vec<f64>,
}

impl Period {
    /// A field-free line through the origin in the plane of x and y, turned by `angle` radians about z from the x axis; `gradient` in T/m
    /// acts across the line in the plane, and with the other sign along z, for a field without sources has no divergence.
    #[must_use]
    pub fn line(gradient: f64, angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        // Across the line: n = (−sin, cos, 0); the tensor is g (n nᵀ − z zᵀ).
        let across = [-sin, cos];
        let entry = |row: usize, column: usize| gradient * across[row] * across[column];
        let gradient =
            [[entry(0, 0), entry(0, 1), 0.0], [entry(1, 0), entry(1, 1), 0.0], [0.0, 0.0, -gradient]];
        Self { gradient, offset: [0.0; 3], drive: Vec::new() }
    }

    /// What a drive channel's amplitude is multiplied by.
    #[must_use]
    pub fn share(&self, channel: usize) -> f64 {
        self.drive.get(channel).copied().unwrap_or(1.0)
    }
}

/// A scan's fields over one frame: the drive field once a period, and what is static in each period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sequence {
    /// Frequency of the generator and of the samples that are kept, in hertz.
    pub base_frequency: f64,
    /// The drive field.
    pub channels: Vec<DriveChannel>,
    /// The periods of a frame, in order.
    #[serde(default)]
    pub periods: Vec<Period>,
}

/// Longer periods would not fit into memory with the voxels of a grid; the 3-D sequence of the preclinical scanner has 53,856.
const MOST_SAMPLES: usize = 1 << 24;

impl Sequence {
    /// Samples in a period: the least number after which all channels begin anew.
    ///
    /// # Errors
    /// There is no channel, a divider is zero, or the period is too long.
    pub fn samples(&self) -> Result<usize, Error> {
        let least_common = |a: usize, b: usize| a.checked_mul(b / greatest_common(a, b));
        let dividers = self.channels.iter().map(|channel| channel.divider as usize);
        let samples = dividers
            .clone()
            .try_fold(1, |all, divider| if divider == 0 { None } else { least_common(all, divider) })
            .filter(|samples| (2..=MOST_SAMPLES).contains(samples));
        samples.ok_or_else(|| {
            let all: Vec<_> = dividers.collect();
            let text =
                format!("the dividers {all:?} have no common period between 2 and {MOST_SAMPLES} samples");
            Error::model("sequence", text)
        })
    }

    /// Seconds of one period.
    ///
    /// # Errors
    /// As [`Sequence::samples`].
    pub fn cycle(&self) -> Result<f64, Error> {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
        let samples = self.samples()? as f64;
        Ok(samples / self.base_frequency)
    }

    /// The drive field in tesla, `seconds` after a period has begun.
    #[must_use]
    pub fn drive_field(&self, period: &Period, seconds: f64) -> Vector {
        let mut field = [0.0; 3];
        for (index, channel) in self.channels.iter().enumerate() {
            let turns = seconds * self.base_frequency / f64::from(channel.divider);
            let value = channel.amplitude * period.share(index) * (TAU * turns + channel.phase).sin();
            for (sum, direction) in field.iter_mut().zip(channel.direction) {
                *sum += value * direction;
            }
        }
        field
    }

    /// What cannot be a sequence is refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::model("sequence", text));
        if !(self.base_frequency.is_finite() && self.base_frequency > 0.0) {
            return wrong(format!("its base frequency is {} Hz", self.base_frequency));
        }
        if self.periods.is_empty() {
            return wrong("it has no period".to_owned());
        }
        self.samples()?;
        for (index, channel) in self.channels.iter().enumerate() {
            if (norm(&channel.direction) - 1.0).abs() > 1e-6 {
                return wrong(format!("channel {index} points to {:?}, not of length 1", channel.direction));
            }
            if !(channel.amplitude.is_finite() && channel.phase.is_finite()) {
                return wrong(format!(
                    "channel {index} has amplitude {} T, phase {}",
                    channel.amplitude, channel.phase
                ));
            }
        }
        let finite =
            |period: &Period| period.gradient.iter().chain([&period.offset]).flatten().all(|v| v.is_finite());
        let fits = |period: &Period| {
            period.drive.is_empty()
                || period.drive.len() == self.channels.len()
                    && period.drive.iter().all(|share| share.is_finite())
        };
        if let Some(index) = self.periods.iter().position(|period| !fits(period)) {
            let text = format!(
                "period {index} has {:?} for {} drive channels",
                self.periods[index].drive,
                self.channels.len()
            );
            return wrong(text);
        }
        match self.periods.iter().position(|period| !finite(period)) {
            Some(index) => wrong(format!("period {index} has a field that is no number")),
            None => Ok(()),
        }
    }
}

fn greatest_common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{dot, times};

    fn sequence(dividers: &[u32]) -> Sequence {
        let channels = dividers.iter().map(|&divider| DriveChannel {
            direction: [1.0, 0.0, 0.0],
            amplitude: 0.012,
            divider,
            phase: 0.0,
        });
        let period = Period {
            gradient: [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]],
            offset: [0.0; 3],
            drive: vec![],
        };
        Sequence { base_frequency: 2.5e6, channels: channels.collect(), periods: vec![period] }
    }

    /// The published lengths of the preclinical scanner's 1-D, 2-D and 3-D sequences.
    #[test]
    fn periods_are_as_long_as_published() {
        for (dividers, samples, microseconds) in
            [(&[102][..], 102, 40.8), (&[102, 96], 1632, 652.8), (&[102, 96, 99], 53_856, 21_542.4)]
        {
            let sequence = sequence(dividers);
            assert_eq!(sequence.samples().unwrap(), samples);
            assert!((sequence.cycle().unwrap() * 1e6 - microseconds).abs() < 1e-6);
        }
    }

    #[test]
    fn periods_without_an_end_are_refused() {
        for dividers in [&[][..], &[0], &[1], &[4_294_967_291, 4_294_967_279, 65_521]] {
            assert!(sequence(dividers).check().is_err(), "{dividers:?}");
        }
        let mut leaning = sequence(&[100]);
        leaning.channels[0].direction = [1.0, 1.0, 0.0];
        assert!(leaning.check().unwrap_err().to_string().contains("not of length 1"));
    }

    #[test]
    fn the_drive_field_is_a_sine_of_its_channel() {
        let mut sequence = sequence(&[100]);
        sequence.channels[0].phase = std::f64::consts::FRAC_PI_2;
        let quarter = sequence.cycle().unwrap() / 4.0;
        let along_x = |sequence: &Sequence, seconds| sequence.drive_field(&sequence.periods[0], seconds)[0];
        assert!((along_x(&sequence, 0.0) - 0.012).abs() < 1e-15);
        assert!(along_x(&sequence, quarter).abs() < 1e-15);
        assert!((along_x(&sequence, 2.0 * quarter) + 0.012).abs() < 1e-15);
        sequence.periods[0].drive = vec![-0.5];
        assert!((along_x(&sequence, 0.0) + 0.006).abs() < 1e-15);
        sequence.periods[0].drive.push(1.0);
        assert!(sequence.check().unwrap_err().to_string().contains("for 1 drive channels"));
    }

    #[test]
    fn a_line_has_no_field_along_it_and_no_divergence() {
        for angle in [0.0, 0.4, 1.5, 3.0_f64] {
            let period = Period::line(2.0, angle);
            let along = [angle.cos(), angle.sin(), 0.0];
            let across = [-angle.sin(), angle.cos(), 0.0];
            assert!(norm(&times(&period.gradient, &along)) < 1e-15);
            assert!((dot(&times(&period.gradient, &across), &across) - 2.0).abs() < 1e-15);
            let trace: f64 = (0..3).map(|axis| period.gradient[axis][axis]).sum();
            assert!(trace.abs() < 1e-15);
        }
    }
}
