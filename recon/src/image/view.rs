//! Pictures of a volume: looks along each axis side by side, with a scale bar and the range of colours.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::canvas::Canvas;
use super::{ColourMap, Image, font};
use crate::Error;

/// What a look along an axis shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// The greatest value along each line of sight (MIP).
    #[default]
    Maximum,
    /// The slice through the middle.
    Middle,
}

/// How a volume is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct View {
    /// Which frame.
    pub frame: usize,
    /// What of the depth is seen.
    pub projection: Projection,
    /// Colours of the values from 0 (or the range's lower end) upwards.
    pub colours: ColourMap,
    /// Values of the first and of the last colour; from 0 to the greatest value if not given.
    pub range: Option<[f32; 2]>,
    /// Points of the picture for the shortest edge of a voxel; so many that the picture is some 240 points high if 0.
    pub magnification: usize,
}

/// A look along an axis: values row by row from the top, with the edges of a voxel in metres.
struct Look {
    name: &'static str,
    columns: usize,
    rows: usize,
    values: Vec<f32>,
    voxel: [f64; 2],
}

const MARGIN: usize = 12;
const INK: [u8; 3] = [235; 3];
const PAPER: [u8; 3] = [24, 24, 28];
/// Points of a dot of a letter.
const DOT: usize = 2;
const LINE: usize = font::HEIGHT * DOT + 8;
/// Heights of a picture that is not told how large it is to be.
const USUAL_HEIGHT: f64 = 240.0;

impl View {
    /// Writes the picture as PNG: looks along z, y and x for a volume, along z alone for a slice.
    ///
    /// # Errors
    /// There is no such frame, it has a value that is no number, or writing fails.
    pub fn png(&self, image: &Image, out: impl Write) -> Result<(), Error> {
        self.draw(image)?.png(out)
    }

    /// Lines of coloured half blocks for a terminal with 24-bit colours, at most `columns` wide.
    ///
    /// # Errors
    /// There is no such frame, or it has a value that is no number.
    pub fn terminal(&self, image: &Image, columns: usize) -> Result<String, Error> {
        let looks = self.looks(image)?;
        let range = self.colour_range(image)?;
        let mut text = String::new();
        for look in &looks {
            let step = look.columns.div_ceil(columns.max(1)).max(1);
            text += &format!(
                "{} ({} by {} voxels, {} to {})\n",
                look.name, look.columns, look.rows, range[0], range[1]
            );
            for row in (0..look.rows).step_by(2 * step) {
                for column in (0..look.columns).step_by(step) {
                    let colour = |row: usize| {
                        let value = (row < look.rows).then(|| look.values[row * look.columns + column]);
                        self.colours.colour(value.map_or(0.0, |value| share(value, range)))
                    };
                    let ([r, g, b], [lower_r, lower_g, lower_b]) = (colour(row), colour(row + step));
                    text += &format!("\x1b[38;2;{r};{g};{b};48;2;{lower_r};{lower_g};{lower_b}m▀");
                }
                text += "\x1b[0m\n";
            }
        }
        Ok(text)
    }

    fn draw(&self, image: &Image) -> Result<Canvas, Error> {
        let looks = self.looks(image)?;
        let range = self.colour_range(image)?;
        let scale = self.points_per_metre(&looks);
        let size = |look: &Look| {
            [points(look.columns, look.voxel[0] * scale), points(look.rows, look.voxel[1] * scale)]
        };
        let width = looks.iter().map(|look| size(look)[0] + MARGIN).sum::<usize>() + MARGIN;
        let height = looks.iter().map(|look| size(look)[1]).max().unwrap_or(0) + 2 * LINE + 3 * MARGIN;
        // The legend needs some room below narrow pictures.
        let mut canvas = Canvas::new(width.max(300), height, PAPER);
        let mut left = MARGIN;
        for look in &looks {
            canvas.write(look.name, [left, MARGIN], DOT, INK);
            self.paint(&mut canvas, look, [left, MARGIN + LINE], scale, range);
            left += size(look)[0] + MARGIN;
        }
        let below = height - LINE - MARGIN / 2;
        self.legend(&mut canvas, below, scale, range);
        Ok(canvas)
    }

