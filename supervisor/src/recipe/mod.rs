//! Recipes: how a vendor's files are installed and run, on any machine.
//!
//! The types are the format: unknown keys are errors, values are checked while they are read, so that every error has
//! a line and a column. What this version reads but does not carry out yet is listed by [`Recipe::unsupported`] and
//! refused by `lock`, never ignored.

mod adopt;
mod dbus;
mod diagnostic;
mod draft;
mod limits;
mod network;
mod ready;
mod service;
mod types;
mod vm;

use std::path::{Path, PathBuf};

pub use adopt::adopt;
pub use dbus::{BusAccess, BusName, Dbus};
pub use diagnostic::Diagnostic;
pub(crate) use draft::is_licence;
pub use draft::{Draft, Origin, draft, unpack_folder};
pub use limits::{Limits, Processors};
pub use network::{Network, Server};
pub use ready::Ready;
pub use service::*;
pub use types::*;
pub use vm::{Driver, SerialLine, System, TableText, Vm};

use crate::error::Error;
use hatchway_envs::digest::Sha256;

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// A recipe with the place it was read from.
#[derive(Debug, Clone)]
pub struct Located {
    /// The recipe.
    pub recipe: Recipe,
    /// `recipes/<name>/recipe.toml`.
    pub path: PathBuf,
}

impl Located {
    /// `recipe.lock` beside it.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_file_name("recipe.lock")
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

/// Reads and checks a recipe.
///
/// # Errors
/// When it cannot be read, or is wrong: then with line, column and caret.
pub fn read(path: &Path) -> Result<Located, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let recipe = parse(&text).map_err(|d| Error::Recipe(d.in_file(path, &text)))?;
    Ok(Located { recipe, path: path.to_owned() })
}

/// Parses and checks a recipe's text.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Recipe, Diagnostic> {
    let recipe: Recipe =
        toml::from_str(text).map_err(|e| Diagnostic::new(e.message(), e.span().unwrap_or(0..0)))?;
    recipe.check()?;
    Ok(recipe)
}

/// Reads and checks a recipe that is carried out: root takes none that others may change.
///
/// # Errors
/// [`Error::ForeignRecipe`]; as [`read`].
pub fn read_trusted(path: &Path) -> Result<Located, Error> {
    refuse_foreign(path)?;
    read(path)
}

/// Finds a recipe to carry out by name, or takes a path to one.
///
/// # Errors
/// As [`locate`] and [`read_trusted`].
pub fn find(name: &str, folders: &[PathBuf]) -> Result<Located, Error> {
    read_trusted(&locate(name, folders)?)
}

/// Where the recipe of a name or a path is. Looked for in `recipes/` of the working folder, then in each of `folders`.
///
/// # Errors
/// When there is none; the error names the places that were tried.
pub fn locate(name: &str, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let given = Path::new(name);
    if given.is_file() && given.extension().is_some_and(|e| e == "toml") {
        return Ok(given.to_owned());
    }
    if name.contains('/') && given.join("recipe.toml").is_file() {
        return Ok(given.join("recipe.toml"));
    }
    let all: Vec<PathBuf> =
        std::iter::once(PathBuf::from("recipes")).chain(folders.iter().cloned()).collect();
    locate_in(name, &all)
}

/// Where the recipe of a name is: in the first of these folders that has it.
///
/// # Errors
/// When there is none; the error names the places that were tried.
pub fn locate_in(name: &str, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let paths = folders.iter().map(|folder| folder.join(name).join("recipe.toml"));
    let none = || Error::NoRecipe { name: name.to_owned(), tried: folders.to_vec() };
    paths.into_iter().find(|path| path.is_file()).ok_or_else(none)
}

/// Whoever can change a recipe that root runs is root: root takes none that others may write. What is not there yet is
/// nobody's.
///
/// # Errors
/// [`Error::ForeignRecipe`] with the part of the path that is others'.
pub fn refuse_foreign(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    if !crate::dirs::is_root() {
        return Ok(());
    }
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).unwrap_or(0);
    let lock = path.with_file_name("recipe.lock");
    // The recipe, its folder, and the folder that this one's name is in.
    for (number, part) in path.ancestors().take(3).chain([lock.as_path()]).enumerate() {
        let metadata = match std::fs::metadata(part) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("read", part)(error)),
        };
        let foreign = metadata.uid() != 0 && metadata.uid() != caller;
        // In a folder like `/tmp` nobody takes away or renames what is not theirs.
        let shared = number == 2 && metadata.mode() & 0o1000 != 0;
        if foreign || (metadata.mode() & 0o022 != 0 && !shared) {
            return Err(Error::ForeignRecipe(part.to_owned()));
        }
    }
    Ok(())
}

