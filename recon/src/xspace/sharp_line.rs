//! Sharpening of field-free lines: from native projections to the object.

use super::cg::dot;
use super::deconvolve::Blur;
use super::{Deconvolution, DriveFrequency, Path, Projection, Settings, Sharp};
use crate::Error;
use crate::physics::{Grid, langevin_derivative};

/// The plane of a grid (its first layer) that the native projections of field-free lines show, in their own unit per metre: the particles'
/// answer across a line, `βg/2 · L'(βgu)`, has an area of 1.
///
/// It is the object whose own projections, blurred by the answer, are the native ones: there is no filtered back-projection in between. With
/// the drive frequency lost, each projection may have a constant of its own. What lies beyond the grid is nothing.
///
/// # Errors
/// The settings, the particles or the grid make no sense, or a projection has no field-free line.
pub fn sharp_lines(
    projections: &[Projection],
    paths: &[Path],
    grid: &Grid,
    settings: &Settings,
    how: &Deconvolution,
) -> Result<Sharp, Error> {
    settings.check()?;
    how.check()?;
    grid.check()?;
    let beta = settings.particle.beta();
    let gradients: Vec<f64> =
        paths.iter().filter_map(|path| path.across().map(|across| across.gradient.abs())).collect();
    if gradients.len() != projections.len() {
        let text = format!("{} projections are not those of {} lines", projections.len(), gradients.len());
        return Err(Error::XSpace(text));
    }
    let line = |(projection, gradient): (&Projection, &f64)| {
        Line::new(projection, beta * gradient, grid, settings.drive_frequency)
    };
    let lines: Vec<Line> = projections.iter().zip(&gradients).map(line).collect();
    let levelled =
        projections.iter().zip(&lines).map(|(projection, line)| line.level(projection.values.clone()));
    let samples: Vec<f64> = levelled.flatten().collect();
    how.object(&LineBlur { voxels: grid.size[0] * grid.size[1], lines }, &samples)
}

/// The particles' answer across a line at a distance `u`, with `rate = βg` in 1/m, in 1/m.
fn across(rate: f64, u: f64) -> f64 {
    rate / 2.0 * langevin_derivative(rate * u)
}

/// Places along the normal for each value of a projection: a voxel between two of them is shared, and the finer they are the less that blurs.
const FINER: usize = 4;

/// One direction: from voxels to places along the normal, and from those to the projection.
struct Line {
    /// For each voxel the place before it, and its share of the next one.
    voxels: Vec<(usize, f64)>,
    /// Places that the voxels are within.
    places: usize,
    /// The answer at all distances between a place and a value, times the area of a voxel; see [`Line::row`].
    answer: Vec<f64>,
    values: usize,
    has_constant: bool,
}

impl Line {
    fn new(projection: &Projection, rate: f64, grid: &Grid, drive: DriveFrequency) -> Self {
        let Projection { normal, first, spacing, values } = projection;
        let [dx, dy, _] = grid.spacing();
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let step = spacing / FINER as f64;
        let along: Vec<f64> = (0..grid.size[0] * grid.size[1])
            .map(|voxel| {
                let [x, y, _] = grid.position(voxel);
                normal[0] * x + normal[1] * y
            })
            .collect();
        let start = along.iter().copied().fold(f64::INFINITY, f64::min);
        let place = |u: &f64| {
            let steps = (u - start) / step;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below 0")]
            let before = steps.floor() as usize;
            (before, steps - steps.floor())
        };
        let voxels: Vec<(usize, f64)> = along.iter().map(place).collect();
        let places = voxels.iter().map(|(before, _)| before + 2).max().unwrap_or(0);
        let last = FINER * values.len().saturating_sub(1);
        #[expect(clippy::cast_precision_loss, reason = "places of a line")]
        let distance = |index: usize| first - start + (last as f64 - index as f64) * step;
        let answer = (0..last + places).map(|index| across(rate, distance(index)) * dx * dy).collect();
        let has_constant = drive == DriveFrequency::Lost;
        Self { voxels, places, answer, values: values.len(), has_constant }
    }

    /// The answers of all places at a value.
    fn row(&self, value: usize) -> &[f64] {
        let begin = FINER * (self.values - 1 - value);
        &self.answer[begin..begin + self.places]
    }

    fn project(&self, object: &[f64]) -> Vec<f64> {
        let mut places = vec![0.0; self.places];
        for ((before, share), value) in self.voxels.iter().zip(object) {
            places[*before] += (1.0 - share) * value;
            places[before + 1] += share * value;
        }
        self.level((0..self.values).map(|value| dot(self.row(value), &places)).collect())
    }

    fn back(&self, values: &[f64], object: &mut [f64]) {
        let values = self.level(values.to_vec());
        let mut places = vec![0.0; self.places];
        for (index, value) in values.iter().enumerate() {
            places.iter_mut().zip(self.row(index)).for_each(|(place, answer)| *place += answer * value);
        }
        for ((before, share), value) in self.voxels.iter().zip(object) {
            *value += (1.0 - share) * places[*before] + share * places[before + 1];
        }
    }