    fn paint(&self, canvas: &mut Canvas, look: &Look, [left, top]: [usize; 2], scale: f64, range: [f32; 2]) {
        for (index, value) in look.values.iter().enumerate() {
            let (column, row) = (index % look.columns, index / look.columns);
            // From edge to edge, so that no gap opens where voxels are no whole number of points.
            let x = [points(column, look.voxel[0] * scale), points(column + 1, look.voxel[0] * scale)];
            let y = [points(row, look.voxel[1] * scale), points(row + 1, look.voxel[1] * scale)];
            let colour = self.colours.colour(share(*value, range));
            canvas.fill([left + x[0], top + y[0]], [x[1] - x[0], y[1] - y[0]], colour);
        }
    }

    /// A bar of a round length, and the colours from the least to the greatest value.
    fn legend(&self, canvas: &mut Canvas, top: usize, scale: f64, range: [f32; 2]) {
        let millimetres = round_length(60.0 / scale * 1e3);
        let bar = points(1, millimetres / 1e3 * scale);
        canvas.fill([MARGIN, top + 5], [bar, 4], INK);
        let text = format!("{millimetres} mm");
        canvas.write(&text, [MARGIN + bar + 8, top], DOT, INK);
        let left = MARGIN + bar + 24 + text.len() * font::ADVANCE * DOT;
        let low = number(range[0]);
        canvas.write(&low, [left, top], DOT, INK);
        let left = left + low.len() * font::ADVANCE * DOT + 6;
        for step in 0..64_u8 {
            let colour = self.colours.colour(f64::from(step) / 63.0);
            canvas.fill([left + usize::from(step), top], [1, font::HEIGHT * DOT], colour);
        }
        canvas.write(&number(range[1]), [left + 72, top], DOT, INK);
    }

    fn points_per_metre(&self, looks: &[Look]) -> f64 {
        let edges = looks.iter().flat_map(|look| look.voxel);
        let shortest = edges.fold(f64::INFINITY, f64::min);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        if self.magnification > 0 {
            return self.magnification as f64 / shortest;
        }
        #[expect(clippy::cast_precision_loss, reason = "voxels along an edge")]
        let tallest = looks.iter().map(|look| look.rows as f64 * look.voxel[1]).fold(0.0, f64::max);
        // Whole points for the shortest edge keep voxels alike.
        (USUAL_HEIGHT / tallest * shortest).round().max(1.0) / shortest
    }

    fn colour_range(&self, image: &Image) -> Result<[f32; 2], Error> {
        let [low, high] = match self.range {
            Some(range) => range,
            None => [0.0, image.frame(self.frame).iter().copied().fold(0.0, f32::max)],
        };
        if !(low.is_finite() && high.is_finite()) || low > high {
            return Err(Error::Image(format!("colours cannot go from {low} to {high}")));
        }
        Ok([low, high])
    }

    fn looks(&self, image: &Image) -> Result<Vec<Look>, Error> {
        if self.frame >= image.frames() {
            return Err(Error::Image(format!(
                "there is no frame {}; there are 0 to {}",
                self.frame,
                image.frames() - 1
            )));
        }
        if image.frame(self.frame).iter().any(|value| !value.is_finite()) {
            return Err(Error::Image(format!("a voxel of frame {} is no number", self.frame)));
        }
        // (name, axis across, axis up, axis of sight)
        let all = [("xy", 0, 1, 2), ("xz", 0, 2, 1), ("yz", 1, 2, 0)];
        let flat = image.grid.size[2] == 1;
        Ok(all[..if flat { 1 } else { 3 }].iter().map(|look| self.look(image, *look)).collect())
    }

    fn look(&self, image: &Image, (name, across, up, depth): (&'static str, usize, usize, usize)) -> Look {
        let size = image.grid.size;
        let (columns, rows) = (size[across], size[up]);
        let frame = image.frame(self.frame);
        let strides = [1, size[0], size[0] * size[1]];
        let values = (0..columns * rows).map(|index| {
            // The picture's first row is the greatest coordinate: up is up.
            let start = index % columns * strides[across] + (rows - 1 - index / columns) * strides[up];
            let along = |step: usize| frame[start + step * strides[depth]];
            match self.projection {
                Projection::Middle => along(size[depth] / 2),
                Projection::Maximum => (0..size[depth]).map(along).fold(f32::NEG_INFINITY, f32::max),
            }
        });
        let spacing = image.grid.spacing();
        Look { name, columns, rows, values: values.collect(), voxel: [spacing[across], spacing[up]] }
    }
}

fn share(value: f32, [low, high]: [f32; 2]) -> f64 {
    if high > low { f64::from((value - low) / (high - low)) } else { 0.0 }
}

/// So many steps of a length in points.
fn points(steps: usize, length: f64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a picture of some thousand points"
    )]
    let place = (steps as f64 * length).round() as usize;
    place
}

