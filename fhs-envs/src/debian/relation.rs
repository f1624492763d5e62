//! Relations between packages (`Depends: a (>= 1) | b, c`), as Debian Policy 7.1 defines them.

use std::cmp::Ordering;
use std::fmt;

use super::version;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `<<`
    Less,
    /// `<=`
    LessEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterEqual,
    /// `>>`
    Greater,
}

impl Operator {
    /// Whether `version` stands in this relation to `wanted`.
    #[must_use]
    pub fn holds(self, version: &str, wanted: &str) -> bool {
        let order = version::compare(version, wanted);
        match self {
            Self::Less => order == Ordering::Less,
            Self::LessEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::GreaterEqual => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<<",
            Self::LessEqual => "<=",
            Self::Equal => "=",
            Self::GreaterEqual => ">=",
            Self::Greater => ">>",
        })
    }
}

/// Of which architecture a package must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Qualifier {
    /// That of the package that asks, or any where the other is `Multi-Arch: foreign`.
    #[default]
    Own,
    /// `:any`: every architecture, where the other is `Multi-Arch: allowed`.
    Any,
    /// `:i386`
    Of(String),
}

/// One package with an optional version constraint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The package's name.
    pub name: String,
    /// What stands behind a colon after the name.
    pub qualifier: Qualifier,
    /// The constraint on its version.
    pub constraint: Option<(Operator, String)>,
}

impl Relation {
    /// Any version of a package.
    #[must_use]
    pub fn any(name: &str) -> Self {
        Self { name: name.to_owned(), qualifier: Qualifier::Own, constraint: None }
    }

    /// Whether a version of that name satisfies the constraint.
    #[must_use]
    pub fn matches(&self, version: &str) -> bool {
        self.constraint.as_ref().is_none_or(|(operator, wanted)| operator.holds(version, wanted))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.qualifier {
            Qualifier::Own => {}
            Qualifier::Any => f.write_str(":any")?,
            Qualifier::Of(architecture) => write!(f, ":{architecture}")?,
        }
        match &self.constraint {
            None => Ok(()),
            Some((operator, version)) => write!(f, " ({operator} {version})"),
        }
    }
}

/// A field that is not a relation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a package relation")]
pub struct BadRelation(pub String);

/// Alternatives, of which one suffices.
pub type Alternatives = Vec<Relation>;

/// Parses a whole field. Alternatives for another architecture than `architecture` are left out.
///
/// # Errors
/// When a part is not a relation.
pub fn parse(field: &str, architecture: &str) -> Result<Vec<Alternatives>, BadRelation> {
    let mut all = Vec::new();
    for group in field.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for text in group.split('|') {
            if let Some(relation) = parse_one(text.trim(), architecture)? {
                alternatives.push(relation);
            }
        }
        if !alternatives.is_empty() {
            all.push(alternatives);
        }
    }
    Ok(all)
}

fn parse_one(text: &str, architecture: &str) -> Result<Option<Relation>, BadRelation> {
    let bad = || BadRelation(text.to_owned());
    let end = text.find([' ', '(', '[', '<', '\t', '\n']).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let (name, qualifier) = name.split_once(':').unwrap_or((name, "own"));
    let valid = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if [name, qualifier].iter().any(|word| word.is_empty() || !word.chars().all(valid)) {
        return Err(bad());
    }
    let qualifier = match qualifier {
        "own" => Qualifier::Own,
        "any" => Qualifier::Any,
        other => Qualifier::Of(other.to_owned()),
    };
    let mut constraint = None;
    rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('(') {
        let (inner, after) = inner.split_once(')').ok_or_else(bad)?;
        constraint = Some(parse_constraint(inner.trim()).ok_or_else(bad)?);
        rest = after.trim_start();
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let (list, _) = inner.split_once(']').ok_or_else(bad)?;
        let negated = list.trim_start().starts_with('!');
        let listed = list.split_whitespace().any(|a| a.trim_start_matches('!') == architecture);
        if listed == negated {
            return Ok(None);
        }
    }
    Ok(Some(Relation { name: name.to_owned(), qualifier, constraint }))
}

fn parse_constraint(text: &str) -> Option<(Operator, String)> {
    let end = text.find(|c| !"<>=".contains(c))?;
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Less,
        "<=" | "<" => Operator::LessEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::GreaterEqual,
        ">>" => Operator::Greater,
        _ => return None,
    };
    let version = version.trim();
    (!version.is_empty() && !version.contains(char::is_whitespace)).then(|| (operator, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_policy_says() {
        let field = "libc6 (>= 2.34), libssl3:amd64 (>= 3.0~) | libssl1.1, x [i386], y [!i386],\n z:any";
        let shown: Vec<String> = parse(field, "amd64")
            .unwrap()
            .iter()
            .map(|g| g.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
            .collect();
        assert_eq!(shown, ["libc6 (>= 2.34)", "libssl3:amd64 (>= 3.0~) | libssl1.1", "y", "z:any"]);
    }

    #[test]
    fn broken_fields_are_refused() {
        for field in
            ["(>= 1)", "a:", ":i386", "a:b:c", "a (~ 1)", "a (>= )", "a (>= 1", "a_b", "${misc:Depends}"]
        {
            assert!(parse(field, "amd64").is_err(), "{field}");
        }
    }

    #[test]
    fn constraints_hold() {
        let relation = &parse("a (<< 2.0)", "amd64").unwrap()[0][0];
        assert!(relation.matches("2.0~rc1"));
        assert!(!relation.matches("2.0"));
    }
}
