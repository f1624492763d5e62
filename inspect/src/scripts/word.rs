//! Words of a shell, and what is known of their values without running anything.

use std::collections::BTreeMap;

/// Bytes an expanded word may have: paths are no longer than that (`PATH_MAX`).
const EXPANDED: usize = 4096;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// What stands there, quotes and escapes removed.
    Text(String),
    /// `$NAME` or `${NAME}`.
    Variable(String),
    /// What only a shell that runs could tell: `$(…)`, `${NAME%.*}`, `$1`.
    Opaque,
}

/// One word, and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) pieces: Vec<Piece>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether any of it is quoted or escaped; a quoted `if` is no control word.
    pub(super) quoted: bool,
}

/// Variables with one value in the whole script; `None` for those with several.
pub(super) type Variables = BTreeMap<String, Option<String>>;

impl Word {
    /// A word of which everything is known.
    pub(super) fn literal(text: &str) -> Self {
        Self { pieces: vec![Piece::Text(text.to_owned())], ..Self::default() }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// The word, if it is one of plain letters without quotes.
    pub(super) fn bare(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }

    /// Its value, as far as that is known.
    pub(super) fn value(&self, variables: &Variables) -> Option<String> {
        self.value_from(0, variables)
    }

    fn value_from(&self, skipped: usize, variables: &Variables) -> Option<String> {
        let mut value = String::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) if index == 0 => value.push_str(text.get(skipped..)?),
                Piece::Text(text) => value.push_str(text),
                Piece::Variable(name) => value.push_str(variables.get(name)?.as_deref()?),
                Piece::Opaque => return None,
            }
            if value.len() > EXPANDED {
                return None;
            }
        }
        Some(value)
    }

    /// The name of an assignment `NAME=value` or `NAME+=value`.
    pub(super) fn assigned(&self) -> Option<&str> {
        let Some(Piece::Text(text)) = self.pieces.first() else { return None };
        let (name, _) = text.split_once('=')?;
        let name = name.strip_suffix('+').unwrap_or(name);
        is_name(name).then_some(name)
    }

    /// The value of an assignment.
    pub(super) fn assigned_value(&self, variables: &Variables) -> Option<String> {
        let Some(Piece::Text(text)) = self.pieces.first() else { return None };
        let at = text.find('=')?;
        if text.get(..at)?.ends_with('+') {
            return None;
        }
        self.value_from(at.checked_add(1)?, variables)
    }
}

/// A name as POSIX.1-2017 (Base Definitions, 3.235) defines it.
pub(super) fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
