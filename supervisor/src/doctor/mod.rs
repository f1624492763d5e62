//! What this host offers to each rung, found out by trying. Only what cannot be tried without changing the host is read
//! from `/proc` and `/sys`, through [`Look`], so that tests can show another host.

mod graphics;
mod instrument;
mod kernel;
mod machine;
mod resources;
mod storage;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dirs::Dirs;

/// How well something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Works,
    /// There is less than there could be, or nobody can tell.
    Less,
    /// It is not there.
    Missing,
}

/// For whom something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum For {
    /// The `fhs` rung: without it, this version runs nothing.
    Fhs,
    /// Recipes that ask for it.
    Recipes,
    /// The `container` rung.
    Container,
    /// The `vm` rung.
    Vm,
    /// The store.
    Store,
    /// The instrument that is carried out: its units, and what is bound to them.
    Instrument,
}

impl For {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Fhs, Self::Recipes, Self::Store, Self::Instrument, Self::Container, Self::Vm];

    /// The heading.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Fhs => "fhs rung",
            Self::Recipes => "what recipes may ask for",
            Self::Store => "store",
            Self::Instrument => "instrument",
            Self::Container => "container rung",
            Self::Vm => "vm rung",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// For whom it counts.
    #[serde(rename = "for")]
    pub whom: For,
    /// What it is.
    pub name: Cow<'static, str>,
    /// How well it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What its lack means; empty where nothing lacks.
    pub means: String,
    /// The command or the setting that mends it; empty where nothing lacks.
    pub fix: String,
}

impl Check {
    fn works(whom: For, name: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        let (means, fix) = Default::default();
        let name = name.into();
        Self { whom, name, state: State::Works, found: found.into(), means, fix }
    }

    fn lacks(
        whom: For,
        name: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
        means: &str,
        fix: impl Into<String>,
    ) -> Self {
        let (name, found, fix) = (name.into(), found.into(), fix.into());
        Self { whom, name, state: State::Missing, found, means: means.to_owned(), fix }
    }

    /// The rest is there.
    fn less(self) -> Self {
        Self { state: State::Less, ..self }
    }
}

/// A host's `/proc` and `/sys`.
#[derive(Debug, Clone)]
pub struct Look {
    root: PathBuf,
}

impl Look {
    /// This host's.
    #[must_use]
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// Another one's, below a folder.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A file's text, without blanks around it; empty where there is none.
    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default().trim().to_owned()
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// Looks at everything; the graphics driver is in a folder of its own on some hosts.
#[must_use]
pub fn examine(look: &Look, dirs: &Dirs, driver_root: &Path) -> Vec<Check> {
    let mut checks = kernel::checks(look);
    checks.extend(resources::checks(look));
    checks.push(graphics::check(driver_root));
    checks.extend(machine::checks(look));
    checks.extend(storage::checks(look, dirs));
    checks.extend(instrument::checks(dirs));
    checks.sort_by_key(|check| For::ALL.iter().position(|whom| *whom == check.whom));
    checks
}

pub use instrument::needs_somebody;

/// Whether this version can do its work here: nothing that the `fhs` rung or the store needs is missing.
#[must_use]
pub fn is_fit(checks: &[Check]) -> bool {
    !checks.iter().any(|check| matches!(check.whom, For::Fhs | For::Store) && check.state == State::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_version_has_makes_a_host_unfit() {
        let lack = |whom| vec![Check::lacks(whom, "x", "", "", "")];
        assert!(!is_fit(&lack(For::Fhs)) && !is_fit(&lack(For::Store)));
        assert!(is_fit(&lack(For::Vm)) && is_fit(&lack(For::Container)) && is_fit(&lack(For::Recipes)));
        assert!(is_fit(&[lack(For::Fhs).remove(0).less()]));
    }

    #[test]
    fn this_host_gives_an_answer_to_everything() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs {
            data: folder.path().join("data"),
            cache: folder.path().join("cache"),
            runtime: folder.path().join("run"),
            config: Vec::new(),
        };
        let checks = examine(&Look::here(), &dirs, Path::new("/"));
        // Nothing is carried out there.
        for whom in For::ALL.into_iter().filter(|whom| *whom != For::Instrument) {
            assert!(checks.iter().any(|check| check.whom == whom), "{whom:?}");
        }
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(check.state == State::Works, check.fix.is_empty(), "{check:?}");
            assert_eq!(check.means.is_empty(), check.fix.is_empty(), "{check:?}");
        }
        // Looking leaves nothing behind.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