impl Recipe {
    /// Digest over what the lock depends on: the artifacts and the environment.
    #[must_use]
    pub fn lock_inputs(&self) -> Sha256 {
        let artifacts: Vec<_> =
            self.artifacts.iter().map(|a| (a.sha256.hex(), &a.unpack, a.strip, &a.archive, &a.url)).collect();
        let environment = &self.environment;
        let mut text = format!(
            "{artifacts:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.sources
                .iter()
                .map(|s| (s.name.get_ref(), &s.urls, &s.suite, &s.components, &s.key))
                .collect::<Vec<_>>(),
            environment.components,
            environment.base(),
            environment.architectures,
            environment.packages,
            environment.exclude,
            environment.pin
        );
        // Added only where set: older locks stay good.
        if let Some(python) = &environment.python {
            text += &format!(" python {:?} {:?}", python.version, python.requirements);
        }
        if !environment.patch.is_empty() {
            let patches = environment.patch.iter().map(|(at, file)| (at.as_str(), file.get_ref()));
            text += &format!(" patch {:?}", patches.collect::<Vec<_>>());
        }
        for install in self.artifacts.iter().filter_map(|artifact| artifact.install.as_ref()) {
            text.push_str(&format!(" install {:?} {}", install.run, install.accept_licence));
        }
        if !environment.locales.is_empty() || environment.configure != Configure::Builtin {
            text.push_str(&format!(" {:?} {:?}", environment.locales, environment.configure));
        }
        if !self.run.services.is_empty() {
            text.push_str(" services");
        }
        if let Some(kernel) = self.run.vm.as_ref().and_then(|vm| vm.kernel.as_ref()) {
            text.push_str(&format!(" kernel {kernel:?}"));
        }
        Sha256::of(text.as_bytes())
    }

    /// Checks what spans several values.
    fn check(&self) -> Result<(), Diagnostic> {
        if *self.schema.get_ref() != SCHEMA {
            let message =
                format!("schema {} is not known; this version reads {SCHEMA}", self.schema.get_ref());
            return Err(Diagnostic::new(&message, self.schema.span()));
        }
        for artifact in &self.artifacts {
            artifact.check()?;
        }
        self.check_base()?;
        for file in self.environment.patch.values() {
            let clean = |part: &str| !matches!(part, "" | "." | "..");
            if !file.get_ref().split('/').all(clean) {
                let message = format!("`{}` is not the name of a file beside the recipe", file.get_ref());
                return Err(Diagnostic::new(&message, file.span()));
            }
        }
        for (number, state) in self.run.state.iter().enumerate() {
            let folder = |path: &Inside| format!("{}/", path.as_str().trim_end_matches('/'));
            let nested = |other: &toml::Spanned<Inside>| {
                let (a, b) = (folder(state.get_ref()), folder(other.get_ref()));
                a.starts_with(&b) || b.starts_with(&a)
            };
            if self.run.state[..number].iter().any(nested) {
                let message =
                    format!("`{}` and another state folder lie in each other", state.get_ref().as_str());
                return Err(Diagnostic::new(&message, state.span()));
            }
        }
        let names = |kind: &'static str, names: Vec<&toml::Spanned<Name>>| unique(kind, &names);
        names("sources", self.sources.iter().map(|s| &s.name).collect())?;
        for source in &self.sources {
            source.check()?;
        }
        names("channels", self.channels.iter().map(|c| &c.name).collect())?;
        names("device slots", self.devices.iter().map(|d| &d.name).collect())?;
        names("file slots", self.files.iter().map(|f| &f.name).collect())?;
        self.channels.iter().try_for_each(Channel::check)?;
        self.service.iter().try_for_each(Service::check)?;
        if let Some(ready) = self.service.as_ref().and_then(|service| service.ready.as_ref())
            && let Some(why) = ready.get_ref().contradiction(&self.run.network, &self.channels)
        {
            return Err(Diagnostic::new(why, ready.span()));
        }
        for (number, device) in self.devices.iter().enumerate() {
            let Some(port) = device.port else { continue };
            let again = self.devices[..number].iter().any(|other| other.port == Some(port));
            let message = match () {
                () if device.class != "serial" => "only a device of the class `serial` is a port".to_owned(),
                () if again => format!("there are two devices with the port `COM{}`", port.number()),
                () => continue,
            };
            return Err(Diagnostic::new(&message, device.name.span()));
        }
        Ok(())
    }

