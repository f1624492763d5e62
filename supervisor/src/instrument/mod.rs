//! `instrument.toml`: the units of this machine, what is bound to their slots, and who may do what.
//!
//! As with recipes the types are the format: unknown keys are errors, and what this version does not carry out is refused with
//! its place, never ignored.

mod bind;
mod roles;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hatchway_envs::digest::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::error::Error;
use crate::recipe::{Diagnostic, Name};

pub use roles::{Member, Role, Roles};

/// The version of the format.
pub const SCHEMA: u32 = 1;
/// Bytes of it at most.
const BYTES_MAX: u64 = 1 << 20;
/// How the name of a native service's program begins.
const SERVICE_PREFIX: &str = "hatchway-";
/// Its name in the folders of the configuration.
pub const FILE: &str = "instrument.toml";

/// One machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Instrument {
    /// Version of the format: 1.
    #[schemars(with = "u32")]
    pub schema: Spanned<u32>,
    /// What it is.
    #[serde(rename = "instrument")]
    pub about: About,
    /// Its units.
    #[serde(rename = "unit", default)]
    #[schemars(with = "BTreeMap<Name, UnitConfig>")]
    pub units: BTreeMap<Name, Spanned<UnitConfig>>,
    /// For the safety daemon only.
    #[serde(default)]
    #[schemars(with = "Option<Interlocks>")]
    pub interlocks: Option<Spanned<Interlocks>>,
    /// Who may do what with the daemon.
    #[serde(default)]
    pub roles: Roles,
}

/// What the machine is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct About {
    /// Its name.
    pub name: String,
}

/// The interlocks, in a file that the safety daemon reads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interlocks {
    /// The file, beside this one or an absolute path.
    pub file: PathBuf,
}

/// A tool or a native service, as this machine has it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnitConfig {
    /// The recipe's name, or a path to it.
    #[serde(default)]
    pub recipe: Option<String>,
    /// A native service in place of a recipe: a program of Hatchway's, `hatchway-…`.
    #[serde(default)]
    pub service: Option<String>,
    /// In place of the recipe's rung.
    #[serde(default)]
    pub rung: Option<UnitRung>,
    /// Further arguments of the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// Who it runs as, never uid 0; a uid of the tool's own otherwise.
    #[serde(default)]
    pub user: Option<String>,
    /// Units that are ready before it starts.
    #[serde(default)]
    pub after: Vec<Name>,
    /// Whether it starts by itself.
    #[serde(default)]
    pub start: Start,
    /// What the channels lead to.
    #[serde(default)]
    pub channels: BTreeMap<Name, ChannelConfig>,
    /// Which devices of this machine are in the slots, by stable names (`by-id:…`, `by-path:…`, `usb:VENDOR:PRODUCT:SERIAL`).
    #[serde(default)]
    pub devices: BTreeMap<Name, String>,
    /// Which files of this machine are in the slots.
    #[serde(default)]
    pub files: BTreeMap<Name, PathBuf>,
    /// The identity that licences are bound to: `mac`, `interface`, `machine-id`, `hostname`.
    #[serde(default)]
    pub identity: BTreeMap<String, String>,
}

/// The rungs that a unit can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitRung {
    /// Namespaces over the tree.
    Fhs,
    /// A container of this machine's engine.
    Container,
    /// A guest with a kernel of its own.
    Vm,
}

/// Whether a unit starts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// With the daemon.
    #[default]
    Auto,
    /// When somebody says so.
    Manual,
}

/// What a channel leads to.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChannelConfig {
    /// `tcp:ADDRESS:PORT`, or `device:NAME` with a name of `devices`.
    pub to: String,
    /// The permit without which nothing passes.
    #[serde(default)]
    pub gate: Option<String>,
    /// Whether what passes is kept.
    #[serde(default)]
    pub record: bool,
}

