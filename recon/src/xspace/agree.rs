//! How late a signal is, where its path never comes back as it has gone.
//!
//! A path that crosses itself passes the same places in other directions and at other times. Only if the signal is where it belongs can one
//! image of flux explain all of it (see the module `flux`): the lag is sought that leaves the least. Within its period a sequence of several
//! drive frequencies crosses itself everywhere.

use super::sweep::Sweeps;
use super::{Lag, Scan, Settings, flux};
use crate::Error;
use crate::physics::Grid;

/// Places at which the search begins, evenly over the range.
const COARSE: u32 = 13;
/// Steps that narrow it down, each to 0.618 of the range before.
const STEPS: u32 = 16;

/// The lag in seconds, of the kind that `lag` says, after which one image of flux explains a field-free point's signal best; in the range of
/// [`Scan::delay`] or [`Scan::relaxation`]. `grid` says how large a voxel is.
///
/// # Errors
/// As [`super::native_points`].
pub fn agreeing_lag(scan: &Scan, grid: &Grid, settings: &Settings, lag: Lag) -> Result<f64, Error> {
    scan.check()?;
    grid.check()?;
    let sweeps = Sweeps::new(scan, grid)?;
    let misfit = |seconds: f64| -> Result<f64, Error> {
        let mut moved = scan.clone();
        match lag {
            Lag::Delay => moved.advance(seconds),
            Lag::Relaxation => moved.relax(seconds),
        }
        flux::misfit(&moved, &sweeps, grid, settings.drive_frequency)
    };
    let most = scan.greatest_lag(lag);
    let from = if lag == Lag::Delay { -most } else { 0.0 };
    let step = (most - from) / f64::from(COARSE - 1);
    let (mut best, mut least) = (from, f64::INFINITY);
    for index in 0..COARSE {
        let at = from + f64::from(index) * step;
        let value = misfit(at)?;
        if value < least {
            (best, least) = (at, value);
        }
    }
    golden((best - step).max(from), best + step, misfit)
}

/// The place of a function's least value between two ends, if it has only one there: Kiefer's search by the golden section (1953).
fn golden(mut low: f64, mut high: f64, of: impl Fn(f64) -> Result<f64, Error>) -> Result<f64, Error> {
    let share = 0.5 * (5.0_f64.sqrt() - 1.0);
    let (mut a, mut b) = (high - share * (high - low), low + share * (high - low));
    let (mut at_a, mut at_b) = (of(a)?, of(b)?);
    for _ in 0..STEPS {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - share * (high - low);
            at_a = of(a)?;
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + share * (high - low);
            at_b = of(b)?;
        }
    }
    Ok(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{scan, sequence};
    use super::*;
    use crate::physics::{Particle, Tensor};

    const GRADIENT: Tensor = [[-2.5, 0.0, 0.0], [0.0, -2.5, 0.0], [0.0, 0.0, 5.0]];

    /// A Lissajous figure that never comes back as it has gone, with half of its lines lost.
    fn late(relaxation: f64) -> Scan {
        let particle = Particle { diameter: 22e-9, relaxation, ..Particle::default() };
        let sequence = sequence(&GRADIENT, &[(0.012, 102, 0.3), (0.012, 96, 1.1)], &[[0.0; 3]]);
        let object = [([0.001, -0.0005, 0.0], 1e12), ([-0.002, 0.001, 0.0], 6e11)];
        let mut scan = scan(&sequence, &particle, &object);
        scan.drop_drive();
        assert!(!scan.is_mirrored() && scan.delay().is_err());
        scan
    }

    fn found(scan: &Scan, lag: Lag) -> f64 {
        let grid = Grid { size: [20, 20, 1], field_of_view: [0.01, 0.01, 0.001], center: [0.0; 3] };
        agreeing_lag(scan, &grid, &Settings::default(), lag).unwrap()
    }

    #[test]
    fn relaxation_is_found_without_a_mirror() {
        for relaxation in [0.4e-6, 1.5e-6] {
            let found = found(&late(relaxation), Lag::Relaxation);
            assert!((found - relaxation).abs() < 3e-8, "{found} for {relaxation}");
        }
    }

    #[test]
    fn a_delay_is_found_without_a_mirror() {
        let mut scan = late(0.0);
        scan.advance(-0.7e-6);
        let found = found(&scan, Lag::Delay);
        assert!((found - 0.7e-6).abs() < 3e-8, "{found}");
    }

    #[test]
    fn the_least_is_found_between_two_ends() {
        let found = golden(-1.0, 3.0, |x| Ok((x - 0.7).powi(2))).unwrap();
        assert!((found - 0.7).abs() < 1e-3, "{found}");
    }
}