    /// Without the constant that was lost.
    fn level(&self, mut values: Vec<f64>) -> Vec<f64> {
        if self.has_constant {
            #[expect(clippy::cast_precision_loss, reason = "values of a projection")]
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter_mut().for_each(|value| *value -= mean);
        }
        values
    }
}

/// From an object to the projections of all directions, one after the other.
struct LineBlur {
    voxels: usize,
    lines: Vec<Line>,
}

impl Blur for LineBlur {
    fn voxels(&self) -> usize {
        self.voxels
    }

    fn blur(&self, object: &[f64]) -> Vec<f64> {
        self.lines.iter().flat_map(|line| line.project(object)).collect()
    }

    fn adjoint(&self, samples: &[f64]) -> Vec<f64> {
        let mut object = vec![0.0; self.voxels];
        let mut rest = samples;
        for line in &self.lines {
            let (own, others) = rest.split_at(line.values);
            line.back(own, &mut object);
            rest = others;
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{Particle, Period};
    use crate::xspace::{NonNegative, Wiener, back_project};

    const GRADIENT: f64 = 2.5;
    const ANGLES: u32 = 24;

    fn grid() -> Grid {
        Grid { size: [21, 21, 1], field_of_view: [0.021, 0.021, 0.001], center: [0.0; 3] }
    }

    fn settings() -> Settings {
        Settings { particle: Particle { diameter: 22e-9, ..Particle::default() }, ..Settings::default() }
    }

    fn object() -> Vec<f64> {
        let value = |voxel: usize| {
            let [x, y, _] = grid().position(voxel);
            if (x - 0.003).hypot(y) < 0.0021 {
                3.0
            } else if x < -0.001 && y.abs() < 0.0011 && x > -0.007 {
                2.0
            } else {
                0.0
            }
        };
        (0..grid().voxels()).map(value).collect()
    }

    fn paths() -> Vec<Path> {
        let path = |step: u32| {
            let angle = std::f64::consts::PI * f64::from(step) / f64::from(ANGLES);
            Path { gradient: Period::line(GRADIENT, angle).gradient, offset: [0.0; 3], drive: vec![] }
        };
        (0..ANGLES).map(path).collect()
    }

    /// Projections by the formula, voxel for voxel, each with a constant that was lost.
    fn projections() -> Vec<Projection> {
        let rate = settings().particle.beta() * GRADIENT;
        let area = grid().spacing()[0] * grid().spacing()[1];
        let projection = |path: &Path| {
            let normal = path.across().unwrap().normal;
            let value = |step: i32| -> f64 {
                let u = f64::from(step) * 4e-4;
                let of = |(voxel, value): (usize, &f64)| {
                    let [x, y, _] = grid().position(voxel);
                    value * area * across(rate, u - normal[0] * x - normal[1] * y)
                };
                object().iter().enumerate().map(of).sum::<f64>() - 1e-3 * (1.0 + normal[0])
            };
            Projection { normal, first: -0.012, spacing: 4e-4, values: (-30..=30).map(value).collect() }
        };
        paths().iter().map(projection).collect()
    }

    fn off(image: &[f64]) -> f64 {
        super::super::simulated::off(image, &object())
    }

    #[test]
    fn the_object_comes_back_in_its_unit() {
        let (projections, paths) = (projections(), paths());
        let search = Deconvolution::NonNegative(NonNegative::default());
        let sharp = sharp_lines(&projections, &paths, &grid(), &settings(), &search).unwrap();
        assert!(off(&sharp.image) < 0.05 && sharp.residual < 0.01, "{}", off(&sharp.image));
        let native = off(&back_project(&projections, &grid(), settings().window).unwrap());
        let filter = Deconvolution::Wiener(Wiener::default());
        let filtered = off(&sharp_lines(&projections, &paths, &grid(), &settings(), &filter).unwrap().image);
        println!("search {}, wiener {filtered}, native {native}", off(&sharp.image));
        assert!(filtered < 0.6 * native, "{filtered} of {native}");
        // Where nothing is said to be lost, the constants are taken for a part of the object.
        let kept = Settings { drive_frequency: DriveFrequency::Kept, ..settings() };
        let worse = off(&sharp_lines(&projections, &paths, &grid(), &kept, &search).unwrap().image);
        assert!(worse > off(&sharp.image), "{worse}");
    }

    #[test]
    fn a_blur_has_its_adjoint() {
        let projections = projections();
        let rate = settings().particle.beta() * GRADIENT;
        let line = |projection: &Projection| Line::new(projection, rate, &grid(), DriveFrequency::Lost);
        let blur = LineBlur { voxels: grid().voxels(), lines: projections.iter().map(line).collect() };
        let samples: Vec<f64> = projections.iter().flat_map(|of| of.values.clone()).collect();
        let (there, back) = (dot(&blur.blur(&object()), &samples), dot(&object(), &blur.adjoint(&samples)));
        assert!((there - back).abs() < 1e-12 * there.abs(), "{there}, {back}");
    }

    #[test]
    fn projections_of_other_lines_are_told() {
        let how = Deconvolution::Wiener(Wiener::default());
        let error = sharp_lines(&projections(), &paths()[1..], &grid(), &settings(), &how).unwrap_err();
        assert!(error.to_string().contains("24 projections are not those of 23 lines"), "{error}");
    }
}
