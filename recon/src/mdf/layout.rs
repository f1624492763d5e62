//! Lays out the metadata of a new file, with room for the large datasets behind them.

use std::path::Path;

use hdf5_pure::{
    Datatype, FileBuilder, GroupBuilder, Layout, LibVer, make_f64_type, make_i8_type, make_i64_type,
};

use super::fields::{self, Dim, Field, GROUPS};
use super::leaf::{Sink, Value};
use super::patch;
use super::write::{Element, ElementType, Version, unwritable};
use crate::Error;

/// A dataset whose bytes follow the metadata.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: &'static str,
    pub(super) shape: [u64; 4],
    pub(super) datatype: Datatype,
    /// Bytes of an element.
    pub(super) size: u64,
}

impl Part {
    /// Number of elements and bytes.
    pub(super) fn total(&self) -> Option<(u64, u64)> {
        let elements = self.shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length))?;
        Some((elements, elements.checked_mul(self.size)?))
    }
}

/// The whole file up to the first byte of its parts, and where each of these begins.
pub(super) fn image(
    path: &Path,
    mut sink: Sink,
    parts: &[Part],
    version: Version,
) -> Result<(Vec<u8>, Vec<u64>), Error> {
    sink.values.retain(|(path, ..)| fields::find(path).is_none_or(|field| field.is_in(version.name())));
    for (path, shape, value) in &mut sink.values {
        if path == "/version" {
            *value = Value::Text(vec![version.name().to_owned()]);
        }
        check_shape(path, shape, value)?;
    }
    let build = |source| Error::Build { path: path.to_owned(), source };
    let mut image = laid_out(&sink, parts).map_err(build)?;
    let mut starts = Vec::new();
    let mut next = patch::aligned(image.len() as u64);
    for part in parts {
        let total = part.total().filter(|(elements, _)| *elements > 0);
        let room = total.and_then(|(_, bytes)| Some((next?, next?.checked_add(bytes)?)));
        let (start, end) = room.ok_or_else(|| {
            unwritable(part.path, format!("{:?}", part.shape), "1 to 2^64 bytes".to_owned())
        })?;
        let address = placeholder(&image, part.path).map_err(build)?;
        let done = address.and_then(|address| patch::enlarge(&mut image, address, &part.shape, start..end));
        if done.is_none() {
            return Err(unwritable(
                part.path,
                "laid out in an unknown form".to_owned(),
                "contiguous".to_owned(),
            ));
        }
        starts.push(start);
        next = patch::aligned(end);
    }
    if let Some(length) = starts.first().and_then(|start| usize::try_from(*start).ok()) {
        image.resize(length, 0);
    }
    Ok((image, starts))
}

/// Where the one element of a part is.
fn placeholder(image: &[u8], path: &str) -> Result<Option<u64>, hdf5_pure::Error> {
    let file = hdf5_pure::File::from_bytes(image.to_vec())?;
    Ok(match file.dataset(path.trim_start_matches('/'))?.layout()? {
        Layout::Contiguous { address, .. } => address,
        _ => None,
    })
}

/// The number of elements, the rank and the fixed lengths are what the table has.
fn check_shape(path: &str, shape: &[usize], value: &Value) -> Result<(), Error> {
    let shapes = fields::find(path).map_or(&[][..], |field| field.shapes);
    let fixed = |dim: Dim| match dim {
        Dim::Two => Some(2),
        Dim::Three => Some(3),
        _ => None,
    };
    let fits = |dims: &&[Dim]| {
        dims.len() == shape.len()
            && dims.iter().zip(shape).all(|(dim, length)| fixed(*dim).is_none_or(|n| n == *length))
    };
    let product = shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
    if product == Some(value.len()) && product != Some(0) && shapes.iter().any(fits) {
        return Ok(());
    }
    let expected = shapes.iter().map(|shape| Field::shape_name(shape)).collect::<Vec<_>>().join(" or ");
    Err(unwritable(path, format!("{} elements of shape {shape:?}", value.len()), expected))
}

fn laid_out(sink: &Sink, parts: &[Part]) -> Result<Vec<u8>, hdf5_pure::Error> {
    let mut file = FileBuilder::new();
    // The oldest format that is written, which every HDF5 since 1.8 (2008) reads.
    file.with_libver_bounds(LibVer::V18, LibVer::LATEST);
    for (path, shape, value) in of_group(sink, "") {
        put(file.create_dataset(name(path)), shape, value)?;
    }
    for group in GROUPS.iter().filter(|group| group.path.matches('/').count() == 1) {
        if sink.values.iter().any(|(path, ..)| path.starts_with(&format!("{}/", group.path))) {
            let mut builder = file.create_group(name(group.path));
            fill(&mut builder, sink, group.path, parts)?;
            file.add_group(builder.finish());
        }
    }
    file.finish()
}

/// The values that are directly in a group.
fn of_group<'a>(sink: &'a Sink, group: &'a str) -> impl Iterator<Item = (&'a str, &'a [usize], &'a Value)> {
    let all = sink.values.iter().map(|(path, shape, value)| (path.as_str(), shape.as_slice(), value));
    all.filter(move |(path, ..)| path.rfind('/').and_then(|at| path.get(..at)) == Some(group))
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn fill(
    builder: &mut GroupBuilder,
    sink: &Sink,
    group: &str,
    parts: &[Part],
) -> Result<(), hdf5_pure::Error> {
    for (path, shape, value) in of_group(sink, group) {
        put(builder.create_dataset(name(path)), shape, value)?;
    }
    for part in
        parts.iter().filter(|part| part.path.rfind('/').and_then(|at| part.path.get(..at)) == Some(group))
    {
        let zero = vec![0; usize::try_from(part.size).unwrap_or(16)];
        let dataset = builder.create_dataset(name(part.path));
        dataset.with_raw_data(part.datatype.clone(), zero, 1).with_shape(&[1; 4]);
    }
    for inner in GROUPS.iter().filter(|inner| inner.path.starts_with(&format!("{group}/"))) {
        let mut within = builder.create_group(name(inner.path));
        fill(&mut within, sink, inner.path, parts)?;
        builder.add_group(within.finish());
    }
    Ok(())
}

fn put(
    dataset: &mut hdf5_pure::DatasetBuilder,
    shape: &[usize],
    value: &Value,
) -> Result<(), hdf5_pure::Error> {
    let shape: Vec<_> = shape.iter().map(|length| *length as u64).collect();
    let count = value.len() as u64;
    let mut bytes = Vec::new();
    let datatype = match value {
        Value::Text(all) => {
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            dataset.with_vlen_strings(&all).with_shape(&shape);
            return Ok(());
        }
        Value::Flag(all) => {
            bytes.extend(all.iter().map(|flag| u8::from(*flag != 0)));
            make_i8_type()
        }
        Value::Int(all) => {
            all.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            make_i64_type()
        }
        Value::Float(all) => {
            all.iter().for_each(|value| value.put(&mut bytes));
            make_f64_type()
        }
        Value::Complex(all) => {
            all.iter().for_each(|value| value.put(&mut bytes));
            ElementType::Complex128.datatype()?
        }
    };
    dataset.with_raw_data(datatype, bytes, count).with_shape(&shape);
    Ok(())
}
