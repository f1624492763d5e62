//! What a unit may use at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Size;

/// A number of processors, also in parts: from 0.01 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64")]
pub struct Processors(f64);

impl Processors {
    /// Microseconds of processor time in a tenth of a second, as `cpu.max` counts.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1000 to 102 400 000, checked when it was read"
    )]
    pub fn quota_us(self) -> u64 {
        (self.0 * 100_000.0).round() as u64
    }
}

impl TryFrom<f64> for Processors {
    type Error = String;
    fn try_from(number: f64) -> Result<Self, String> {
        if (0.01..=1024.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(format!("`{number}` is not a number of processors from 0.01 to 1024"))
    }
}

impl From<Processors> for f64 {
    fn from(processors: Processors) -> Self {
        processors.0
    }
}

/// Limits of a unit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory.
    #[serde(default)]
    pub memory: Option<Size>,
    /// Processes and threads.
    #[serde(default)]
    pub tasks: Option<u64>,
    /// Processors: `0.5` is half of one, `2` is two.
    #[serde(default)]
    pub cpu: Option<Processors>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_in_parts_and_within_reason() {
        for (number, quota) in [(0.01, 1000), (0.25, 25_000), (1.0, 100_000), (2.5, 250_000)] {
            assert_eq!(Processors::try_from(number).unwrap().quota_us(), quota);
        }
        for number in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.001, 1025.0] {
            assert!(Processors::try_from(number).is_err(), "{number}");
        }
    }
}