/// The greatest of 1, 2, 5, 10, … millimetres that is no longer.
fn round_length(millimetres: f64) -> f64 {
    let power = 10.0_f64.powf(millimetres.log10().floor());
    let digit = [5.0, 2.0].into_iter().find(|digit| digit * power <= millimetres).unwrap_or(1.0);
    // 0.1 has no exact form; what is shown has.
    (digit * power * 1e6).round() / 1e6
}

/// Three digits of a value.
fn number(value: f32) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if (0.01..10_000.0).contains(&size) {
        let decimals = if size < 1.0 {
            3
        } else if size < 10.0 {
            2
        } else if size < 100.0 {
            1
        } else {
            0
        };
        format!("{value:.decimals$}")
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::Grid;

    fn volume() -> Image {
        let grid = Grid { size: [4, 3, 2], field_of_view: [0.004, 0.003, 0.004], center: [0.0; 3] };
        let mut data = vec![0.0; 24];
        // The voxel at the greatest x, the least y and the greatest z.
        data[3 + 4 * (3)] = 2.0;
        Image::new(grid, data).unwrap()
    }

    #[test]
    fn up_is_up_and_right_is_right() {
        let view = View { magnification: 4, ..View::default() };
        let canvas = view.draw(&volume()).unwrap();
        let top = MARGIN + LINE;
        // xy: 16 by 12 points; the bright voxel is at the lower right.
        assert_eq!(canvas.at(MARGIN + 14, top + 10), [255; 3]);
        assert_eq!(canvas.at(MARGIN + 14, top + 2), [0; 3]);
        // xz: 16 by 16 points, voxels of 8 in z; the bright voxel is at the upper right.
        let left = MARGIN + 16 + MARGIN;
        assert_eq!(canvas.at(left + 14, top + 7), [255; 3]);
        assert_eq!(canvas.at(left + 14, top + 9), [0; 3]);
        // yz: at the upper left.
        let left = left + 16 + MARGIN;
        assert_eq!(canvas.at(left + 1, top + 1), [255; 3]);
    }

    #[test]
    fn a_slice_shows_what_is_in_the_middle() {
        let view = View { projection: Projection::Middle, ..View::default() };
        let looks = view.looks(&volume()).unwrap();
        // z has the voxels 0 and 1, and 1 is the middle's; y has 0 to 2, and the bright one is not in the middle.
        assert_eq!(looks[0].values.iter().filter(|value| **value > 0.0).count(), 1);
        assert_eq!(looks[1].values.iter().filter(|value| **value > 0.0).count(), 0);
    }

    #[test]
    fn bars_are_of_round_lengths() {
        for (given, expected) in [(9.99, 5.0), (10.0, 10.0), (49.0, 20.0), (0.6, 0.5), (0.13, 0.1)] {
            assert_eq!(round_length(given), expected, "{given}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.0432, 1.0, 12.34, 123.4, 1234.6, 5e-5, 2.5e7].map(number);
        assert_eq!(texts, ["0", "0.043", "1.00", "12.3", "123", "1235", "5.0e-5", "2.5e7"]);
    }

    #[test]
    fn what_cannot_be_shown_is_told() {
        let message = |view: View, image: &Image| view.draw(image).unwrap_err().to_string();
        assert!(message(View { frame: 1, ..View::default() }, &volume()).contains("there are 0 to 0"));
        let range = Some([2.0, 1.0]);
        assert!(message(View { range, ..View::default() }, &volume()).contains("from 2 to 1"));
        let mut broken = volume();
        broken.data[5] = f32::INFINITY;
        assert!(message(View::default(), &broken).contains("no number"));
        let nothing = Image { data: vec![0.0; 24], ..volume() };
        View::default().draw(&nothing).unwrap();
    }

    #[test]
    fn a_terminal_gets_half_blocks() {
        let text = View::default().terminal(&volume(), 80).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "xy (4 by 3 voxels, 0 to 2)");
        assert_eq!(lines[1].matches('▀').count(), 4);
        assert!(lines[2].contains("\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[0m"), "{text}");
    }
}
