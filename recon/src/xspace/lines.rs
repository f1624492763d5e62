//! A plane from a field-free line that turns: a projection for each direction, then filtered back-projection.

use num_complex::Complex64;

use super::scan::{at_least, times};
use super::{
    Across, Dc, DriveFrequency, LineSettings, PartialScan, Path, Projection, Scan, Settings, back_project,
    in_time, native_image,
};
use crate::Error;
use crate::physics::Grid;

/// Points in time for each place of a projection where the line is fastest.
const POINTS: f64 = 4.0;
/// How much of the field may lie along a line that is to be free of it.
const ALONG: f64 = 0.01;

/// The plane of a grid (its first layer), x fastest, in V·s/m².
///
/// # Errors
/// As [`projections`] and [`back_project`].
pub fn line_image(scan: &Scan, grid: &Grid, settings: &Settings) -> Result<Vec<f64>, Error> {
    back_project(&projections(scan, grid, settings)?, grid, settings.window)
}

/// The native images across the field-free line of each period, in V·s/m, with delay and drive frequency already seen to.
///
/// Along the line all particles see the same field, and across it they see that of one dimension. So the signal along the normal, `n·u`,
/// over the speed of the line along it is the projection of the object, blurred by `L'(β g u)`. Directions do not overlap as partial
/// fields of view do: the constant that each has lost with the drive frequency comes from the image being 0 at both ends of the line's way.
/// The particles' answer falls off with the square of the distance only, so an object near the ends raises them and what is between is
/// seen too low by as much.
///
/// # Errors
/// A period has no field-free line in the plane, or its drive field is not across it, or the settings make no sense.
pub fn projections(scan: &Scan, grid: &Grid, settings: &Settings) -> Result<Vec<Projection>, Error> {
    scan.check()?;
    settings.check()?;
    grid.check()?;
    let voxel = grid.spacing();
    let spacing = settings.spacing.unwrap_or(voxel[0].min(voxel[1]) / 2.0);
    (0..scan.paths.len()).map(|period| projection(scan, period, spacing, settings)).collect()
}