    /// What only a base with an index of packages can give.
    fn check_base(&self) -> Result<(), Diagnostic> {
        let environment = &self.environment;
        let Some(base) = environment.base.as_ref().filter(|base| !matches!(base.get_ref(), Base::Debian(_)))
        else {
            return Ok(());
        };
        let asked = [
            (!environment.packages.is_empty(), "packages"),
            (!environment.exclude.iter().all(|name| is_soname(name)), "exclude (of a package)"),
            (!environment.pin.is_empty(), "pin"),
            (environment.python.is_some(), "python"),
            (environment.components != ["main"], "components"),
            (environment.configure == Configure::Scripts, "configure = \"scripts\""),
            (!self.sources.is_empty(), "[[source]]"),
        ];
        match asked.iter().find(|(asked, _)| *asked) {
            None => Ok(()),
            Some((_, key)) => {
                let message =
                    format!("this base has no index of packages, so `{key}` cannot be carried out with it");
                Err(Diagnostic::new(&message, base.span()))
            }
        }
    }

    /// What the recipe asks for that this version of Hatchway reads but does not carry out.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        if self.image().is_some() {
            return self.not_of_an_image();
        }
        let environment = &self.environment;
        let run = &self.run;
        let checks = [
            (
                environment.architectures.first() != Some(&Architecture::Amd64),
                "architectures without amd64 first",
            ),
            (run.rung == Rung::Native, "rung = \"native\""),
            (!run.modules.is_empty() && run.rung != Rung::Vm, "modules without rung = \"vm\""),
            (
                !run.services.is_empty() && !matches!(run.rung, Rung::Vm | Rung::Container),
                "services without rung = \"vm\" or \"container\"",
            ),
        ];
        let asked = checks.iter().filter(|(asked, _)| *asked).map(|(_, what)| (*what).to_owned());
        let channels = self.channels.iter().flat_map(Channel::unsupported);
        asked.chain(channels).chain(run.vm.iter().flat_map(Vm::not_of_a_tree)).collect()
    }
}

impl Environment {
    /// The base that the recipe names.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref().map(toml::Spanned::get_ref)
    }
}

impl SpannedDigest {
    /// Whether it only keeps the place of one: no file has this digest.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.hex().bytes().all(|digit| digit == b'0')
    }
}

impl Source {
    /// A source is told apart from a folder with an index by the slash at the end of its suite, as in apt.
    fn check(&self) -> Result<(), Diagnostic> {
        let folder = self.suite.ends_with('/');
        let clean =
            |part: &str| part != ".." && !part.contains(|c: char| c.is_whitespace() || c.is_control());
        let message = match () {
            () if self.urls.is_empty() => "a source has at least one of `urls`",
            () if folder && !self.components.is_empty() => "a suite that ends in a slash has no `components`",
            () if !folder && self.components.is_empty() => {
                "a source has `components`, unless its `suite` is a folder and ends in a slash"
            }
            () if !self
                .suite
                .split('/')
                .chain(self.components.iter().flat_map(|c| c.split('/')))
                .all(clean) =>
            {
                "`suite` and `components` are names without blanks and `..`"
            }
            () => return Ok(()),
        };
        Err(Diagnostic::new(message, self.name.span()))
    }
}

impl Artifact {
    fn check(&self) -> Result<(), Diagnostic> {
        let ways = [self.file.is_some(), self.url.is_some(), self.archive.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            let message = "an artifact has exactly one of `file`, `url` and `archive`";
            return Err(Diagnostic::new(message, self.sha256.span()));
        }
        if let Some(install) = &self.install {
            let message = match () {
                () if install.run.is_empty() => "`install` has no command: run = [\"./NAME\"]",
                () if self.unpack.is_some() => "an artifact is unpacked or run as an installer, not both",
                () => return Ok(()),
            };
            return Err(Diagnostic::new(message, self.sha256.span()));
        }
        Ok(())
    }

    /// The file's name, or the archive's name of the package.
    #[must_use]
    pub fn file_name(&self) -> String {
        match (&self.file, &self.url, &self.archive) {
            (Some(name), _, _) | (_, Some(name), _) => name.rsplit('/').next().unwrap_or(name).to_owned(),
            // A package of the archive goes by its full name: its file's name changes with every version.
            (_, _, archive) => archive.clone().unwrap_or_default(),
        }
    }
}

/// Whether an entry of `exclude` names a library.
pub(crate) fn is_soname(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

fn unique(kind: &str, names: &[&toml::Spanned<Name>]) -> Result<(), Diagnostic> {
    for (number, name) in names.iter().enumerate() {
        if names[..number].iter().any(|earlier| earlier.get_ref() == name.get_ref()) {
            let message = format!("there are two {kind} named `{}`", name.get_ref());
            return Err(Diagnostic::new(&message, name.span()));
        }
    }
    Ok(())
}
