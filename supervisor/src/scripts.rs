//! The interpreter of a script that is a vendor's whole file. A package's scripts have their package's `Depends`; this one
//! has nothing but its first line.

use hatchway_envs::choose::Asked;
use hatchway_envs::debian::relation::Relation;
use hatchway_envs::resolve::Group;
use hatchway_inspect::{Facts, ProgramKind};

use crate::recipe::Architecture;

/// Interpreters by their name, and Debian's packages of them. Shells of the base are not here.
const INTERPRETERS: [(&str, &str); 15] = [
    ("perl", "perl"),
    ("python3", "python3"),
    ("python", "python-is-python3"),
    ("tclsh", "tcl"),
    ("wish", "tk"),
    ("expect", "expect"),
    ("ruby", "ruby"),
    ("gawk", "gawk"),
    ("tcsh", "tcsh"),
    ("csh", "csh"),
    ("ksh", "ksh93u+m"),
    ("zsh", "zsh"),
    ("node", "nodejs"),
    ("php", "php-cli"),
    ("Rscript", "r-base-core"),
];
/// Folders in which Debian has interpreters; a script that names another place has its own there.
const FOLDERS: [&str; 3] = ["/bin", "/usr/bin", "/usr/local/bin"];

/// Interpreters of lone scripts, as packages of Debian.
pub(crate) fn depends(all: &[&Facts]) -> Vec<Asked> {
    let lone = all.iter().filter(|facts| facts.artifact.format == "script");
    let lines = lone.flat_map(|facts| {
        facts.programs.iter().filter_map(|program| match &program.kind {
            ProgramKind::Script { interpreter } => Some((facts.artifact.file.as_str(), interpreter.as_str())),
            _ => None,
        })
    });
    let found = lines.filter_map(|(file, line)| Some((file, package(line)?)));
    found
        .map(|(file, package)| Asked {
            whose: file.to_owned(),
            group: Group {
                architecture: Architecture::Amd64.name().to_owned(),
                alternatives: vec![Relation::any(package)],
            },
        })
        .collect()
}

/// `/usr/bin/perl -w`, `/usr/bin/env -S python3 -u`: the package of the interpreter.
fn package(line: &str) -> Option<&'static str> {
    Line::of(line).filter(Line::is_usual).and_then(|line| package_of(line.name()))
}

/// Debian's package of an interpreter, by its name.
pub(crate) fn package_of(name: &str) -> Option<&'static str> {
    INTERPRETERS.iter().find(|(known, _)| *known == name).map(|(_, package)| *package)
}

/// The first line of a script, without `#!`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What the kernel starts.
    pub(crate) path: String,
    /// What `env` is to look for, where it is that.
    pub(crate) by_env: Option<String>,
}

impl Line {
    pub(crate) fn of(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let path = words.next().filter(|path| path.contains('/'))?.to_owned();
        if path.rsplit('/').next() != Some("env") {
            return Some(Self { path, by_env: None });
        }
        // Its options, and variables that it sets.
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        Some(Self { path, by_env: Some(name.to_owned()) })
    }

    /// With the carriage return that ends a line of DOS, where it stands behind the name: for the kernel and for `env` it
    /// belongs to it.
    pub(crate) fn with_return_of(mut self, line: &str) -> Self {
        let line = line.strip_suffix('\r').filter(|line| !line.ends_with([' ', '\t']));
        let last = line.and_then(|line| line.split_whitespace().next_back());
        let name = self.by_env.as_mut().unwrap_or(&mut self.path);
        if last == Some(name.as_str()) {
            name.push('\r');
        }
        self
    }

    /// The interpreter, without its folder.
    pub(crate) fn name(&self) -> &str {
        let name = self.by_env.as_deref().unwrap_or(&self.path);
        name.rsplit('/').next().unwrap_or(name)
    }

    /// Whether it is where Debian has interpreters.
    pub(crate) fn is_usual(&self) -> bool {
        self.path.rsplit_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder))
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, package};

    #[test]
    fn a_carriage_return_belongs_to_the_name_it_stands_behind() {
        for (line, path, by_env) in [
            ("/bin/sh\r", "/bin/sh\r", None),
            ("/bin/sh -e\r", "/bin/sh", None),
            ("/usr/bin/env python3\r", "/usr/bin/env", Some("python3\r")),
            ("/usr/bin/env -S python3 -u\r", "/usr/bin/env", Some("python3")),
            ("/bin/sh \r", "/bin/sh", None),
            ("/bin/sh", "/bin/sh", None),
        ] {
            let found = Line::of(line).unwrap().with_return_of(line);
            assert_eq!((found.path.as_str(), found.by_env.as_deref()), (path, by_env), "{line:?}");
        }
    }

    #[test]
    fn the_first_line_names_a_package() {
        for (line, name) in [
            ("/usr/bin/perl", Some("perl")),
            ("/usr/bin/perl -w", Some("perl")),
            ("/usr/bin/env python3", Some("python3")),
            ("/usr/bin/env -S LANG=C python3 -u", Some("python3")),
            ("/usr/bin/env", None),
            ("/opt/acme/bin/perl", None),
            ("/bin/sh", None),
            ("perl", None),
            ("", None),
        ] {
            assert_eq!(package(line), name, "{line}");
        }
    }
}
