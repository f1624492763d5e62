//! Where the field-free point or line is, from the fields of a scan.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use crate::physics::{Tensor, Vector};

/// One sinusoidal drive field: `strength · sin(2π f t + phase)` along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Drive {
    /// 0, 1, 2 for x, y, z.
    pub axis: usize,
    /// Peak value in tesla.
    pub strength: f64,
    /// In hertz.
    pub frequency: f64,
    /// In radians.
    pub phase: f64,
}

/// The fields of one period: `B(x, t) = G x + offset + drive(t)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The selection field's gradient `G` in T/m.
    pub gradient: Tensor,
    /// In tesla.
    pub offset: Vector,
    /// What moves.
    pub drive: Vec<Drive>,
}

/// A field-free line in the plane of x and y, by what is across it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Across {
    /// The direction across the line in the plane; of length 1.
    pub normal: [f64; 2],
    /// The gradient along it in T/m.
    pub gradient: f64,
}

/// How far a determinant, a mirror or a direction may be off, relative.
const SLACK: f64 = 1e-6;

impl Path {
    /// The uniform part of the field, offset and drive, in tesla, `seconds` after the period has begun.
    #[must_use]
    pub fn field(&self, seconds: f64) -> Vector {
        let mut field = self.offset;
        for drive in &self.drive {
            field[drive.axis] += drive.strength * (TAU * drive.frequency * seconds + drive.phase).sin();
        }
        field
    }

    /// Its change in T/s.
    #[must_use]
    pub fn rate(&self, seconds: f64) -> Vector {
        let mut rate = [0.0; 3];
        for drive in &self.drive {
            let omega = TAU * drive.frequency;
            rate[drive.axis] += drive.strength * omega * (omega * seconds + drive.phase).cos();
        }
        rate
    }

    /// The field-free line, if the selection field leaves one free in the plane of x and y: its part in the plane is `g n nᵀ`.
    #[must_use]
    pub fn across(&self) -> Option<Across> {
        let [[a, b, _], [_, c, _], _] = self.gradient;
        let gradient = a + c;
        if gradient == 0.0 || (a * c - b * b).abs() > SLACK * gradient * gradient {
            return None;
        }
        let row = if a.abs() >= c.abs() { [a, b] } else { [b, c] };
        let length = row[0].hypot(row[1]);
        Some(Across { normal: row.map(|value| value / length), gradient })
    }

    /// The inverse of the gradient, in m/T: the field is zero at `x = −G⁻¹ B`. None if it leaves no point free.
    #[must_use]
    pub fn inverse(&self) -> Option<Tensor> {
        let g = &self.gradient;
        // Rows and columns after these, round and round: no sign is needed.
        let cofactor = |row: usize, column: usize| {
            let [a, b] = [(row + 1) % 3, (row + 2) % 3];
            let [c, d] = [(column + 1) % 3, (column + 2) % 3];
            g[a][c] * g[b][d] - g[a][d] * g[b][c]
        };
        let determinant: f64 = (0..3).map(|column| g[0][column] * cofactor(0, column)).sum();
        let most = g.as_flattened().iter().fold(0.0, |most: f64, entry| most.max(entry.abs()));
        if determinant.is_nan() || determinant.abs() <= SLACK * most.powi(3) {
            return None;
        }
        Some(std::array::from_fn(|row| std::array::from_fn(|column| cofactor(column, row) / determinant)))
    }

    /// Whether another period has the same gradient.
    #[must_use]
    pub fn has_gradient_of(&self, other: &Self) -> bool {
        let most = self.gradient.as_flattened().iter().fold(0.0, |most: f64, entry| most.max(entry.abs()));
        let mut pairs = self.gradient.as_flattened().iter().zip(other.gradient.as_flattened());
        pairs.all(|(a, b)| (a - b).abs() <= SLACK * most)
    }

