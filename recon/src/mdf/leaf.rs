//! Between fields of the model and datasets of a file: one implementation per type.

use std::cell::RefCell;

use num_complex::Complex;

use super::check::Finding;
use super::fields::{self, Dim};
use super::model::Array;
use super::stored::{Stored, shape_name};
use super::{File, fields::Field};
use crate::Error;

/// A file that is read, and what was noticed meanwhile.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    file: &'f File,
    findings: RefCell<Vec<Finding>>,
}

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f File) -> Self {
        Self { file, findings: RefCell::default() }
    }

    pub(super) fn file(&self) -> &'f File {
        self.file
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }

    /// The dataset of a field. `None` if it only describes, and is missing: files of instruments lack a name or a UUID
    /// now and then, and what was measured can be understood without.
    fn described(&self, path: &str) -> Result<Option<Stored<'f>>, Error> {
        let describes =
            ["/study/", "/experiment/", "/tracer/", "/scanner/"].iter().any(|group| path.starts_with(group));
        if !describes && !matches!(path, "/time" | "/uuid" | "/version") {
            return self.file.get(path).map(Some);
        }
        let found = self.file.find(path)?;
        if found.is_none() {
            let expected = fields::find(path).map_or("a value", |field| field.kind.name());
            self.findings.borrow_mut().push(Finding::violation(path, "missing", expected));
        }
        Ok(found)
    }

    /// The dataset of a scalar; one element in an array is taken for it.
    fn scalar(&self, path: &str) -> Result<Option<Stored<'f>>, Error> {
        let Some(stored) = self.described(path)? else { return Ok(None) };
        if stored.elements() != 1 {
            return Err(stored.unexpected(format!("an array {}", shape_name(stored.shape())), "a scalar"));
        }
        if !stored.shape().is_empty() {
            let found = format!("an array {}", shape_name(stored.shape()));
            self.findings.borrow_mut().push(Finding::warning(path, found, "a scalar"));
        }
        Ok(Some(stored))
    }

    /// The dataset of an array and its shape; a scalar is taken for an array of one element.
    fn array(&self, path: &str) -> Result<Option<(Stored<'f>, Vec<usize>)>, Error> {
        let Some(stored) = self.described(path)? else { return Ok(None) };
        let shapes = fields::find(path).map_or(&[][..], |field| field.shapes);
        let rank = stored.shape().len();
        let expected =
            || shapes.iter().map(|shape| Field::shape_name(shape)).collect::<Vec<_>>().join(" or ");
        if rank == 0
            && let Some(shape) = shapes.first()
        {
            self.findings.borrow_mut().push(Finding::warning(path, "a scalar".to_owned(), expected()));
            return Ok(Some((stored, vec![1; shape.len()])));
        }
        if !shapes.iter().any(|shape: &&[Dim]| shape.len() == rank) {
            return Err(stored.unexpected(format!("an array {}", shape_name(stored.shape())), expected()));
        }
        // Every length is at most the number of elements, whose bytes were compared with the file's.
        let shape: Vec<_> =
            stored.shape().iter().map(|length| usize::try_from(*length).unwrap_or(usize::MAX)).collect();
        Ok(Some((stored, shape)))
    }
}

/// A value on its way into a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(Vec<String>),
    Flag(Vec<i64>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Complex(Vec<Complex<f64>>),
}

impl Value {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(all) => all.len(),
            Self::Flag(all) | Self::Int(all) => all.len(),
            Self::Float(all) => all.len(),
            Self::Complex(all) => all.len(),
        }
    }
}

/// The values of a model by path, each with its shape.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) values: Vec<(String, Vec<usize>, Value)>,
}

impl Sink {
    pub(super) fn put(&mut self, path: &str, shape: &[usize], value: Value) {
        self.values.push((path.to_owned(), shape.to_vec(), value));
    }

    /// Integers, in the type that the table has for the path.
    fn put_integers(&mut self, path: &str, shape: &[usize], all: Vec<i64>) {
        let flag = fields::find(path).is_some_and(|field| field.kind == fields::Type::Flag);
        self.put(path, shape, if flag { Value::Flag(all) } else { Value::Int(all) });
    }
}

/// A type that a field of the model can have.
pub(super) trait Leaf: Sized {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error>;
    fn store(&self, sink: &mut Sink, path: &str);
}

/// The one element of a scalar; [`Reader::scalar`] has counted.
fn only<T: Default>(all: Vec<T>) -> T {
    all.into_iter().next().unwrap_or_default()
}

impl Leaf for String {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
        reader.scalar(path)?.map_or(Ok(Self::new()), |stored| stored.texts().map(only))
    }

    fn store(&self, sink: &mut Sink, path: &str) {
        sink.put(path, &[], Value::Text(vec![self.clone()]));
    }
}

impl Leaf for i64 {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
        reader.scalar(path)?.map_or(Ok(0), |stored| stored.integers().map(only))
    }

    fn store(&self, sink: &mut Sink, path: &str) {
        sink.put_integers(path, &[], vec![*self]);
    }
}

impl Leaf for bool {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
        let Some(stored) = reader.scalar(path)? else { return Ok(false) };
        match only(stored.integers()?) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(stored.unexpected(other.to_string(), "0 or 1")),
        }
    }

    fn store(&self, sink: &mut Sink, path: &str) {
        sink.put(path, &[], Value::Flag(vec![(*self).into()]));
    }
}

impl Leaf for f64 {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
        reader.scalar(path)?.map_or(Ok(0.0), |stored| stored.floats().map(only))
    }

    fn store(&self, sink: &mut Sink, path: &str) {
        sink.put(path, &[], Value::Float(vec![*self]));
    }
}

macro_rules! array {
    ($kind:ty, $read:ident, $store:expr) => {
        impl Leaf for Array<$kind> {
            fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
                let Some((stored, shape)) = reader.array(path)? else { return Ok(Self::default()) };
                Ok(Self { shape, data: stored.$read()? })
            }

            fn store(&self, sink: &mut Sink, path: &str) {
                // What was missing stays so.
                if !self.shape.is_empty() {
                    $store(sink, path, self);
                }
            }
        }
    };
}

array!(String, texts, |sink: &mut Sink, path, array: &Self| sink.put(
    path,
    &array.shape,
    Value::Text(array.data.clone())
));
array!(i64, integers, |sink: &mut Sink, path, array: &Self| sink.put_integers(
    path,
    &array.shape,
    array.data.clone()
));
array!(f64, floats, |sink: &mut Sink, path, array: &Self| sink.put(
    path,
    &array.shape,
    Value::Float(array.data.clone())
));
array!(Complex<f64>, complexes, |sink: &mut Sink, path, array: &Self| sink.put(
    path,
    &array.shape,
    Value::Complex(array.data.clone())
));

impl<T: Leaf> Leaf for Option<T> {
    fn load(reader: &Reader<'_>, path: &str) -> Result<Self, Error> {
        if reader.file.find(path)?.is_some() { T::load(reader, path).map(Some) } else { Ok(None) }
    }

    fn store(&self, sink: &mut Sink, path: &str) {
        if let Some(value) = self {
            value.store(sink, path);
        }
    }
}
