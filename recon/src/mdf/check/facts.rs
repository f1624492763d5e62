//! The fields that a file has, each compared with the table, and the values of all but the data.

use std::collections::HashMap;

use super::Finding;
use crate::Error;
use crate::mdf::fields::{Dim, FIELDS, Field, GROUPS, Need, Type};
use crate::mdf::leaf::Value;
use crate::mdf::stored::{Stored, shape_name};
use crate::mdf::tree::cause;
use crate::mdf::value::{Kind, Number, Numeric};
use crate::mdf::{File, Storage};

/// Fields that are read in parts and not as a whole.
pub(super) const PARTS: [&str; 3] =
    ["/measurement/data", "/measurement/subsamplingIndices", "/reconstruction/data"];

/// A field that a file has.
#[derive(Debug)]
pub(super) struct Seen<'f> {
    pub(super) field: &'static Field,
    pub(super) stored: Stored<'f>,
}

/// The fields of a file.
#[derive(Debug)]
pub(super) struct Facts<'f> {
    pub(super) seen: Vec<Seen<'f>>,
    values: HashMap<&'static str, Value>,
}

impl<'f> Facts<'f> {
    /// Looks for every field of the table, and compares its type and its rank.
    pub(super) fn load(file: &'f File, findings: &mut Vec<Finding>) -> Self {
        let mut facts = Self { seen: Vec::new(), values: HashMap::new() };
        let mut missing = Vec::new();
        for group in GROUPS {
            if !file.has_group(group.path) {
                if group.mandatory {
                    findings.push(Finding::violation(group.path, "missing", "this group in every file"));
                }
                continue;
            }
            for field in FIELDS.iter().filter(|field| field.group() == group.path) {
                match file.find(field.path) {
                    Ok(Some(stored)) => facts.add(field, stored, findings),
                    Ok(None) => missing.push(field),
                    Err(error) => findings.push(unreadable(field.path, &error)),
                }
            }
        }
        facts.report_missing(&missing, findings);
        facts
    }

    fn add(&mut self, field: &'static Field, stored: Stored<'f>, findings: &mut Vec<Finding>) {
        let typed = check_type(field, stored.kind(), findings);
        if typed && !PARTS.contains(&field.path) && field.need != Need::Extension {
            let value = match stored.kind() {
                Kind::Text { .. } => stored.texts().map(Value::Text),
                Kind::Numeric(numeric) if numeric.is_complex() => stored.complexes().map(Value::Complex),
                Kind::Numeric(numeric) if numeric.number.is_integer() => stored.integers().map(Value::Int),
                _ => stored.floats().map(Value::Float),
            };
            match value {
                Ok(value) => drop(self.values.insert(field.path, value)),
                Err(error) => findings.push(unreadable(field.path, &error)),
            }
        }
        if typed {
            self.seen.push(Seen { field, stored });
        }
    }

    fn report_missing(&self, missing: &[&'static Field], findings: &mut Vec<Finding>) {
        let version = self.text("/version").unwrap_or("2.1.0").to_owned();
        for field in missing {
            let expected = match field.need {
                Need::Mandatory if field.is_in(&version) => {
                    format!("{}, in every `{}`", field.kind.name(), name(field))
                }
                Need::When(flag) if self.flag(flag) == Some(true) => {
                    format!("{}, as {flag} is 1", field.kind.name())
                }
                _ => continue,
            };
            findings.push(Finding::violation(field.path, "missing", expected));
        }
    }

    pub(super) fn stored(&self, path: &str) -> Option<&Stored<'f>> {
        self.seen.iter().find(|seen| seen.field.path == path).map(|seen| &seen.stored)
    }

    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        self.values.get(path)
    }

    pub(super) fn texts(&self, path: &str) -> Option<&[String]> {
        if let Some(Value::Text(all)) = self.value(path) { Some(all) } else { None }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts(path).and_then(<[String]>::first).map(String::as_str)
    }

    pub(super) fn ints(&self, path: &str) -> Option<&[i64]> {
        if let Some(Value::Int(all)) = self.value(path) { Some(all) } else { None }
    }

    pub(super) fn int(&self, path: &str) -> Option<i64> {
        self.ints(path).and_then(<[i64]>::first).copied()
    }

    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        self.int(path).map(|value| value != 0)
    }

    /// Numbers as floats, whether they are stored as floats or as integers.
    #[expect(clippy::cast_precision_loss, reason = "sizes and frequencies are far below 2^53")]
    pub(super) fn floats(&self, path: &str) -> Option<Vec<f64>> {
        match self.value(path)? {
            Value::Float(all) => Some(all.clone()),
            Value::Int(all) => Some(all.iter().map(|value| *value as f64).collect()),
            _ => None,
        }
    }

    pub(super) fn float(&self, path: &str) -> Option<f64> {
        self.floats(path).and_then(|all| all.first().copied())
    }
}