    /// The place in the plane where the field is zero, in metres: `x = −G⁻¹ B` with the part of `G` in the plane.
    ///
    /// None where that part has no inverse.
    #[must_use]
    pub fn point(&self, seconds: f64) -> Option<[f64; 2]> {
        let [[a, b, _], [c, d, _], _] = self.gradient;
        let determinant = a * d - b * c;
        if determinant == 0.0 {
            return None;
        }
        let [x, y, _] = self.field(seconds);
        Some([(b * y - d * x) / determinant, (c * x - a * y) / determinant])
    }

    /// A time in seconds about which the path is its own mirror: it comes back as it has gone. There `2π f t + phase` is a quarter turn, or
    /// three, for all drive fields at once. None if there is no such time within a period of `cycle` seconds.
    #[must_use]
    pub fn mirror(&self, cycle: f64) -> Option<f64> {
        let moving: Vec<&Drive> = self.drive.iter().filter(|drive| drive.strength > 0.0).collect();
        let first = moving.first()?;
        let half_turns = 2.0 * first.frequency * cycle;
        let off = |drive: &Drive, seconds: f64| {
            let half_turns = (TAU * drive.frequency * seconds + drive.phase - FRAC_PI_2) / PI;
            (half_turns - half_turns.round()).abs()
        };
        let mut turn = 0.0;
        while turn < half_turns {
            let seconds = (FRAC_PI_2 - first.phase + turn * PI) / (TAU * first.frequency);
            if moving.iter().all(|drive| off(drive, seconds) < 1e3 * SLACK) {
                return Some(seconds);
            }
            turn += 1.0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::Period;

    fn drive(axis: usize, frequency: f64, phase: f64) -> Drive {
        Drive { axis, strength: 0.012, frequency, phase }
    }

    #[test]
    fn a_line_is_found_across_itself() {
        for angle in [0.0, 0.4, 1.2, FRAC_PI_2, 2.9] {
            let gradient = Period::line(1.5, angle).gradient;
            let across = Path { gradient, offset: [0.0; 3], drive: vec![] }.across().unwrap();
            let sine = across.normal[0] * angle.cos() + across.normal[1] * angle.sin();
            assert!(sine.abs() < 1e-12 && (across.gradient - 1.5).abs() < 1e-12, "{angle}: {across:?}");
        }
    }

    #[test]
    fn the_field_is_zero_at_its_point() {
        let gradient = [[-1.0, 0.2, 0.0], [0.2, -1.5, 0.0], [0.0, 0.0, 2.5]];
        let path = Path {
            gradient,
            offset: [0.001, 0.002, 0.0],
            drive: vec![drive(0, 24e3, 0.3), drive(1, 26e3, 1.0)],
        };
        assert!(path.across().is_none());
        let (point, field) = (path.point(1e-5).unwrap(), path.field(1e-5));
        for axis in 0..2 {
            let there = gradient[axis][0] * point[0] + gradient[axis][1] * point[1] + field[axis];
            assert!(there.abs() < 1e-15, "{there}");
        }
        let (before, after, rate) = (path.field(1e-5 - 1e-10), path.field(1e-5 + 1e-10), path.rate(1e-5));
        assert!((0..2).all(|axis| ((after[axis] - before[axis]) / 2e-10 / rate[axis] - 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_mirror_is_found_if_there_is_one() {
        let frequencies = [2.5e6 / 102.0, 2.5e6 / 96.0];
        let path = |phases: [f64; 2]| Path {
            gradient: [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]],
            offset: [0.0; 3],
            drive: (0..2).map(|axis| drive(axis, frequencies[axis], phases[axis])).collect(),
        };
        let cycle = 1632.0 / 2.5e6;
        assert!(path([FRAC_PI_2; 2]).mirror(cycle).unwrap().abs() < 1e-12);
        let shifted = path(frequencies.map(|frequency| FRAC_PI_2 - TAU * frequency * 1e-4));
        let mirror = shifted.mirror(cycle).unwrap();
        let (before, after) = (shifted.field(mirror - 7e-6), shifted.field(mirror + 7e-6));
        assert!((0..2).all(|axis| (before[axis] - after[axis]).abs() < 1e-12), "{before:?}, {after:?}");
        assert!(path([0.0, 0.7]).mirror(cycle).is_none());
    }
}
