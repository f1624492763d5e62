//! Writing MDF files: metadata from a model, data in parts of any number.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hdf5_pure::{
    CompoundTypeBuilder, Datatype, FileBuilder, FormatError, GroupBuilder, Layout, LibVer, make_f32_type,
    make_f64_type, make_i8_type, make_i16_type, make_i32_type, make_i64_type,
};
use num_complex::Complex;
use tempfile::NamedTempFile;

use super::fields::{self, Dim, Field, GROUPS};
use super::leaf::{Sink, Value};
use super::model::Mdf;
use super::patch;
use crate::Error;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A version of MDF that can be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// 2.0.1, which MPIFiles.jl writes.
    V2_0_1,
    /// 2.1.0.
    #[default]
    V2_1_0,
}

impl Version {
    /// As it is in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_0_1 => "2.0.1",
            Self::V2_1_0 => "2.1.0",
        }
    }
}

/// What may be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The version.
    pub version: Version,
    /// Replace a file that is there.
    pub overwrite: bool,
}

/// A number type of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// Int16.
    Int16,
    /// Int32.
    Int32,
    /// Float32.
    Float32,
    /// Float64.
    Float64,
    /// A compound of two Float32 named `r` and `i`.
    Complex64,
    /// A compound of two Float64 named `r` and `i`.
    Complex128,
}

impl ElementType {
    /// Size in bytes.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::Int16 => 2,
            Self::Int32 | Self::Float32 => 4,
            Self::Float64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }

    fn datatype(self) -> Result<Datatype, FormatError> {
        let complex = CompoundTypeBuilder::new;
        Ok(match self {
            Self::Int16 => make_i16_type(),
            Self::Int32 => make_i32_type(),
            Self::Float32 => make_f32_type(),
            Self::Float64 => make_f64_type(),
            Self::Complex64 => complex().f32_field("r").f32_field("i").build()?,
            Self::Complex128 => complex().f64_field("r").f64_field("i").build()?,
        })
    }
}

/// A number that can be appended to data of its type.
pub trait Element: Copy {
    /// Its type in the file.
    const TYPE: ElementType;
    /// Appends its bytes, least significant first.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! element {
    ($($kind:ty, $name:ident;)*) => {$(
        impl Element for $kind {
            const TYPE: ElementType = ElementType::$name;
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

element! { i16, Int16; i32, Int32; f32, Float32; f64, Float64; }

impl Element for Complex<f32> {
    const TYPE: ElementType = ElementType::Complex64;
    fn put(self, bytes: &mut Vec<u8>) {
        self.re.put(bytes);
        self.im.put(bytes);
    }
}

impl Element for Complex<f64> {
    const TYPE: ElementType = ElementType::Complex128;
    fn put(self, bytes: &mut Vec<u8>) {
        self.re.put(bytes);
        self.im.put(bytes);
    }
}

/// The data of a measurement: what follows the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataShape {
    /// Lengths of the four dimensions, slowest first; the model's flags say what they are.
    pub shape: [u64; 4],
    /// Type of the elements.
    pub element: ElementType,
}

impl DataShape {
    /// Number of elements and bytes.
    fn total(&self) -> Option<(u64, u64)> {
        let elements = self.shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length))?;
        Some((elements, elements.checked_mul(self.element.size())?))
    }
}

const DATA: &str = "/measurement/data";

/// A file that is being written. It has no name until [`Writer::finish`]; one that is dropped before leaves nothing.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    overwrite: bool,
    out: BufWriter<NamedTempFile>,
    element: Option<ElementType>,
    missing: u64,
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins a file of this model. With `data`, `/measurement/data` is stored contiguously, and its elements are then
    /// appended; a model of a measurement needs them.
    ///
    /// # Errors
    ///
    /// The file exists and is not to be replaced, the model contradicts itself or the specification, or the folder
    /// cannot be written.
    pub fn create(path: &Path, mdf: &Mdf, data: Option<&DataShape>, options: Options) -> Result<Self, Error> {
        if !options.overwrite && path.symlink_metadata().is_ok() {
            return Err(Error::Exists(path.to_owned()));
        }
        if data.is_some() != mdf.measurement.is_some() {
            let found = if data.is_some() { "given" } else { "missing" };
            return Err(unwritable(DATA, found.to_owned(), "there exactly if `/measurement` is".to_owned()));
        }
        if mdf
            .measurement
            .as_ref()
            .is_some_and(|measurement| measurement.is_sparsity_transformed == Some(true))
        {
            // Their subsamplingIndices are as large as the data, and nothing streams them yet.
            return Err(unwritable(
                DATA,
                "of sparse rows".to_owned(),
                "of whole rows, which alone are written".to_owned(),
            ));
        }
        let mut sink = Sink::default();
        mdf.store(&mut sink);
        let image = image(path, sink, data, options.version)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
        // What a plain new file has; the umask takes from it.
        let permissions = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new()
            .prefix(".mdf-")
            .permissions(permissions)
            .tempfile_in(folder)
            .map_err(io)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&image).map_err(io)?;
        let missing = data.and_then(DataShape::total).map_or(0, |(elements, _)| elements);
        let element = data.map(|data| data.element);
        Ok(Self {
            path: path.to_owned(),
            overwrite: options.overwrite,
            out,
            element,
            missing,
            bytes: Vec::new(),
        })
    }

    /// Appends elements of the data, last dimension fastest.
    ///
    /// # Errors
    ///
    /// They have another type than was said, are more than fit, or cannot be written.
    pub fn append<T: Element>(&mut self, elements: &[T]) -> Result<(), Error> {
        if self.element != Some(T::TYPE) {
            let expected = format!("{:?}", self.element);
            return Err(unwritable(DATA, format!("{:?}", T::TYPE), expected));
        }
        let left = self.missing.checked_sub(elements.len() as u64);
        let left = left.ok_or_else(|| {
            unwritable(
                DATA,
                format!("{} elements", elements.len()),
                format!("the {} that are left", self.missing),
            )
        })?;
        for part in elements.chunks(BUFFER_BYTES / 16) {
            self.bytes.clear();
            part.iter().for_each(|element| element.put(&mut self.bytes));
            self.out.write_all(&self.bytes).map_err(|source| self.io(source))?;
        }
        self.missing = left;
        Ok(())
    }

    /// Gives the file its name, once it is whole and on the disk.
    ///
    /// # Errors
    ///
    /// Elements are missing, a file of the name has appeared, or something cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        if self.missing > 0 {
            return Err(unwritable(DATA, format!("{} elements short", self.missing), "whole".to_owned()));
        }
        let path = self.path;
        let io = |source| Error::Io { action: "write", path: path.clone(), source };
        let file = self.out.into_inner().map_err(|error| io(error.into_error()))?;
        file.as_file().sync_all().map_err(io)?;
        let named = if self.overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match named {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(path));
            }
            Err(error) => return Err(io(error.error)),
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { action: "write", path: self.path.clone(), source }
    }
}

