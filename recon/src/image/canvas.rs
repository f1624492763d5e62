//! A picture in the making: filled boxes and words.

use std::io::Write;

use super::font;
use crate::Error;

/// Red, green and blue of each point, row by row from the top.
#[derive(Clone, Debug)]
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// Fills a box; what is outside of the picture is left out.
    pub(crate) fn fill(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], colour: [u8; 3]) {
        for row in top..(top + height).min(self.height) {
            let end = (left + width).min(self.width);
            if left < end {
                self.pixels[row * self.width + left..row * self.width + end].fill(colour);
            }
        }
    }

    /// Writes a word, its upper left corner at a point, each dot of a letter `size` points wide.
    pub(crate) fn write(&mut self, text: &str, [left, top]: [usize; 2], size: usize, colour: [u8; 3]) {
        for (index, letter) in text.chars().enumerate() {
            for (row, dots) in font::dots(letter).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| dots >> (font::WIDTH - 1 - column) & 1 == 1) {
                    let at = [left + (index * font::ADVANCE + column) * size, top + row * size];
                    self.fill(at, [size; 2], colour);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels[y * self.width + x]
    }

    /// Writes the picture as PNG.
    pub(crate) fn png(&self, out: impl Write) -> Result<(), Error> {
        let too_big =
            |_| Error::Image(format!("a picture of {} by {} points is too big", self.width, self.height));
        let (width, height) =
            (u32::try_from(self.width).map_err(too_big)?, u32::try_from(self.height).map_err(too_big)?);
        let mut encoder = png::Encoder::new(out, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let failed =
            |error: png::EncodingError| Error::Image(format!("it cannot be written as PNG: {error}"));
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(self.pixels.as_flattened()).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}