fn name(field: &Field) -> &'static str {
    if field.group().is_empty() { "/" } else { field.group() }
}

/// A field that is there, but of no use.
pub(super) fn unreadable(path: &str, error: &Error) -> Finding {
    match error {
        Error::TooLarge { claimed, limit, .. } => {
            Finding::violation(path, format!("claims {claimed}"), limit)
        }
        Error::Unexpected { found, expected, .. } => Finding::violation(path, found, expected),
        _ => {
            let hint = error.hints().into_iter().next().unwrap_or_else(|| "readable".to_owned());
            Finding::violation(path, format!("cannot be read: {}", cause(error)), hint)
        }
    }
}

/// Compares types. Whether values can be used.
fn check_type(field: &Field, kind: &Kind, findings: &mut Vec<Finding>) -> bool {
    let expected = field.kind.name();
    let Some(fit) = fit(field.kind, kind) else {
        findings.push(Finding::violation(field.path, kind.name(), expected));
        return false;
    };
    let big = matches!(kind, Kind::Numeric(Numeric { big_endian: true, .. }));
    if !fit || big {
        let order = match (fit, big) {
            (_, true) => ", little-endian",
            // No other type is meant where any number may be.
            (false, false) if matches!(field.kind, Type::Number | Type::Integer) => " with a sign",
            _ => "",
        };
        findings.push(Finding::warning(field.path, kind.name(), format!("{expected}{order}")));
    }
    true
}

/// `Some(true)` for the type itself, `Some(false)` for another one that can stand for it.
fn fit(kind: Type, found: &Kind) -> Option<bool> {
    let numeric = match (kind, found) {
        (Type::Text | Type::Uuid | Type::Time, Kind::Text { .. }) => return Some(true),
        (Type::Text | Type::Uuid | Type::Time, _) => return None,
        (_, Kind::Numeric(numeric)) => numeric,
        _ => return None,
    };
    let signed = !matches!(numeric.number, Number::Unsigned(_)) && !numeric.enumeration;
    match kind {
        Type::Number => return Some(signed),
        Type::Complex128 => return numeric.is_complex().then_some(numeric.number == Number::F64),
        _ if numeric.is_complex() => return None,
        Type::Float64 => return Some(numeric.number == Number::F64),
        _ if !numeric.number.is_integer() => return None,
        _ => {}
    }
    Some(match kind {
        Type::Flag => numeric.number == Number::Int(1) && signed,
        Type::Int64 => numeric.number == Number::Int(8),
        _ => signed,
    })
}

/// The shape in letters that a dataset should have, given its rank. Reports it if there is none.
pub(super) fn check_shape(
    seen: &Seen<'_>,
    shapes: &[&'static [Dim]],
    findings: &mut Vec<Finding>,
) -> Option<&'static [Dim]> {
    let shape = seen.stored.shape();
    let expected = || shapes.iter().map(|shape| Field::shape_name(shape)).collect::<Vec<_>>().join(" or ");
    let fixed = |dim: Dim| match dim {
        Dim::Two => Some(2),
        Dim::Three => Some(3),
        _ => None,
    };
    let fits = |dims: &&&'static [Dim]| {
        dims.len() == shape.len()
            && dims.iter().zip(shape).all(|(dim, length)| fixed(*dim).is_none_or(|n| n == *length))
    };
    if let Some(dims) = shapes.iter().find(fits) {
        return Some(dims);
    }
    let found =
        if shape.is_empty() { shape_name(shape) } else { format!("an array of {}", shape_name(shape)) };
    // Readers disagree about one element: a scalar, or an array of it.
    let severe = if seen.stored.elements() == 1 { Finding::warning } else { Finding::violation };
    findings.push(severe(seen.field.path, found, expected()));
    None
}

/// What MPIFiles.jl cannot map into memory, for which it gives up.
pub(super) fn check_storage(stored: &Stored<'_>, findings: &mut Vec<Finding>) {
    if !matches!(stored.storage(), Storage::Contiguous(_)) {
        let expected = "contiguous; MPIFiles.jl opens nothing else";
        findings.push(Finding::warning(stored.path(), stored.storage().name(), expected));
    }
}
