//! VirtualBox 7, driven through `VBoxManage`.
//!
//! ```text
//! argv             a machine as calls
//! machinereadable  what is printed, as values
//! failure          why something is refused, and what to do
//! ```
//!
//! Which `VBoxManage` is a command line of the caller's ([`Programs`]): this machine's own, or one in an environment. Its
//! server (`VBoxSVC`) is started by the first call and found by a socket in `/tmp` that is named after the user, so calls that
//! are to see the same running guests have to be made in the same mount and process namespaces: an environment that is made
//! anew for each call serves for everything but running guests. Settings are below `VBOX_USER_HOME`, else
//! `~/.config/VirtualBox`.

pub mod argv;
mod failure;
pub mod machinereadable;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use argv::Call;
pub use failure::{Reason, Refusal};
pub use machinereadable::Snapshot;

use crate::command::{self, Said};
use crate::error::Error;
use crate::image;
use crate::machine::{Machine, Uuid};
use machinereadable::Properties;

/// The first version whose options are used here.
const MAJOR_MIN: u32 = 7;
/// The longest call: a snapshot of a machine with much memory, to a slow disk.
const CALL_MAX: Duration = Duration::from_secs(600);
/// How long the reason for a failed start is looked for.
const DIAGNOSIS_MAX: Duration = Duration::from_secs(10);
/// How often a machine's state is asked for while one is waited for; a call takes some 100 ms.
const POLL: Duration = Duration::from_millis(500);
/// How long a machine that was switched off takes to let go of its files.
const OFF_MAX: Duration = Duration::from_secs(30);

/// The programs of a VirtualBox, each as the first words of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `VBoxManage`
    pub manage: Vec<OsString>,
    /// `VBoxHeadless`, which says in its own words why it cannot start a guest.
    pub headless: Vec<OsString>,
}

impl Default for Programs {
    /// What is installed on this machine.
    fn default() -> Self {
        Self { manage: vec!["VBoxManage".into()], headless: vec!["VBoxHeadless".into()] }
    }
}

/// A version of VirtualBox: `7.2.22_Debianr175245`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `7`
    pub major: u32,
    /// `2`
    pub minor: u32,
    /// All of it.
    pub text: String,
}

impl Version {
    /// The version in what `VBoxManage --version` printed: its last line that begins like one, behind any warnings.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: Option<&str>| part?.parse::<u32>().ok();
        text.lines().rev().find_map(|line| {
            let line = line.trim();
            let mut parts = line.split('.');
            let (major, minor) = (number(parts.next())?, number(parts.next())?);
            parts.next().filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
            Some(Self { major, minor, text: command::plain(line) })
        })
    }
}

/// What a machine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is off.
    Off,
    /// It is off, and goes on where it was when it is started.
    Saved,
    /// It has ended without being switched off.
    Aborted,
    /// It is on its way up.
    Starting,
    /// It runs.
    Running,
    /// It stands still.
    Paused,
    /// It is on its way down.
    Stopping,
    /// VirtualBox has given it up and keeps it to be looked at ("guru meditation").
    Stuck,
    /// Another one, of VirtualBox's words.
    Other(String),
}

impl State {
    /// From VirtualBox's word (`machineStateToName` in its VBoxManageInfo.cpp).
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "poweroff" => Self::Off,
            "saved" => Self::Saved,
            "aborted" | "aborted-saved" => Self::Aborted,
            "starting" | "restoring" => Self::Starting,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "stopping" | "saving" => Self::Stopping,
            "gurumeditation" | "stuck" => Self::Stuck,
            other => Self::Other(command::plain(other)),
        }
    }

    /// Whether nothing of it is left in memory.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self, Self::Off | Self::Saved | Self::Aborted)
    }
}

/// How a machine was brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The guest did as its power button said.
    ByItself,
    /// The time was over, and it was switched off.
    Forced,
}

/// A VirtualBox.
#[derive(Debug, Clone)]
pub struct VirtualBox {
    programs: Programs,
    version: Version,
}

