//! Paths on the host and paths inside a sandbox: two types, so that one is never used as the other.
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a string is not a path we accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    Relative(String),
    /// It has a `..` component, which means something else on each side of a symlink.
    Parent(String),
    /// It holds a NUL byte, which no system call can carry.
    Nul(String),
    /// It is not valid UTF-8, which JSON cannot carry; the string shows it with replacement characters.
    NotUtf8(String),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative(path) => write!(f, "`{path}` is not an absolute path"),
            Self::Parent(path) => write!(f, "`{path}` contains `..`"),
            Self::Nul(path) => write!(f, "`{}` contains a NUL byte", path.escape_default()),
            Self::NotUtf8(path) => write!(f, "`{path}` is not valid UTF-8"),
        }
    }
}

impl std::error::Error for PathError {}

/// Absolute, no `..`, no `.`, no doubled or trailing slash.
fn normalise(path: &str) -> Result<String, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative(path.to_owned()));
    }
    if path.contains('\0') {
        return Err(PathError::Nul(path.to_owned()));
    }
    let mut out = String::with_capacity(path.len());
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(PathError::Parent(path.to_owned())),
            part => {
                out.push('/');
                out.push_str(part);
            }
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

macro_rules! path_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Normalises `path`; an error if it is relative, contains `..` or a NUL.
            pub fn new(path: impl AsRef<str>) -> Result<Self, PathError> {
                normalise(path.as_ref()).map(Self)
            }

            /// The path as text, beginning with `/`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The path without its leading `/`, as the `*at` calls want it; `.` for the root.
            #[must_use]
            pub fn relative(&self) -> &str {
                if self.0 == "/" { "." } else { &self.0[1..] }
            }

            /// The components between the slashes.
            pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
                self.0.split('/').filter(|part| !part.is_empty())
            }

            /// The folder this path is in; `None` for the root.
            #[must_use]
            pub fn parent(&self) -> Option<Self> {
                let cut = self.0.rfind('/').filter(|_| self.0 != "/")?;
                Some(Self(if cut == 0 { "/".to_owned() } else { self.0[..cut].to_owned() }))
            }

            /// The last component; `None` for the root.
            #[must_use]
            pub fn name(&self) -> Option<&str> {
                self.components().next_back()
            }

            /// This path followed by `more`, which may have several components.
            pub fn join(&self, more: &str) -> Result<Self, PathError> {
                Self::new(format!("{}/{more}", self.0))
            }

            /// Whether this path is `above` or lies below it.
            #[must_use]
            pub fn is_within(&self, above: &Self) -> bool {
                above.0 == "/"
                    || self.0 == above.0
                    || (self.0.starts_with(&above.0) && self.0.as_bytes().get(above.0.len()) == Some(&b'/'))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = PathError;
            fn try_from(path: String) -> Result<Self, PathError> {
                Self::new(path)
            }
        }

        impl TryFrom<&std::path::Path> for $name {
            type Error = PathError;
            fn try_from(path: &std::path::Path) -> Result<Self, PathError> {
                let text = path.to_str().ok_or_else(|| PathError::NotUtf8(path.to_string_lossy().into_owned()))?;
                Self::new(text)
            }
        }
    };
}

path_type! {
    /// A path on the host. The shim opens it without following any symlink, so whoever makes one from
    /// something a person typed resolves it first.
    HostPath
}
path_type! {
    /// A path as the tool sees it. The shim resolves it below the new root and never outside.
    InsidePath
}

impl AsRef<std::path::Path> for HostPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (given, kept) in [("/", "/"), ("//", "/"), ("/a//b/./c/", "/a/b/c"), ("/a", "/a")] {
            assert_eq!(InsidePath::new(given).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn paths_that_could_surprise_are_refused() {
        assert!(matches!(InsidePath::new("a/b"), Err(PathError::Relative(_))));
        assert!(matches!(InsidePath::new(""), Err(PathError::Relative(_))));
        assert!(matches!(InsidePath::new("/a/../b"), Err(PathError::Parent(_))));
        assert!(matches!(HostPath::new("/a\0b"), Err(PathError::Nul(_))));
    }

    #[test]
    fn within_compares_components_not_letters() {
        let path = |text| HostPath::new(text).unwrap();
        assert!(path("/run/hatchway/x").is_within(&path("/run/hatchway")));
        assert!(path("/run/hatchway").is_within(&path("/run/hatchway")));
        assert!(path("/x").is_within(&path("/")));
        assert!(!path("/run/hatchway-other").is_within(&path("/run/hatchway")));
        assert!(!path("/run").is_within(&path("/run/hatchway")));
    }

    #[test]
    fn parents_and_names() {
        let path = InsidePath::new("/a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.parent().unwrap().parent().unwrap().as_str(), "/");
        assert_eq!(InsidePath::new("/").unwrap().parent(), None);
        assert_eq!(path.name(), Some("b"));
        assert_eq!(path.relative(), "a/b");
    }

    #[test]
    fn json_cannot_smuggle_a_relative_path() {
        assert!(serde_json::from_str::<InsidePath>("\"../etc\"").is_err());
        assert!(serde_json::from_str::<HostPath>("\"/etc/../etc\"").is_err());
    }
}
