//! What the daemon itself keeps: the instrument that was applied last, and what people have said of its units.
//!
//! Both are small files that are replaced as a whole: written beside, synced, renamed, and the folder synced. One that cannot be read
//! is set aside and said so; what the unit folders tell is enough to go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::instrument::{self, Instrument, Start};

use super::decide::Want;

/// The version of both files.
const VERSION: u32 = 1;
const APPLIED: &str = "applied.json";
const SAID: &str = "said.json";

/// The instrument that the daemon carries out: what `hatchway up` has applied, whatever becomes of the file meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    version: u32,
    /// The file that it was read from; recipes are looked for beside it first.
    pub origin: PathBuf,
    /// Its text.
    pub text: String,
    /// Names what each unit is carried out with: its configuration, its recipe and its lock as they were then.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
}

/// What people have said of units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    units: BTreeMap<String, Word>,
}

/// The last word about a unit. It holds until the machine starts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    boot: String,
    monotonic_ms: u64,
    /// The same to the nanosecond: a run may have ended in the same millisecond, before the word or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monotonic_ns: Option<u64>,
    up: bool,
    /// The run after which it is to start again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renew: Option<String>,
}

/// Where they are.
#[must_use]
pub fn folder(dirs: &Dirs) -> PathBuf {
    dirs.data.join("daemon")
}

impl Applied {
    /// One that was just read.
    #[must_use]
    pub fn new(origin: PathBuf, text: String, digests: BTreeMap<String, String>) -> Self {
        Self { version: VERSION, origin, text, digests }
    }

    /// What was applied last, if anything was.
    ///
    /// # Errors
    /// It cannot be read; one that is no such file is set aside first.
    pub fn load(dirs: &Dirs) -> Result<Option<Self>, Error> {
        load(&folder(dirs).join(APPLIED))
    }

    /// Makes it what is carried out from now on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(&self, dirs: &Dirs) -> Result<(), Error> {
        store(&folder(dirs).join(APPLIED), self)
    }

    /// The instrument.
    ///
    /// # Errors
    /// It is wrong: this version may refuse what another one took.
    pub fn instrument(&self) -> Result<Instrument, Error> {
        instrument::parse(&self.text)
            .map_err(|diagnostic| Error::Recipe(diagnostic.in_file(&self.origin, &self.text)))
    }

    /// Where its recipes are looked for first.
    #[must_use]
    pub fn recipes(&self) -> PathBuf {
        self.origin.parent().unwrap_or(Path::new("/")).join("recipes")
    }
}

impl Said {
    /// What was said, if anything was.
    ///
    /// # Errors
    /// It cannot be read; one that is no such file is set aside first.
    pub fn load(dirs: &Dirs) -> Result<Self, Error> {
        Ok(load(&folder(dirs).join(SAID))?.unwrap_or_default())
    }

    /// Keeps it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(&self, dirs: &Dirs) -> Result<(), Error> {
        store(&folder(dirs).join(SAID), self)
    }

    /// Somebody wants a unit so.
    pub fn say(&mut self, unit: &str, want: Want, renew: Option<String>, now: &Now) {
        self.version = VERSION;
        let word = Word {
            boot: now.boot.clone(),
            monotonic_ms: u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX),
            monotonic_ns: u64::try_from(now.monotonic.as_nanos()).ok(),
            up: want == Want::Up,
            renew,
        };
        self.units.insert(unit.to_owned(), word);
    }

    /// What is wanted of a unit, and when somebody has said so in this boot.
    #[must_use]
    pub fn of(&self, unit: &str, start: Start, now: &Now) -> (Want, Option<Duration>) {
        let as_want = |up| if up { Want::Up } else { Want::Down };
        match self.word(unit, now) {
            Some(word) => (as_want(word.up), Some(word.when())),
            None => (as_want(start == Start::Auto), None),
        }
    }

    /// The run after which somebody wants a unit to start again.
    #[must_use]
    pub fn renew(&self, unit: &str, now: &Now) -> Option<String> {
        self.word(unit, now)?.renew.clone()
    }

    fn word(&self, unit: &str, now: &Now) -> Option<&Word> {
        self.units.get(unit).filter(|word| word.boot == now.boot)
    }
}

impl Word {
    fn when(&self) -> Duration {
        self.monotonic_ns.map_or(Duration::from_millis(self.monotonic_ms), Duration::from_nanos)
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let aside = path.with_extension("damaged");
            fs::rename(path, &aside).map_err(Error::io("set aside", path))?;
            Err(Error::Host {
                message: format!(
                    "`{}` was damaged ({error}), and is now `{}`",
                    path.display(),
                    aside.display()
                ),
                hints: vec!["`hatchway up` applies the instrument anew".to_owned()],
            })
        }
    }
}

fn store(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let beside = path.with_extension(format!("new.{}", std::process::id()));
    let written = write(&beside, &text)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| File::open(parent)?.sync_all());
    if written.is_err() {
        // What is half written is nobody's.
        drop(fs::remove_file(&beside));
    }
    written.map_err(Error::io("write", path))
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(folder: &Path) -> Dirs {
        let own = |name: &str| folder.join(name);
        Dirs { data: own("data"), cache: own("cache"), runtime: own("run"), config: Vec::new() }
    }

    #[test]
    fn a_word_holds_until_the_machine_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        let now = Now { boot: "one".to_owned(), monotonic: Duration::from_nanos(7_000_000_123) };
        let mut said = Said::load(&dirs).unwrap();
        assert_eq!(said.of("a", Start::Auto, &now), (Want::Up, None));
        said.say("a", Want::Down, None, &now);
        said.say("m", Want::Up, None, &now);
        said.store(&dirs).unwrap();
        let said = Said::load(&dirs).unwrap();
        assert_eq!(said.of("a", Start::Auto, &now), (Want::Down, Some(now.monotonic)));
        assert_eq!(said.of("m", Start::Manual, &now), (Want::Up, Some(now.monotonic)));
        let later = Now { boot: "two".to_owned(), monotonic: Duration::from_secs(1) };
        assert_eq!(said.of("a", Start::Auto, &later), (Want::Up, None));
        assert_eq!(said.of("m", Start::Manual, &later), (Want::Down, None));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_said_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        Applied::new("/etc/i.toml".into(), "schema = 1".to_owned(), BTreeMap::new()).store(&dirs).unwrap();
        let path = super::folder(&dirs).join(APPLIED);
        fs::write(&path, "{\"version\": 1, \"ori").unwrap();
        let error = Applied::load(&dirs).unwrap_err().to_string();
        assert!(error.contains("was damaged"), "{error}");
        assert_eq!(Applied::load(&dirs).unwrap(), None);
        assert!(path.with_extension("damaged").exists());
    }

    #[test]
    fn what_a_newer_version_adds_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        fs::create_dir_all(super::folder(&dirs)).unwrap();
        let text = "{\"version\": 2, \"units\": {\"a\": {\"boot\": \"b\", \"monotonic_ms\": 1, \"up\": false, \"by\": \"x\"}}, \"more\": 1}";
        fs::write(super::folder(&dirs).join(SAID), text).unwrap();
        let now = Now { boot: "b".to_owned(), monotonic: Duration::from_secs(7) };
        assert_eq!(Said::load(&dirs).unwrap().of("a", Start::Auto, &now).0, Want::Down);
    }
}