/// Reads and checks the instrument; with its text. Root takes none that others may change.
///
/// # Errors
/// It is not there, others may change it, or it is wrong: then with line, column and caret.
pub fn read(path: &Path) -> Result<(Instrument, String), Error> {
    crate::recipe::refuse_foreign(path)?;
    let text = read_text(path).map_err(Error::io("read", path))?;
    let instrument = parse(&text).map_err(|diagnostic| Error::Recipe(diagnostic.in_file(path, &text)))?;
    Ok((instrument, text))
}

/// A device or a pipe would hold up who reads it.
fn read_text(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(io::Error::other("it is no file of a sensible size"));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Parses and checks its text.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Instrument, Diagnostic> {
    let instrument: Instrument =
        toml::from_str(text).map_err(|e| Diagnostic::new(e.message(), e.span().unwrap_or(0..0)))?;
    instrument.check()?;
    Ok(instrument)
}

impl Instrument {
    /// What a unit is, by its name.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&UnitConfig> {
        self.units.iter().find(|(other, _)| other.as_str() == name).map(|(_, config)| config.get_ref())
    }

    /// All units by name, each after those that it waits for.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&str, &UnitConfig)> {
        let mut done: Vec<(&str, &UnitConfig)> = Vec::new();
        while done.len() < self.units.len() {
            let is_done = |name: &Name| done.iter().any(|(other, _)| *other == name.as_str());
            let next: Vec<(&str, &UnitConfig)> = self
                .units
                .iter()
                .filter(|(name, config)| !is_done(name) && config.get_ref().after.iter().all(is_done))
                .map(|(name, config)| (name.as_str(), config.get_ref()))
                .collect();
            if next.is_empty() {
                // A circle, which checking refuses.
                break;
            }
            done.extend(next);
        }
        done
    }

    fn check(&self) -> Result<(), Diagnostic> {
        if *self.schema.get_ref() != SCHEMA {
            let message =
                format!("schema {} is not known; this version reads {SCHEMA}", self.schema.get_ref());
            return Err(Diagnostic::new(&message, self.schema.span()));
        }
        for (name, config) in &self.units {
            self.check_unit(name, config.get_ref())
                .map_err(|why| Diagnostic::new(&format!("unit `{name}`: {why}"), config.span()))?;
        }
        let ordered = self.in_order();
        let circle = self.units.iter().find(|(name, _)| !ordered.iter().any(|(o, _)| *o == name.as_str()));
        if let Some((name, config)) = circle {
            let message = format!("unit `{name}` waits for itself, by way of what it is `after`");
            return Err(Diagnostic::new(&message, config.span()));
        }
        Ok(())
    }

    fn check_unit(&self, name: &Name, config: &UnitConfig) -> Result<(), String> {
        match (&config.recipe, &config.service) {
            (Some(_), None) => {}
            (None, Some(service)) => check_service(service, config)?,
            (None, None) => return Err("it has no `recipe`, and no `service`".to_owned()),
            (Some(_), Some(_)) => {
                return Err("it has a `recipe` and a `service`; a unit is one of them".to_owned());
            }
        }
        if let Some(other) = config.after.iter().find(|other| !self.units.contains_key(*other)) {
            return Err(format!("it is after `{other}`, which is no unit of this instrument"));
        }
        if config.after.contains(name) {
            return Err("it is after itself".to_owned());
        }
        if config.user.as_deref().is_some_and(|user| matches!(user.split(':').next(), Some("root" | "0"))) {
            return Err("a unit never runs as root".to_owned());
        }
        bind::words(config).map(drop)
    }
}

