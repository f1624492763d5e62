//! `hatchway support`: what is known of an instrument in one file, for somebody who is not there.
//!
//! Nothing in it is free text of a vendor's unless somebody asks for it by `--logs raw`: fields are chosen one by one, and the words
//! in them pass [`redact`]. What every verb that reads has to know is in it, so all of them work on it (`--from`).

mod archive;
mod collect;
mod lines;
#[cfg(test)]
mod planted;
mod redact;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::causes::subjects::kind_of;
use crate::causes::{Cause, Confidence, Shown};
use crate::daemon::journal::Event;
use crate::daemon::report::UnitStatus;
use crate::dirs::Dirs;
use crate::doctor::Check;
use crate::error::Error;
use crate::kernel_log::Message;

pub use archive::{Files, Unpacked};
pub use collect::{Wishes, collect};
pub use redact::{Names, Redactor};

/// Version of the archive's format.
pub const VERSION: u32 = 1;
/// The file that says what is in it.
pub const MANIFEST: &str = "manifest.json";
const STATUS: &str = "status.json";
const EVENTS: &str = "events.jsonl";
const DOCTOR: &str = "doctor.json";
const KERNEL: &str = "kernel.jsonl";
const HOST: &str = "host.json";
/// Causes, by unit and by run.
const CAUSES: &str = "causes.json";
const INSTRUMENT: &str = "instrument.json";
const UNITS: &str = "units";

/// What becomes of what the tools have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Logs {
    /// Nothing of it is collected
    None,
    /// When how much was said; of lines that are JSON also time, level and code
    Structured,
    /// All of it, as it is, with whatever secrets are in it
    Raw,
}

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Which Hatchway made it.
    pub hatchway: String,
    /// When, in nanoseconds of `CLOCK_REALTIME`.
    pub made_ns: i64,
    /// What became of the logs.
    pub logs: Logs,
    /// Every other file in it.
    pub files: Vec<Entry>,
    /// What is not in it, and why.
    pub left_out: Vec<String>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Over them.
    pub sha256: String,
}

/// A cause as an archive has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptCause {
    code: String,
    says: String,
    confidence: Confidence,
    evidence: Vec<Shown>,
    next: Vec<String>,
}

/// An archive that is asked in place of a machine.
#[derive(Debug)]
pub struct Archive {
    unpacked: Unpacked,
    /// What is in it.
    pub manifest: Manifest,
}

impl Archive {
    /// Opens one, and compares its files with its manifest.
    ///
    /// # Errors
    /// It is none, is damaged, or of a newer version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unpacked = Unpacked::open(path)?;
        let wrong = |what: &str| Error::Host {
            message: format!("`{}` is {what}", path.display()),
            hints: vec!["have it sent again, or collect anew".to_owned()],
        };
        let text = fs::read(unpacked.path().join(MANIFEST)).map_err(|_| wrong("no support archive"))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|_| wrong("an archive that this version does not read"))?;
        for Entry { name, sha256, .. } in &manifest.files {
            // A name that leads elsewhere names no file that was unpacked, and nothing there is even opened.
            let path = archive::plain(name).map(|name| unpacked.path().join(name));
            let content = path.and_then(|path| fs::read(path).ok());
            if content.is_none_or(|content| digest(&content) != *sha256) {
                return Err(wrong(&format!("damaged: `{name}` is not what it was")));
            }
        }
        Ok(Self { unpacked, manifest })
    }

    /// Folders in which the units' runs are found as on the machine.
    #[must_use]
    pub fn dirs(&self) -> Dirs {
        let own = |name: &str| self.unpacked.path().join(name);
        Dirs { data: own("data"), cache: own("cache"), runtime: own(""), config: Vec::new() }
    }

    /// A file of it.
    ///
    /// # Errors
    /// It has none of this name.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, Error> {
        let known = self.manifest.files.iter().any(|entry| entry.name == name) || name == MANIFEST;
        if !known {
            return Err(Error::Host {
                message: format!("the archive has no `{name}`"),
                hints: vec!["`hatchway support show ARCHIVE` lists what it has".to_owned()],
            });
        }
        let path = self.unpacked.path().join(name);
        fs::read(&path).map_err(Error::io("read", path))
    }

    /// How each unit of the instrument was.
    ///
    /// # Errors
    /// That was not collected.
    pub fn units(&self) -> Result<Vec<UnitStatus>, Error> {
        self.json(STATUS)
    }

    /// What had happened.
    ///
    /// # Errors
    /// That was not collected.
    pub fn events(&self) -> Result<Vec<Event>, Error> {
        self.lines(EVENTS)
    }

    /// What the kernel had said.
    ///
    /// # Errors
    /// That was not collected.
    pub(crate) fn kernel(&self) -> Result<Vec<Message>, Error> {
        self.lines(KERNEL)
    }

    /// What `doctor` had found.
    ///
    /// # Errors
    /// That was not collected.
    pub fn checks(&self) -> Result<Vec<Check>, Error> {
        self.json(DOCTOR)
    }

    /// Why a unit was as it was, or a run (`UNIT/RUN`): what was found on the machine, where things could be looked up.
    ///
    /// # Errors
    /// That was not collected.
    pub fn causes(&self, of: &str) -> Result<Vec<Cause>, Error> {
        let mut all: BTreeMap<String, Vec<KeptCause>> = self.json(CAUSES)?;
        let known = |code: &str| kind_of(code).map_or("unknown", |kind| kind.code);
        let cause = |KeptCause { code, says, confidence, evidence, next }| Cause {
            code: known(&code),
            says,
            confidence,
            evidence,
            next,
        };
        Ok(all.remove(of).unwrap_or_default().into_iter().map(cause).collect())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.file(name)?).map_err(|error| unreadable(name, &error))
    }

    fn lines<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, Error> {
        let text = self.file(name)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| unreadable(name, &error))).collect()
    }
}

fn unreadable(name: &str, error: &serde_json::Error) -> Error {
    Error::Host { message: format!("`{name}` of the archive cannot be read: {error}"), hints: Vec::new() }
}

fn digest(content: &[u8]) -> String {
    hatchway_envs::digest::Sha256::of(content).to_string()
}

/// Where the machine keeps what its stand-ins stand for.
fn names_file(dirs: &Dirs) -> PathBuf {
    dirs.data.join("support/names.json")
}

impl Names {
    /// Held while some are given out.
    ///
    /// # Errors
    /// It cannot be written.
    fn lock(dirs: &Dirs) -> Result<fs::File, Error> {
        let path = names_file(dirs).with_extension("lock");
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let file = fs::File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        hatchway_sys::lock::lock_exclusive(&file).map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    /// Those that this machine has given out so far.
    ///
    /// # Errors
    /// They cannot be read: new ones would mean something else than those of an earlier archive.
    pub fn load(dirs: &Dirs) -> Result<Self, Error> {
        let path = names_file(dirs);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Host {
                message: format!("`{}` cannot be read: {error}", path.display()),
                hints: vec!["move it away; stand-ins begin anew then".to_owned()],
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Keeps them, for nobody but this user.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn store(&self, dirs: &Dirs) -> Result<(), Error> {
        let path = names_file(dirs);
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let text = serde_json::to_vec(self).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
        let beside = path.with_extension("new");
        let written = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let written = written.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&beside, &path)).map_err(Error::io("write", path))
    }
}