impl VirtualBox {
    /// Asks for the version.
    ///
    /// # Errors
    /// When there is none, or one that is too old.
    pub fn find(programs: Programs) -> Result<Self, Error> {
        let call = Call::new(["--version"]);
        let said = started(&programs.manage, call.words(), CALL_MAX)?;
        let version = Version::parse(&said.stdout)
            .filter(|_| said.code == Some(0))
            .ok_or_else(|| Error::VirtualBox(Refusal::new(call.name(), &said)))?;
        if version.major < MAJOR_MIN {
            return Err(Error::OldVirtualBox(version.text));
        }
        Ok(Self { programs, version })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Makes a machine. What fails on the way leaves nothing registered.
    ///
    /// # Errors
    /// What VirtualBox cannot give or refuses.
    pub fn create(&self, machine: &Machine, uuid: Uuid, folder: &Path) -> Result<(), Error> {
        let calls = argv::create(machine, uuid, folder)?;
        for disk in &machine.disks {
            image::check(&disk.path, disk.format)?;
        }
        for (number, call) in calls.iter().enumerate() {
            if let Err(error) = self.call(call) {
                if number > 0 {
                    // The first error is the one to be told.
                    drop(self.destroy(machine, uuid, folder));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts the serial ports of a machine that is off at these sockets: those of a machine that is kept are of the run that made
    /// it.
    ///
    /// # Errors
    /// When a path is none that VirtualBox takes, the machine runs, or `VBoxManage` fails.
    pub fn set_lines(&self, machine: &Machine, uuid: Uuid) -> Result<(), Error> {
        match argv::lines(machine, uuid)? {
            Some(call) => self.call(&call).map(drop),
            None => Ok(()),
        }
    }

    /// The machines of this user.
    ///
    /// # Errors
    /// When `VBoxManage` fails.
    pub fn machines(&self) -> Result<Vec<(String, Uuid)>, Error> {
        Ok(machinereadable::machines(&self.call(&Call::new(["list", "vms"]))?))
    }

    /// Everything that is said of a machine.
    ///
    /// # Errors
    /// When there is no such machine, or `VBoxManage` fails.
    pub fn info(&self, uuid: Uuid) -> Result<Properties, Error> {
        let id = uuid.to_string();
        Ok(Properties::parse(&self.call(&Call::new(["showvminfo", &id, "--machinereadable"]))?))
    }

    /// What a machine is doing.
    ///
    /// # Errors
    /// When there is no such machine, or `VBoxManage` fails.
    pub fn state(&self, uuid: Uuid) -> Result<State, Error> {
        let word = self.info(uuid)?.get("VMState").map(State::parse);
        word.ok_or_else(|| {
            let said = Said { stderr: "it says no VMState".into(), ..Said::default() };
            Error::VirtualBox(Refusal::new("showvminfo", &said))
        })
    }

    /// Switches it on, without a window. It belongs to VirtualBox's own process from then on.
    ///
    /// # Errors
    /// When it cannot be started, with the reason that `VBoxHeadless` gives where `VBoxManage` gives none.
    pub fn start(&self, uuid: Uuid) -> Result<(), Error> {
        let call = Call::new(["startvm", &uuid.to_string(), "--type", "headless"]);
        let error = match self.call(&call) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error {
            Error::VirtualBox(refusal)
                if refusal.reason.is_none() && refusal.said.contains(failure::ENDED_AT_START) =>
            {
                Err(Error::VirtualBox(self.diagnosed(refusal)))
            }
            error => Err(error),
        }
    }

    /// A guest's process that ends at its start says why to nobody; asked for its version, it stumbles over the same.
    fn diagnosed(&self, refusal: Refusal) -> Refusal {
        let Ok(said) = started(&self.programs.headless, &["--version".to_owned()], DIAGNOSIS_MAX) else {
            return refusal;
        };
        let own = Refusal::new(&refusal.call, &said);
        if own.reason.is_some() { own } else { refusal }
    }

    /// Presses the power button, waits for `grace`, then switches it off; at once where nobody heeds the button. One that does
    /// not run has ended by itself.
    ///
    /// # Errors
    /// When `VBoxManage` fails to switch it off.
    pub fn stop(&self, uuid: Uuid, grace: Duration) -> Result<Stopped, Error> {
        let id = uuid.to_string();
        match self.call(&Call::new(["controlvm", &id, "acpipowerbutton"])) {
            Err(Error::VirtualBox(Refusal { reason: Some(Reason::NotRunning), .. })) => {
                return Ok(Stopped::ByItself);
            }
            // Paused, or given up: there is nobody to press a button for.
            Err(_) => {}
            Ok(_) => {
                if self.until_off(uuid, grace)? {
                    return Ok(Stopped::ByItself);
                }
            }
        }
        match self.call(&Call::new(["controlvm", &id, "poweroff"])) {
            // Its last moment was between the two.
            Err(Error::VirtualBox(Refusal { reason: Some(Reason::NotRunning), .. })) => {
                return Ok(Stopped::ByItself);
            }
            other => other.map(drop)?,
        }
        self.until_off(uuid, OFF_MAX)?;
        Ok(Stopped::Forced)
    }

    /// Waits until it is off; `false` when the time is over first.
    ///
    /// # Errors
    /// When `VBoxManage` fails.
    pub fn until_off(&self, uuid: Uuid, time: Duration) -> Result<bool, Error> {
        let until = Instant::now() + time;
        loop {
            if self.state(uuid)?.is_off() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(POLL.min(left));
        }
    }

    /// Keeps its disks, and its memory if it runs, under this name.
    ///
    /// # Errors
    /// When the name is not one, or `VBoxManage` fails.
    pub fn snapshot(&self, uuid: Uuid, name: &str) -> Result<(), Error> {
        check_tag(name)?;
        self.call(&Call::new(["snapshot", &uuid.to_string(), "take", name])).map(drop)
    }

    /// Goes back to what was kept. The machine is off, and goes on there when it is started.
    ///
    /// # Errors
    /// When there is no such snapshot, the machine runs, or `VBoxManage` fails.
    pub fn restore(&self, uuid: Uuid, name: &str) -> Result<(), Error> {
        check_tag(name)?;
        self.call(&Call::new(["snapshot", &uuid.to_string(), "restore", name])).map(drop)
    }

    /// Forgets what was kept.
    ///
    /// # Errors
    /// When there is no such snapshot, or `VBoxManage` fails.
    pub fn delete_snapshot(&self, uuid: Uuid, name: &str) -> Result<(), Error> {
        check_tag(name)?;
        self.call(&Call::new(["snapshot", &uuid.to_string(), "delete", name])).map(drop)
    }

    /// What was kept. From `showvminfo`, since `snapshot … list` fails where there is none.
    ///
    /// # Errors
    /// When there is no such machine, or `VBoxManage` fails.
    pub fn snapshots(&self, uuid: Uuid) -> Result<Vec<Snapshot>, Error> {
        Ok(machinereadable::snapshots(&self.info(uuid)?))
    }

    /// Removes the machine and all that was written to it. The images it was made over stay as they were brought.
    ///
    /// Not with `unregistervm --delete`: that would delete every image that no other machine uses, and stops half-way where a
    /// difference lies between an image and a snapshot.
    ///
    /// # Errors
    /// When it runs, or `VBoxManage` fails.
    pub fn destroy(&self, machine: &Machine, uuid: Uuid, folder: &Path) -> Result<(), Error> {
        let settings = self.info(uuid)?.get("CfgFile").map(PathBuf::from);
        self.call(&Call::new(["unregistervm", &uuid.to_string()]))?;
        for (number, disk) in machine.disks.iter().enumerate() {
            let overlay = argv::overlay(folder, number);
            for (path, ours) in [(&overlay, true), (&disk.path, false)] {
                // Most are forgotten with the machine; what another machine uses too is not to be.
                drop(self.call(&Call::new(["closemedium", "disk", argv::text(path)?.as_str()])));
                if ours {
                    removed(fs::remove_file(path)).map_err(Error::io("remove", path))?;
                }
            }
        }
        // Its settings, its snapshots and its log are in a folder of VirtualBox's naming.
        let own = settings.as_deref().and_then(Path::parent).filter(|own| own.parent() == Some(folder));
        #[expect(clippy::disallowed_methods, reason = "VirtualBox's folder, not the store's")]
        match own {
            Some(own) => removed(fs::remove_dir_all(own)).map_err(Error::io("remove", own)),
            None => Ok(()),
        }
    }

    /// Runs `VBoxManage`; gives what it printed.
    fn call(&self, call: &Call) -> Result<String, Error> {
        let said = started(&self.programs.manage, call.words(), CALL_MAX)?;
        if said.code == Some(0) {
            // Warnings go to stderr and are not failures: `usbfilter` warns where there is no USB at all.
            return Ok(said.stdout);
        }
        Err(Error::VirtualBox(Refusal::new(call.name(), &said)))
    }
}

/// Names of snapshots are printed without escapes among other values, so they are letters, digits, `.`, `_` and `-`.
pub(crate) fn check_tag(name: &str) -> Result<(), Error> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = (1..=64).contains(&name.len()) && name.chars().all(inside) && !name.starts_with(['-', '.']);
    // A number would be taken for that of a snapshot instead of its name.
    let number = name.bytes().all(|byte| byte.is_ascii_digit()) || name.parse::<Uuid>().is_ok();
    if fits && !number { Ok(()) } else { Err(Error::SnapshotName(command::plain(name))) }
}

/// What is not there need not be removed.
fn removed(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn started(program: &[OsString], words: &[String], time: Duration) -> Result<Said, Error> {
    let line: Vec<OsString> = program.iter().cloned().chain(words.iter().map(OsString::from)).collect();
    command::run(&line, time).map_err(|source| {
        let program = program.first().cloned().unwrap_or_default();
        if source.kind() == io::ErrorKind::NotFound {
            return Error::NoProgram { program: program.into(), package: "virtualbox" };
        }
        Error::io("run", program)(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_behind_warnings() {
        let text = "WARNING: The character device /dev/vboxdrv does not exist.\n\t most likely linux-headers-6.18.44.\n\n7.2.22_Debianr175245\n";
        let version = Version::parse(text).unwrap();
        assert_eq!((version.major, version.minor, version.text.as_str()), (7, 2, "7.2.22_Debianr175245"));
        assert_eq!(Version::parse("10.0.1r1\n").unwrap().major, 10);
        for none in ["", "7", "7.2", "VirtualBox 7.2.1", "7.2.x\n"] {
            assert_eq!(Version::parse(none), None, "{none}");
        }
    }

    #[test]
    fn states_are_virtualbox_words() {
        assert_eq!(State::parse("poweroff"), State::Off);
        assert_eq!(State::parse("gurumeditation"), State::Stuck);
        assert_eq!(State::parse("teleporting"), State::Other("teleporting".into()));
        assert!(State::parse("aborted").is_off() && !State::parse("paused").is_off());
    }

    #[test]
    fn names_of_snapshots_are_plain() {
        for good in ["clean", "before-update_2.1", "a1"] {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "a b",
            "a\"b",
            "a\nb",
            "12",
            "11111111-2222-3333-4444-555555555556",
            &"a".repeat(65),
        ] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }
}
