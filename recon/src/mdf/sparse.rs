//! Sparse rows of a system matrix: kept coefficients of a cosine transform, and their places.

use num_complex::Complex;

use super::dct::{Inverse, Transform};
use super::model::{Mdf, Measurement};
use super::stored::shape_name;
use super::value::Numeric;
use super::{File, Stored};
use crate::Error;

/// How a row of B coefficients becomes one of O positions.
#[derive(Debug)]
pub(super) struct Sparse<'f> {
    indices: Stored<'f>,
    numeric: Numeric,
    kept: u64,
    inverse: Inverse,
}

impl<'f> Sparse<'f> {
    pub(super) fn open(file: &'f File, mdf: &Mdf, measurement: &Measurement) -> Result<Self, Error> {
        let path = "/measurement/sparsityTransformation";
        let name = measurement.sparsity_transformation.as_deref().unwrap_or_default();
        let transform = Transform::parse(name)
            .ok_or_else(|| file.unexpected(path, format!("`{name}`"), "DCT-I, DCT-II, DCT-III or DCT-IV"))?;
        let size = mdf.calibration.as_ref().and_then(|calibration| calibration.size.as_ref());
        let size = size.map(|size| size.data.as_slice()).unwrap_or_default();
        // The file has the fastest axis first.
        let shape: Vec<_> = size.iter().rev().filter_map(|length| usize::try_from(*length).ok()).collect();
        let inverse = Inverse::new(transform, &shape).filter(|_| shape.len() == 3);
        let inverse = inverse.ok_or_else(|| {
            file.unexpected("/calibration/size", format!("{size:?}"), "three lengths of 1 to 4096")
        })?;
        let indices = file.get("/measurement/subsamplingIndices")?;
        let numeric = indices.numeric()?;
        let kept = indices.shape().last().copied().unwrap_or(0);
        Ok(Self { indices, numeric, kept, inverse })
    }

    /// O+E, if everything fits together.
    pub(super) fn frames(
        &self,
        data: &Stored<'_>,
        stored: usize,
        background: &[bool],
    ) -> Result<usize, Error> {
        let positions = self.inverse.points();
        let behind = background.iter().filter(|flag| **flag).count();
        let mut expected = data.shape().to_vec();
        if let Some(last) = expected.last_mut() {
            *last = self.kept;
        }
        if self.indices.shape() != expected || stored as u64 != self.kept + behind as u64 {
            let found = shape_name(data.shape());
            return Err(data.unexpected(found, "J x C x K x (B+E) with subsamplingIndices of J x C x K x B"));
        }
        let first = positions.checked_add(behind).filter(|all| *all == background.len());
        match first {
            Some(all) if background.iter().take(positions).all(|flag| !flag) => Ok(all),
            _ => Err(data.unexpected(
                format!("of a grid of {positions} positions"),
                format!("of {} frames with background last, as isBackgroundFrame has", background.len()),
            )),
        }
    }

    /// One row: its coefficients transformed to positions, then its background frames.
    pub(super) fn expand(
        &self,
        data: &Stored<'_>,
        numeric: Numeric,
        row: u64,
        frames: usize,
    ) -> Result<Vec<Complex<f64>>, Error> {
        let points = self.inverse.points();
        let kept = usize::try_from(self.kept).unwrap_or(usize::MAX);
        let stored = self.kept + (frames - points) as u64;
        let raw = data.run(row * stored, stored)?;
        let values: Vec<_> = numeric.elements(&raw).map(|element| numeric.complex(element)).collect();
        let places = self.indices.run(row * self.kept, self.kept)?;
        let mut all = vec![Complex::default(); frames];
        for (element, value) in self.numeric.elements(&places).zip(&values) {
            let place = self.numeric.integer(element).and_then(|place| usize::try_from(place).ok());
            let place = place.and_then(|place| place.checked_sub(1)).filter(|place| *place < points);
            let Some(place) = place else {
                let found = format!("in row {row} outside of the grid");
                return Err(self.indices.unexpected(found, format!("1 to {points}")));
            };
            all[place] = *value;
        }
        self.inverse.apply(&mut all[..points]);
        all[points..].copy_from_slice(&values[kept..]);
        Ok(all)
    }
}