/// A native service is on this machine as it is: nothing is isolated, and nothing bound.
fn check_service(service: &str, config: &UnitConfig) -> Result<(), String> {
    let rest = service.strip_prefix(SERVICE_PREFIX);
    if rest.is_none_or(|rest| Name::try_from(rest.to_owned()).is_err()) {
        return Err(format!("`service` is the name of a program of Hatchway's, `{SERVICE_PREFIX}…`"));
    }
    let given = [
        (config.rung.is_some(), "rung"),
        (!config.channels.is_empty(), "channels"),
        (!config.devices.is_empty(), "devices"),
        (!config.files.is_empty(), "files"),
        (!config.identity.is_empty(), "identity"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(format!("a native service has no `{what}`: its `args` say what it uses")),
        None => Ok(()),
    }
}

impl UnitConfig {
    /// `SLOT=VALUE` for each slot that is bound.
    #[must_use]
    pub fn bindings(&self) -> Vec<String> {
        // It was checked when it was read.
        bind::words(self).unwrap_or_default()
    }

    /// Names this configuration: a unit that runs with another one is not as the instrument has it.
    #[must_use]
    pub fn digest(&self) -> String {
        // What only concerns when it starts is no reason to start it anew.
        let same = Self { after: Vec::new(), start: Start::Auto, ..self.clone() };
        let text = serde_json::to_string(&same).unwrap_or_default();
        Sha256::of(text.as_bytes()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\n[instrument]\nname = \"bench\"\n";

    fn refused(text: &str) -> String {
        let text = format!("{HEAD}{text}");
        parse(&text).unwrap_err().in_file(Path::new("instrument.toml"), &text).to_string()
    }

    #[test]
    fn units_come_after_those_that_they_wait_for() {
        let text = format!(
            "{HEAD}[unit.a]\nrecipe = \"x\"\nafter = [\"c\", \"b\"]\n[unit.b]\nrecipe = \"x\"\nafter = [\"c\"]\n[unit.c]\nrecipe = \"x\"\n"
        );
        let instrument = parse(&text).unwrap();
        let names: Vec<&str> = instrument.in_order().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["c", "b", "a"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, why) in [
            ("[unit.a]\n", "unit `a`: it has no `recipe`"),
            ("[unit.a]\nrecipe = \"x\"\nafter = [\"b\"]\n", "it is after `b`, which is no unit"),
            ("[unit.a]\nrecipe = \"x\"\nuser = \"0:5\"\n", "never runs as root"),
            ("[unit.a]\nservice = \"daq\"\n", "the name of a program of Hatchway's, `hatchway-…`"),
            ("[unit.a]\nservice = \"hatchway-../sh\"\n", "the name of a program of Hatchway's"),
            ("[unit.a]\nservice = \"hatchway-daq\"\nrung = \"vm\"\n", "a native service has no `rung`"),
            ("[unit.a]\nservice = \"hatchway-daq\"\nrecipe = \"x\"\n", "a unit is one of them"),
            ("[unit.a]\nrecipe = \"x\"\nrestart = true\n", "unknown field `restart`"),
            (
                "[unit.a]\nrecipe = \"x\"\nafter = [\"b\"]\n[unit.b]\nrecipe = \"x\"\nafter = [\"a\"]\n",
                "unit `a` waits for itself",
            ),
            ("[unit.a]\nrecipe = \"x\"\nchannels.m = { to = \"tcp:1.2.3.4:5\", gate = \"m\" }\n", "`gate`"),
            ("[unit.a]\nrecipe = \"x\"\nchannels.m = { to = \"device:d\" }\n", "no device `d`"),
        ] {
            let said = refused(text);
            assert!(said.contains(why) && said.contains("instrument.toml:"), "{said}");
        }
    }

    #[test]
    fn what_only_concerns_the_start_is_no_other_configuration() {
        let config = |more: &str| {
            let text = format!("{HEAD}[unit.b]\nrecipe = \"x\"\n[unit.a]\nrecipe = \"x\"\n{more}");
            parse(&text).unwrap().unit("a").unwrap().digest()
        };
        assert_eq!(config(""), config("after = [\"b\"]\nstart = \"manual\"\n"));
        assert_ne!(config(""), config("args = [\"-v\"]\n"));
    }
}
