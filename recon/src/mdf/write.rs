//! Writing MDF files: metadata from a model, data in parts of any number.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hdf5_pure::{
    CompoundTypeBuilder, Datatype, FormatError, make_f32_type, make_f64_type, make_i16_type, make_i32_type,
    make_i64_type,
};
use num_complex::Complex;
use tempfile::NamedTempFile;

use super::layout::{self, Part};
use super::leaf::Sink;
use super::model::Mdf;
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

    pub(super) fn datatype(self) -> Result<Datatype, FormatError> {
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

const DATA: &str = "/measurement/data";
const INDICES: &str = "/measurement/subsamplingIndices";

/// A file that is being written. It has no name until [`Writer::finish`]; one that is dropped before leaves nothing.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    overwrite: bool,
    out: BufWriter<NamedTempFile>,
    element: Option<ElementType>,
    missing: u64,
    missing_indices: u64,
    indices_start: u64,
    position: u64,
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
        let mut sink = Sink::default();
        mdf.store(&mut sink);
        let parts = parts(mdf, data, options.version)?;
        let (image, starts) = layout::image(path, sink, &parts, options.version)?;
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
        let elements = |at: usize| parts.get(at).and_then(Part::total).map_or(0, |(elements, _)| elements);
        Ok(Self {
            path: path.to_owned(),
            overwrite: options.overwrite,
            position: image.len() as u64,
            out,
            element: data.map(|data| data.element),
            missing: elements(0),
            missing_indices: elements(1),
            indices_start: starts.get(1).copied().unwrap_or(0),
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
        self.missing = left(DATA, self.missing, elements.len())?;
        for part in elements.chunks(BUFFER_BYTES / 16) {
            self.bytes.clear();
            part.iter().for_each(|element| element.put(&mut self.bytes));
            self.flush_part()?;
        }
        Ok(())
    }

    /// Appends indices of a sparse system matrix, from 1, last dimension fastest: B for each row, once the data are
    /// whole.
    ///
    /// # Errors
    ///
    /// Data are missing, the indices are more than fit, or they cannot be written.
    pub fn append_indices(&mut self, indices: &[i64]) -> Result<(), Error> {
        if self.missing > 0 {
            let found = format!("given with {} elements of the data missing", self.missing);
            return Err(unwritable(INDICES, found, "after the data".to_owned()));
        }
        self.missing_indices = left(INDICES, self.missing_indices, indices.len())?;
        // What is between the data and the next page.
        while self.position < self.indices_start {
            self.out.write_all(&[0]).map_err(|source| self.io(source))?;
            self.position += 1;
        }
        for part in indices.chunks(BUFFER_BYTES / 16) {
            self.bytes.clear();
            part.iter().for_each(|index| self.bytes.extend_from_slice(&index.to_le_bytes()));
            self.flush_part()?;
        }
        Ok(())
    }

    fn flush_part(&mut self) -> Result<(), Error> {
        self.out.write_all(&self.bytes).map_err(|source| self.io(source))?;
        self.position += self.bytes.len() as u64;
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
        if self.missing_indices > 0 {
            let found = format!("{} elements short", self.missing_indices);
            return Err(unwritable(INDICES, found, "whole".to_owned()));
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

/// How many elements are missing after `count` more.
fn left(path: &str, missing: u64, count: usize) -> Result<u64, Error> {
    let left = missing.checked_sub(count as u64);
    left.ok_or_else(|| unwritable(path, format!("{count} elements"), format!("the {missing} that are left")))
}

/// The large datasets of a model, in the order in which they are appended.
fn parts(mdf: &Mdf, data: Option<&DataShape>, version: Version) -> Result<Vec<Part>, Error> {
    let Some(data) = data else { return Ok(Vec::new()) };
    let build = |source: FormatError| Error::Build { path: PathBuf::from(DATA), source: source.into() };
    let datatype = data.element.datatype().map_err(build)?;
    let mut parts = vec![Part { path: DATA, shape: data.shape, datatype, size: data.element.size() }];
    let measurement = mdf.measurement.as_ref().filter(|all| all.is_sparsity_transformed == Some(true));
    if let Some(measurement) = measurement {
        let behind = measurement.is_background_frame.data.iter().filter(|flag| **flag != 0).count() as u64;
        let [j, c, k, row] = data.shape;
        let kept = row.checked_sub(behind).filter(|_| version == Version::V2_1_0);
        let kept = kept.ok_or_else(|| {
            let found = format!("of sparse rows of {row} with {behind} background frames");
            unwritable(DATA, found, "of version 2.1.0, with B+E elements a row".to_owned())
        })?;
        parts.push(Part { path: INDICES, shape: [j, c, k, kept], datatype: make_i64_type(), size: 8 });
    }
    Ok(parts)
}

pub(super) fn unwritable(dataset: &str, found: String, expected: String) -> Error {
    Error::Unwritable { dataset: dataset.to_owned(), found, expected }
}
