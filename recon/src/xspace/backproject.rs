//! Filtered back-projection: from projections along many directions to a plane.
//!
//! Sources: Kak and Slaney, "Principles of Computerized Tomographic Imaging" (1988), section 3.3; for the field-free line, Konkle, Goodwill,
//! Carrasco-Zevallos and Conolly, "Projection reconstruction magnetic particle imaging", IEEE TMI 32 (2013).

use std::f64::consts::PI;

use num_complex::Complex64;
use rayon::prelude::*;
use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::physics::Grid;

/// What the ramp is multiplied by, so that the noise of high frequencies does not drown the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Nothing.
    None,
    /// `(1 + cos(π f/f_N))/2` up to the greatest frequency of the places, f_N.
    #[default]
    Hann,
}

/// The sums of a plane along parallel lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// The direction across the lines; of length 1.
    pub normal: [f64; 2],
    /// The place of the first value along the normal, in metres from the origin.
    pub first: f64,
    /// Metres from one value to the next.
    pub spacing: f64,
    /// The sums. Beyond both ends they are 0.
    pub values: Vec<f64>,
}

/// The plane of a grid (its first layer) that has these projections, x fastest, in the projections' unit per metre.
///
/// Each projection is filtered and smeared over the plane, with linear interpolation between its places, by the share of half a turn that it
/// stands for: half the angle to its neighbours on both sides.
///
/// # Errors
/// There is no projection, one has fewer than two values, a value is no number, or the grid makes no sense.
pub fn back_project(projections: &[Projection], grid: &Grid, window: Window) -> Result<Vec<f64>, Error> {
    grid.check()?;
    if projections.is_empty() {
        return Err(Error::XSpace("there is no projection".to_owned()));
    }
    let shares = shares(projections);
    let reach = reach(grid);
    let filtered: Vec<Projection> = projections
        .par_iter()
        .map(|projection| filtered(projection, reach, window))
        .collect::<Result<_, _>>()?;
    let voxel = |index: usize| -> f64 {
        let [x, y, _] = grid.position(index);
        let at = |(share, projection): (&f64, &Projection)| {
            share * between(projection, projection.normal[0] * x + projection.normal[1] * y)
        };
        shares.iter().zip(&filtered).map(at).sum()
    };
    Ok((0..grid.size[0] * grid.size[1]).into_par_iter().map(voxel).collect())
}

/// The radians that each projection stands for; their sum is π.
fn shares(projections: &[Projection]) -> Vec<f64> {
    let angles: Vec<f64> =
        projections.iter().map(|of| of.normal[1].atan2(of.normal[0]).rem_euclid(PI)).collect();
    let mut order: Vec<usize> = (0..angles.len()).collect();
    order.sort_by(|a, b| angles[*a].total_cmp(&angles[*b]));
    let mut shares = vec![0.0; angles.len()];
    for (place, &index) in order.iter().enumerate() {
        let next = order[(place + 1) % order.len()];
        let wrapped = if place + 1 == order.len() { PI } else { 0.0 };
        let gap = angles[next] + wrapped - angles[index];
        shares[index] += gap / 2.0;
        shares[next] += gap / 2.0;
    }
    shares
}

/// How far from the origin a voxel of the plane may be.
fn reach(grid: &Grid) -> f64 {
    let farthest = |axis: usize| grid.center[axis].abs() + grid.field_of_view[axis] / 2.0;
    farthest(0).hypot(farthest(1))
}

/// A projection behind the ramp, over all places that a voxel may have.
///
/// The ramp is the transform of its band-limited kernel, `1/(4 Δ²)` at 0, `−1/(π n Δ)²` at odd n, 0 at even n: sampled in frequency instead,
/// it would lose the mean.
fn filtered(projection: &Projection, reach: f64, window: Window) -> Result<Projection, Error> {
    let Projection { normal, first, spacing, values } = projection;
    let sound = spacing.is_finite() && *spacing > 0.0 && values.iter().chain([first]).all(|v| v.is_finite());
    if values.len() < 2 || !sound {
        let text = format!("a projection has {} values every {spacing} m, or no numbers", values.len());
        return Err(Error::XSpace(text));
    }
    let before = steps((first + reach) / spacing);
    let after = steps((reach - first) / spacing).saturating_sub(values.len() - 1);
    let kept = before + values.len() + after;
    let length = (2 * kept).next_power_of_two();
    let mut padded = vec![0.0; length];
    padded[before..before + values.len()].copy_from_slice(values);
    let mut kernel = vec![0.0; length];
    kernel[0] = 0.25 / (spacing * spacing);
    for n in (1..kept).step_by(2) {
        #[expect(clippy::cast_precision_loss, reason = "places of a line")]
        let value = -(PI * n as f64 * spacing).powi(-2);
        kernel[n] = value;
        kernel[length - n] = value;
    }
    let mut values = convolved(&mut padded, &mut kernel, window)?;
    values.truncate(kept);
    values.iter_mut().for_each(|value| *value *= spacing);
    #[expect(clippy::cast_precision_loss, reason = "places of a line")]
    let first = first - before as f64 * spacing;
    Ok(Projection { normal: *normal, first, spacing: *spacing, values })
}

