//! NIfTI-1, which most programs for volumes read (<https://nifti.nimh.nih.gov/nifti-1>).
//!
//! Its axes are right, anterior and superior, which are the scanner's x, y and z as in [`super::write_nrrd`]; lengths are in millimetres.
//! The place of a voxel is said twice, as an affine map and as a rotation with an offset, for readers that know only one of them.

use std::path::Path;

use ndarray::{ArrayView, IxDyn, ShapeBuilder};
use nifti::NiftiHeader;
use nifti::writer::WriterOptions;

use super::{Image, millimetres};
use crate::Error;

/// Coordinates of the scanner (`NIFTI_XFORM_SCANNER_ANAT`).
const SCANNER: i16 = 1;
/// Lengths in millimetres (`NIFTI_UNITS_MM`).
const MILLIMETRES: u8 = 2;

/// Bytes of a header and of the mark that no extension follows.
const HEADER: u64 = 352;

/// Writes an image to a new file, gzipped if its name ends in `.gz`; several frames are a fourth axis.
///
/// # Errors
/// An edge has more than 32767 voxels, or writing fails.
pub fn write_nifti(image: &Image, path: &Path) -> Result<(), Error> {
    check_name(path)?;
    let [nx, ny, nz] = image.grid.size;
    let mut shape = vec![nx, ny, nz];
    if image.frames() > 1 {
        shape.push(image.frames());
    }
    if let Some(edge) = shape.iter().find(|edge| i16::try_from(**edge).is_err()) {
        return Err(Error::Image(format!("{edge} voxels along an edge are more than NIfTI-1 can have")));
    }
    let array = ArrayView::from_shape(IxDyn(&shape).f(), &image.data)
        .map_err(|error| Error::Image(error.to_string()))?;
    WriterOptions::new(path)
        .reference_header(&header(image))
        .write_nifti(&array)
        .map_err(|source| Error::Nifti { path: path.into(), source: Box::new(source) })?;
    check_size(image, path)
}

/// The writer puts an end of its own in the place of what follows the first of two dots.
fn check_name(path: &Path) -> Result<(), Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".nii").or_else(|| name.strip_suffix(".nii.gz"));
    match stem.map(|stem| stem.strip_prefix('.').unwrap_or(stem)) {
        Some(stem) if !stem.contains('.') && !stem.is_empty() => Ok(()),
        _ => Err(Error::Image(format!("`{name}` is no name such as `image.nii` or `image.nii.gz`"))),
    }
}

/// The writer of uncompressed files drops its last buffer without a look at whether it could be written.
fn check_size(image: &Image, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "write", path: path.into(), source };
    let found = path.metadata().map_err(failed)?.len();
    let expected = HEADER + 4 * image.data.len() as u64;
    if path.extension().is_some_and(|end| end == "nii") && found != expected {
        return Err(failed(std::io::Error::other(format!("{found} of {expected} bytes were written"))));
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the header has single precision")]
fn header(image: &Image) -> NiftiHeader {
    let spacing = image.grid.spacing().map(|edge| millimetres(edge) as f32);
    let origin = image.grid.position(0).map(|at| millimetres(at) as f32);
    let mut description = b"hatchway-recon".to_vec();
    description.resize(80, 0);
    NiftiHeader {
        pixdim: [1.0, spacing[0], spacing[1], spacing[2], 0.0, 0.0, 0.0, 0.0],
        xyzt_units: MILLIMETRES,
        descrip: description,
        qform_code: SCANNER,
        sform_code: SCANNER,
        quatern_x: origin[0],
        quatern_y: origin[1],
        quatern_z: origin[2],
        srow_x: [spacing[0], 0.0, 0.0, origin[0]],
        srow_y: [0.0, spacing[1], 0.0, origin[1]],
        srow_z: [0.0, 0.0, spacing[2], origin[2]],
        ..NiftiHeader::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_changed_are_refused() {
        for name in ["a.nii", "/x.y/a.nii.gz", ".image-abc.nii"] {
            assert!(check_name(Path::new(name)).is_ok(), "{name}");
        }
        for name in ["a.v2.nii", "a.gz", "a", ".nii", "a.nii.bz2"] {
            assert!(check_name(Path::new(name)).is_err(), "{name}");
        }
    }
}
