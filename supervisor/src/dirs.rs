//! Where things are on this host.

use std::path::{Path, PathBuf};

/// The folders of one user, or of the system for root.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Store, state, generations.
    pub data: PathBuf,
    /// What can be made anew: parsed indices, facts.
    pub cache: PathBuf,
    /// Unit folders.
    pub runtime: PathBuf,
    /// `hatchway.toml`, the system's first.
    pub config: Vec<PathBuf>,
}

impl Dirs {
    /// The folders by the rules of the design: `XDG_*` where set; for root `/var/lib`, `/var/cache`, `/run`; else
    /// below the home folder.
    #[must_use]
    pub fn discover() -> Self {
        Self::from(&|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from), is_root())
    }

    fn from(variable: &dyn Fn(&str) -> Option<PathBuf>, root: bool) -> Self {
        let home = variable("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let below = |xdg: &str, system: &str, user: &str| match variable(xdg) {
            Some(folder) => folder.join("hatchway"),
            None if root => Path::new(system).join("hatchway"),
            None => home.join(user).join("hatchway"),
        };
        let data = variable("HATCHWAY_DATA_DIR")
            .unwrap_or_else(|| below("XDG_DATA_HOME", "/var/lib", ".local/share"));
        let runtime = match variable("XDG_RUNTIME_DIR") {
            Some(folder) if !root => folder.join("hatchway"),
            _ if root && data.starts_with("/var/lib") => PathBuf::from("/run/hatchway"),
            // Without a runtime folder of the session, unit folders live beside the store.
            _ => data.join("run"),
        };
        let user_config = match variable("XDG_CONFIG_HOME") {
            Some(folder) => folder.join("hatchway/hatchway.toml"),
            None => home.join(".config/hatchway/hatchway.toml"),
        };
        let cache = below("XDG_CACHE_HOME", "/var/cache", ".cache");
        Self { data, cache, runtime, config: vec![PathBuf::from("/etc/hatchway/hatchway.toml"), user_config] }
    }

    /// Where recipes are, beside the working folder's `recipes`.
    #[must_use]
    pub fn recipes(&self) -> Vec<PathBuf> {
        vec![self.data.join("recipes"), "/etc/hatchway/recipes".into(), "/usr/share/hatchway/recipes".into()]
    }

    /// The recipes that `hatchway run FILE` writes.
    #[must_use]
    pub fn own_recipes(&self) -> PathBuf {
        self.data.join("recipes")
    }

    /// The store's root.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// A tool's state.
    #[must_use]
    pub fn state(&self, tool: &str) -> PathBuf {
        self.data.join("state").join(tool)
    }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The names of what is in a folder, in order; none where it is not there.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_uses_the_systems_folders_and_users_their_own() {
        let none = |_: &str| None;
        assert_eq!(Dirs::from(&none, true).data, Path::new("/var/lib/hatchway"));
        assert_eq!(Dirs::from(&none, true).runtime, Path::new("/run/hatchway"));
        let user = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
            _ => None,
        };
        assert_eq!(Dirs::from(&user, false).data, Path::new("/home/u/.local/share/hatchway"));
        assert_eq!(Dirs::from(&user, false).runtime, Path::new("/run/user/7/hatchway"));
        let set = |name: &str| (name == "XDG_DATA_HOME").then(|| PathBuf::from("/d"));
        assert_eq!(Dirs::from(&set, true).data, Path::new("/d/hatchway"));
        assert_eq!(Dirs::from(&set, true).runtime, Path::new("/d/hatchway/run"));
    }
}