/// Whole steps that reach at least so far.
fn steps(count: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not below 0, and saturating"
    )]
    let whole = count.max(0.0).ceil() as usize;
    whole
}

fn convolved(values: &mut [f64], kernel: &mut [f64], window: Window) -> Result<Vec<f64>, Error> {
    let wrong = |error: realfft::FftError| Error::XSpace(error.to_string());
    let mut planner = RealFftPlanner::new();
    let (forward, inverse) = (planner.plan_fft_forward(values.len()), planner.plan_fft_inverse(values.len()));
    let (mut spectrum, mut ramp) = (forward.make_output_vec(), forward.make_output_vec());
    forward.process(values, &mut spectrum).map_err(wrong)?;
    forward.process(kernel, &mut ramp).map_err(wrong)?;
    #[expect(clippy::cast_precision_loss, reason = "places of a line")]
    let (last, length) = ((spectrum.len() - 1) as f64, values.len() as f64);
    let mut k = 0.0;
    for (value, ramp) in spectrum.iter_mut().zip(&ramp) {
        let share = match window {
            Window::None => 1.0,
            Window::Hann => f64::midpoint(1.0, (PI * k / last).cos()),
        };
        // The kernel is even: its transform is real but for rounding, which the inverse would refuse at both ends.
        *value *= Complex64::new(ramp.re * share / length, 0.0);
        k += 1.0;
    }
    let mut result = inverse.make_output_vec();
    inverse.process(&mut spectrum, &mut result).map_err(wrong)?;
    Ok(result)
}

/// Between two places on the straight line between their values; 0 beyond the ends.
fn between(projection: &Projection, place: f64) -> f64 {
    let step = (place - projection.first) / projection.spacing;
    if step < 0.0 {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below 0, as just seen")]
    let index = step as usize;
    #[expect(clippy::cast_precision_loss, reason = "places of a line")]
    let share = step - index as f64;
    match projection.values.get(index..index + 2) {
        Some([low, high]) => low + share * (high - low),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RADIUS: f64 = 0.006;
    const CENTER: [f64; 2] = [0.003, -0.002];

    /// The projections of a disc of height 1 are `2√(r² − (u − n·c)²)`.
    fn disc(angles: &[f64]) -> Vec<Projection> {
        let of = |angle: &f64| {
            let normal = [-angle.sin(), angle.cos()];
            let middle = normal[0] * CENTER[0] + normal[1] * CENTER[1];
            let values = (0..200)
                .map(|n| {
                    let u = -0.01 + f64::from(n) * 1e-4 - middle;
                    2.0 * (RADIUS * RADIUS - u * u).max(0.0).sqrt()
                })
                .collect();
            Projection { normal, first: -0.01, spacing: 1e-4, values }
        };
        angles.iter().map(of).collect()
    }

    fn grid() -> Grid {
        Grid { size: [41, 41, 1], field_of_view: [0.0205, 0.0205, 0.001], center: [0.0; 3] }
    }

    fn check(angles: &[f64]) {
        let image = back_project(&disc(angles), &grid(), Window::Hann).unwrap();
        let (mut inside, mut outside) = (0, 0);
        for (index, value) in image.iter().enumerate() {
            let [x, y, _] = grid().position(index);
            let distance = (x - CENTER[0]).hypot(y - CENTER[1]);
            if distance < RADIUS - 5e-4 {
                assert!((value - 1.0).abs() < 0.02, "{value} at {x}, {y}");
                inside += 1;
            } else if distance > RADIUS + 5e-4 {
                assert!(value.abs() < 0.03, "{value} at {x}, {y}");
                outside += 1;
            }
        }
        assert!(inside > 300 && outside > 800, "{inside}, {outside}");
    }

    #[test]
    fn the_projections_of_a_disc_give_the_disc() {
        check(&(0..180).map(|n| PI * f64::from(n) / 180.0).collect::<Vec<_>>());
    }

    #[test]
    fn directions_need_not_be_even_nor_in_order() {
        let mut angles: Vec<f64> = (0..120).map(|n| PI * f64::from(n) / 240.0).collect();
        angles.extend((0..240).map(|n| PI * (0.5 + f64::from(n) / 480.0) + PI));
        angles.reverse();
        check(&angles);
    }

    #[test]
    fn what_is_no_projection_is_told() {
        let message = |of: &[Projection]| back_project(of, &grid(), Window::None).unwrap_err().to_string();
        assert!(message(&[]).contains("no projection"));
        let mut one = disc(&[0.0]);
        one[0].values[3] = f64::NAN;
        assert!(message(&one).contains("200 values"));
        one[0].values.truncate(1);
        assert!(message(&one).contains("1 values"));
    }
}
