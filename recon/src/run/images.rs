//! Images in MDF files.

use std::path::Path;

use crate::Error;
use crate::image::Image;
use crate::mdf::File;
use crate::mdf::model::{Array, Mdf, Reconstruction};
use crate::mdf::write::{Options, write};
use crate::physics::Grid;

/// Writes images into a file of their own, with what another file says of the scan they are of.
///
/// # Errors
/// The file cannot be written.
pub fn write_image(path: &Path, image: &Image, of: &Mdf, options: Options) -> Result<(), Error> {
    let mut mdf = of.clone();
    mdf.measurement = None;
    mdf.calibration = None;
    let voxels = image.grid.voxels();
    let size = image.grid.size.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    mdf.reconstruction = Some(Reconstruction {
        data: Array::new(
            &[image.frames(), voxels, 1],
            image.data.iter().map(|value| f64::from(*value)).collect(),
        ),
        field_of_view: Some(Array::new(&[3], image.grid.field_of_view.to_vec())),
        field_of_view_center: Some(Array::new(&[3], image.grid.center.to_vec())),
        order: Some("xyz".to_owned()),
        size: Some(Array::new(&[3], size)),
        ..Reconstruction::default()
    });
    write(path, &mdf, options)
}

/// Reads images from a file, and what it says of them.
///
/// # Errors
/// The file cannot be read or has no image over a regular grid of the order `xyz`.
pub fn read_image(path: &Path) -> Result<(Image, Mdf), Error> {
    let file = File::open(path)?;
    let (mdf, _) = Mdf::read(&file)?;
    let missing = |dataset: &str| Error::Missing { path: path.into(), dataset: dataset.to_owned() };
    let of = mdf.reconstruction.as_ref().ok_or_else(|| missing("/reconstruction/data"))?;
    let grid = grid(
        path,
        "/reconstruction",
        of.size.as_ref(),
        of.field_of_view.as_ref(),
        of.field_of_view_center.as_ref(),
        of.order.as_deref(),
    )?;
    if of.data.shape.last() != Some(&1) {
        return Err(Error::Image(format!(
            "`{}` has {:?} values a voxel; one is shown",
            path.display(),
            of.data.shape.last()
        )));
    }
    #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
    let data = of.data.data.iter().map(|value| *value as f32).collect();
    Ok((Image::new(grid, data)?, mdf))
}

/// A regular grid from the fields of a group.
pub(super) fn grid(
    path: &Path,
    group: &str,
    size: Option<&Array<i64>>,
    field_of_view: Option<&Array<f64>>,
    center: Option<&Array<f64>>,
    order: Option<&str>,
) -> Result<Grid, Error> {
    let missing = |field: &str| Error::Missing { path: path.into(), dataset: format!("{group}/{field}") };
    let unusable = |field: &str, found: String, expected: &str| Error::Unexpected {
        path: path.into(),
        dataset: format!("{group}/{field}"),
        found,
        expected: expected.to_owned(),
    };
    if let Some(order) = order.filter(|order| *order != "xyz") {
        return Err(unusable("order", format!("`{order}`"), "`xyz`, the only one that is read"));
    }
    let three = |field: &str, of: Option<&Array<f64>>| -> Result<[f64; 3], Error> {
        let data = &of.ok_or_else(|| missing(field))?.data;
        data.as_slice().try_into().map_err(|_| unusable(field, format!("{} values", data.len()), "three"))
    };
    let size = &size.ok_or_else(|| missing("size"))?.data;
    let edges: Vec<usize> = size.iter().filter_map(|n| usize::try_from(*n).ok()).collect();
    let edges = edges.try_into().map_err(|_| unusable("size", format!("{size:?}"), "three counts"))?;
    let center = if center.is_some() { three("fieldOfViewCenter", center)? } else { [0.0; 3] };
    let grid = Grid { size: edges, field_of_view: three("fieldOfView", field_of_view)?, center };
    grid.check()?;
    Ok(grid)
}