fn projection(scan: &Scan, period: usize, spacing: f64, settings: &Settings) -> Result<Projection, Error> {
    let path = &scan.paths[period];
    let Some(across) = path.across() else {
        return Err(Error::XSpace(format!("period {period} has no field-free line in the plane of x and y")));
    };
    let seen = sweep(scan, period, &across, spacing)?;
    if !is_across(path, &across, scan) {
        return Err(Error::XSpace(format!("the field of period {period} is not across its field-free line")));
    }
    let fastest = fastest(&seen);
    let usable = seen
        .positions
        .iter()
        .zip(&seen.velocities)
        .filter(|(_, velocity)| velocity.abs() > settings.least_speed * fastest)
        .map(|(position, _)| *position);
    let (low, high) =
        usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating, and NaN is 0")]
    let steps = ((high - low) / spacing).floor() as usize;
    if !(2..1 << 20).contains(&steps) {
        let text =
            format!("the field-free line of period {period} moves from {low} m to {high} m, {steps} places");
        return Err(Error::XSpace(text));
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^20, as just seen")]
    let half = steps as f64 * spacing / 2.0;
    let middle = f64::midpoint(low, high);
    let dc = match settings.drive_frequency {
        DriveFrequency::Lost => Dc::Joint,
        DriveFrequency::Kept => Dc::None,
    };
    let line = LineSettings { least_speed: settings.least_speed, dc };
    let mut values = native_image(&[seen], [middle - half, middle + half], steps + 1, &line)?;
    values.iter_mut().for_each(|value| *value *= across.gradient.signum());
    Ok(Projection { normal: across.normal, first: middle - half, spacing, values })
}

/// One period as a scan along the normal: the line is where `g u + n·B = 0`.
fn sweep(scan: &Scan, period: usize, across: &Across, spacing: f64) -> Result<PartialScan, Error> {
    let path = &scan.paths[period];
    let along =
        |field: [f64; 3]| -(field[0] * across.normal[0] + field[1] * across.normal[1]) / across.gradient;
    let fastest = times(scan.samples, scan.cycle()).map(|t| along(path.rate(t)).abs()).fold(0.0, f64::max);
    let points = at_least(POINTS * fastest * scan.cycle() / spacing, scan.samples);
    let [x, y] = [scan.spectrum(period, 0), scan.spectrum(period, 1)];
    let component: Vec<Complex64> =
        x.iter().zip(y).map(|(x, y)| x * across.normal[0] + y * across.normal[1]).collect();
    Ok(PartialScan {
        positions: times(points, scan.cycle()).map(|t| along(path.field(t))).collect(),
        velocities: times(points, scan.cycle()).map(|t| along(path.rate(t))).collect(),
        signal: in_time(&component, scan.samples, points)?,
    })
}

fn fastest(seen: &PartialScan) -> f64 {
    seen.velocities.iter().fold(0.0, |most: f64, velocity| most.max(velocity.abs()))
}

/// Whether a field-free line stays one: no field along it.
fn is_across(path: &Path, across: &Across, scan: &Scan) -> bool {
    let [nx, ny] = across.normal;
    let (mut whole, mut along) = (0.0_f64, 0.0_f64);
    for seconds in times(scan.samples, scan.cycle()) {
        let [x, y, z] = path.field(seconds);
        whole = whole.max(x.hypot(y).hypot(z));
        along = along.max((x * ny - y * nx).hypot(z));
    }
    along <= ALONG * whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{
        Cloud, Coil, DriveChannel, Particle, Period, Sequence, langevin_derivative, spectra,
    };
    use crate::xspace::Drive;

    const GRADIENT: f64 = 5.7;
    const AMPLITUDE: f64 = 0.06;
    const SENSITIVITY: f64 = 1e-3;
    const PLACE: [f64; 2] = [0.003, -0.002];
    const PARTICLES: f64 = 1e12;

    fn grid() -> Grid {
        Grid { size: [21, 21, 1], field_of_view: [0.021, 0.021, 0.001], center: [0.0; 3] }
    }

    /// A point in the field of a line at a few angles, as ideal coils see it.
    fn scan(angles: &[f64], particle: &Particle) -> Scan {
        let channel = |direction| DriveChannel { direction, amplitude: AMPLITUDE, divider: 256, phase: 0.0 };
        let period =
            |angle: &f64| Period { drive: vec![-angle.sin(), angle.cos()], ..Period::line(GRADIENT, *angle) };
        let sequence = Sequence {
            base_frequency: 45e3 * 256.0,
            channels: vec![channel([1.0, 0.0, 0.0]), channel([0.0, 1.0, 0.0])],
            periods: angles.iter().map(period).collect(),
        };
        let coil = |direction: [f64; 3]| -> Coil {
            serde_json::from_value(serde_json::json!({ "sensitivity": direction.map(|v| v * SENSITIVITY) }))
                .unwrap()
        };
        let coils = [coil([1.0, 0.0, 0.0]), coil([0.0, 1.0, 0.0])];
        let cloud = Cloud { points: vec![([PLACE[0], PLACE[1], 0.0], PARTICLES)] };
        let path = |angle: &f64| {
            let shares = [-angle.sin(), angle.cos()];
            let drive = |axis: usize| Drive {
                axis,
                strength: AMPLITUDE * shares[axis].abs(),
                frequency: 45e3,
                phase: if shares[axis] < 0.0 { std::f64::consts::PI } else { 0.0 },
            };
            Path {
                gradient: Period::line(GRADIENT, *angle).gradient,
                offset: [0.0; 3],
                drive: vec![drive(0), drive(1)],
            }
        };
        Scan {
            samples: 256,
            rate: 45e3 * 256.0,
            channels: 2,
            paths: angles.iter().map(path).collect(),
            spectra: spectra(&sequence, particle, &coils, &cloud).unwrap().data,
        }
    }

    /// The point blurred along the normal: `p m β g N L'(β g (u − n·x))`.
    fn error(projection: &Projection, particle: &Particle) -> f64 {
        let (beta, height) = (particle.beta(), SENSITIVITY * particle.moment() * PARTICLES);
        let middle = projection.normal[0] * PLACE[0] + projection.normal[1] * PLACE[1];
        let most = height * beta * GRADIENT / 3.0;
        let mut u = projection.first;
        let mut worst = 0.0_f64;
        for value in &projection.values {
            let expected = height * beta * GRADIENT * langevin_derivative(beta * GRADIENT * (u - middle));
            worst = worst.max((value - expected).abs() / most);
            u += projection.spacing;
        }
        worst
    }

    const ANGLES: [f64; 4] = [0.0, 0.7, 1.9, 2.8];

    #[test]
    fn a_point_is_blurred_by_its_answer() {
        let particle = Particle { diameter: 20e-9, ..Particle::default() };
        let mut scan = scan(&ANGLES, &particle);
        let lost = Settings { spacing: Some(2e-4), ..Settings::default() };
        let settings = Settings { drive_frequency: DriveFrequency::Kept, ..lost.clone() };
        for projection in projections(&scan, &grid(), &settings).unwrap() {
            let error = error(&projection, &particle);
            assert!(error < 0.015, "{error}");
        }
        scan.drop_drive();
        for projection in projections(&scan, &grid(), &settings).unwrap() {
            assert!(error(&projection, &particle) > 0.1);
        }
        for projection in projections(&scan, &grid(), &lost).unwrap() {
            let error = error(&projection, &particle);
            assert!(error < 0.02, "{error}");
        }
    }

    #[test]
    fn relaxation_is_a_delay_that_is_found() {
        let particle = Particle { relaxation: 0.3e-6, diameter: 20e-9, ..Particle::default() };
        let mut scan = scan(&ANGLES, &particle);
        scan.drop_drive();
        let late = projections(&scan, &grid(), &Settings::default()).unwrap();
        let delay = scan.delay().unwrap();
        assert!((0.15e-6..0.3e-6).contains(&delay), "{delay}");
        scan.advance(delay);
        let right = projections(&scan, &grid(), &Settings::default()).unwrap();
        for (late, right) in late.iter().zip(&right) {
            let (late, right) = (error(late, &particle), error(right, &particle));
            assert!(right < late, "{right} of {late}");
        }
    }

    #[test]
    fn what_is_no_field_free_line_is_told() {
        let particle = Particle::default();
        let message = |scan: &Scan| line_image(scan, &grid(), &Settings::default()).unwrap_err().to_string();
        let mut point = scan(&[0.0], &particle);
        point.paths[0].gradient[0][0] = 1.0;
        assert!(message(&point).contains("no field-free line"));
        let mut along = scan(&[0.0], &particle);
        along.paths[0].offset[0] = 0.01;
        assert!(message(&along).contains("not across"));
        let mut short = scan(&[0.0], &particle);
        short.spectra.pop();
        assert!(message(&short).contains("257 values are not 258"));
        let fast = Settings { least_speed: 1.0, ..Settings::default() };
        let text = line_image(&scan(&[0.0], &particle), &grid(), &fast).unwrap_err().to_string();
        assert!(text.contains("`least-speed`"), "{text}");
    }
}
