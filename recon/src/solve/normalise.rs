//! What a plan's λ is multiplied with, so that the same number suits matrices and signals of other sizes.

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::real::{Real, count};

/// The unit of λ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// λ as it stands.
    None,
    /// λ ‖A‖_F² / N, of the weighted operator with N voxels.
    #[default]
    SystemMatrix,
    /// λ ‖b‖₁ / M, of the weighted data b of a frame; each frame has its own.
    Measurement,
}

impl Normalisation {
    /// The factor for one frame, in double precision, from ‖a_k‖² of all rows and the frame's data.
    pub(super) fn factor<T: Real>(self, energies: &[T], columns: usize, data: &[Complex<T>]) -> f64 {
        match self {
            Self::None => 1.0,
            Self::SystemMatrix => energies.iter().map(|energy| energy.wide()).sum::<f64>() / count(columns),
            Self::Measurement => {
                let sum: f64 = data.iter().map(|value| value.re.wide().hypot(value.im.wide())).sum();
                sum / count(data.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::super::operator::{Weighted, energies};
    use super::*;

    #[test]
    fn factors_are_those_of_the_weighted_problem() {
        let entries = [(3.0, 4.0), (0.0, 0.0), (1.0, 0.0), (0.0, 2.0)].map(|(re, im)| Complex::new(re, im));
        let matrix = Matrix::<f64>::borrowed(2, 2, &entries).unwrap();
        let weighted = Weighted::new(&matrix, &[1.0, 2.0]).unwrap();
        let energies = energies(&weighted);
        let data = [Complex::new(3.0, 4.0), Complex::new(0.0, -2.0)];
        assert!((Normalisation::None.factor(&energies, 2, &data) - 1.0).abs() < 1e-15);
        // (25 + 4 (1 + 4)) / 2 and (5 + 2) / 2
        assert!((Normalisation::SystemMatrix.factor(&energies, 2, &data) - 22.5).abs() < 1e-12);
        assert!((Normalisation::Measurement.factor(&energies, 2, &data) - 3.5).abs() < 1e-12);
    }
}