/// Writes a file without a measurement, such as one of images.
///
/// # Errors
///
/// As [`Writer::create`] and [`Writer::finish`].
pub fn write(path: &Path, mdf: &Mdf, options: Options) -> Result<(), Error> {
    Writer::create(path, mdf, None, options)?.finish()
}

fn unwritable(dataset: &str, found: String, expected: String) -> Error {
    Error::Unwritable { dataset: dataset.to_owned(), found, expected }
}

/// The whole file up to the first byte of the data.
fn image(path: &Path, mut sink: Sink, data: Option<&DataShape>, version: Version) -> Result<Vec<u8>, Error> {
    sink.values.retain(|(path, ..)| fields::find(path).is_none_or(|field| field.is_in(version.name())));
    for (path, shape, value) in &mut sink.values {
        if path == "/version" {
            *value = Value::Text(vec![version.name().to_owned()]);
        }
        check_shape(path, shape, value)?;
    }
    let build = |source| Error::Build { path: path.to_owned(), source };
    let total = match data {
        Some(data) => {
            let shape = format!("{:?}", data.shape);
            let total = data.total().filter(|(elements, _)| *elements > 0);
            Some(total.ok_or_else(|| unwritable(DATA, shape, "1 to 2^64 bytes".to_owned()))?)
        }
        None => None,
    };
    let mut image = laid_out(&sink, data).map_err(build)?;
    if let (Some(data), Some((_, bytes))) = (data, total) {
        let address = placeholder(&image).map_err(build)?;
        let start = address.and_then(|address| patch::enlarge(&mut image, address, &data.shape, bytes));
        if start.is_none() {
            return Err(unwritable(DATA, "laid out in an unknown form".to_owned(), "contiguous".to_owned()));
        }
    }
    Ok(image)
}

/// Where the one element of the data is.
fn placeholder(image: &[u8]) -> Result<Option<u64>, hdf5_pure::Error> {
    let file = hdf5_pure::File::from_bytes(image.to_vec())?;
    Ok(match file.dataset(DATA.trim_start_matches('/'))?.layout()? {
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

fn laid_out(sink: &Sink, data: Option<&DataShape>) -> Result<Vec<u8>, hdf5_pure::Error> {
    let mut file = FileBuilder::new();
    // The oldest format that is written, which every HDF5 since 1.8 (2008) reads.
    file.with_libver_bounds(LibVer::V18, LibVer::LATEST);
    for (path, shape, value) in of_group(sink, "") {
        put(file.create_dataset(name(path)), shape, value)?;
    }
    for group in GROUPS.iter().filter(|group| group.path.matches('/').count() == 1) {
        if sink.values.iter().any(|(path, ..)| path.starts_with(&format!("{}/", group.path))) {
            let mut builder = file.create_group(name(group.path));
            fill(&mut builder, sink, group.path, data)?;
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
    data: Option<&DataShape>,
) -> Result<(), hdf5_pure::Error> {
    for (path, shape, value) in of_group(sink, group) {
        put(builder.create_dataset(name(path)), shape, value)?;
    }
    if let Some(data) = data.filter(|_| DATA.starts_with(&format!("{group}/"))) {
        let zero = vec![0; usize::try_from(data.element.size()).unwrap_or(16)];
        let dataset = builder.create_dataset(name(DATA));
        dataset.with_raw_data(data.element.datatype()?, zero, 1).with_shape(&[1; 4]);
    }
    for inner in GROUPS.iter().filter(|inner| inner.path.starts_with(&format!("{group}/"))) {
        let mut within = builder.create_group(name(inner.path));
        fill(&mut within, sink, inner.path, data)?;
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
