//! The folder of one run below the runtime folder: what it leaves to know its end by, and what serves it meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use hatchway_envs::sandbox;
use hatchway_wire::{control, log, ready, unit};

use super::{audio, companion, container, dbus, display, machine, vm};
use crate::context::Context;
use crate::error::Error;
use crate::{units, visit};

/// The record of how the run ended.
pub(crate) const EXIT: &str = "exit.json";
/// A lock that is about to take the place of the unit's, of a start that was killed in between.
pub(crate) const NEW_LOCK: &str = "lock.new";
/// How many finished runs' folders are kept for each tool.
const KEPT: usize = 10;
/// Of how many the log is kept.
const LOGS_KEPT: usize = 2;
/// Files in a run's folder.
const FILES: [&str; 15] = [
    EXIT,
    companion::LOG,
    companion::OUTER_AUTHORITY,
    display::AUTHORITY,
    container::BOOTSTRAP,
    container::SOCKET,
    control::SOCKET,
    ready::FILE,
    unit::FILE,
    NEW_LOCK,
    unit::LOCK,
    unit::SOCKET,
    vm::INITRAMFS,
    vm::LOG,
    vm::CONSOLE,
];
/// Folders in a run's folder in which companions make their sockets, and that of the log. They have no folders in them.
const SERVED: [&str; 5] = [audio::FOLDER, dbus::FOLDER, display::FOLDER, machine::FOLDER, log::FOLDER];
/// How many files of one of those are looked at: a few sockets and a cookie.
const SERVED_MAX: usize = 64;

/// Where the folder of a run will be. The path has no symlink, as the shim demands.
pub(crate) fn path(context: &Context, unit: &str, incarnation: &str) -> Result<PathBuf, Error> {
    let runtime = &context.dirs.runtime;
    fs::create_dir_all(runtime).map_err(Error::io("create", runtime))?;
    let runtime = PathBuf::from(sandbox::host_path(runtime)?.as_str());
    Ok(runtime.join("units").join(unit).join(incarnation))
}

/// Makes it, and removes those of older runs beyond a few.
pub(crate) fn make(run: &Path) -> Result<(), Error> {
    fs::create_dir_all(run).map_err(Error::io("create", run))?;
    let Some(unit) = run.parent() else { return Ok(()) };
    let others = fs::read_dir(unit).map_err(Error::io("read", unit))?.flatten().map(|entry| entry.path());
    // A recorder writes to its log for a moment after the record is there.
    let others = others.filter(|other| !units::is_kept(other));
    // One that was recorded is a run of the unit's also where it has left no record.
    let (finished, unfinished): (Vec<PathBuf>, Vec<PathBuf>) = others.partition(|other| {
        other.join(EXIT).is_file() || (other.join(unit::FILE).exists() && abandoned(other))
    });
    // How often a person has run it in the foreground changes nothing of what is known of the unit.
    let (mut recorded, mut others): (Vec<PathBuf>, Vec<PathBuf>) =
        finished.into_iter().partition(|other| other.join(unit::FILE).exists());
    for finished in [&mut recorded, &mut others] {
        finished.sort();
        finished.iter().rev().skip(KEPT).for_each(|old| remove(old));
        // In memory, mostly: a record is small, a log is not.
        finished.iter().rev().skip(LOGS_KEPT).for_each(|old| remove_log(old));
    }
    unfinished
        .iter()
        .filter(|other| other.as_path() != run && abandoned(other))
        .for_each(|other| remove(other));
    Ok(())
}

/// Its shim is gone without a word, as after a kill: the cookies in it are nobody's any more. A folder bears the number of
/// the process that has become the shim.
fn abandoned(run: &Path) -> bool {
    // With a recorder nobody becomes the shim but its child. The lock is there before this file is, so this is the order to ask in;
    // a shim whose recorder was killed goes on for its grace time.
    if run.join(unit::FILE).exists() {
        return !units::is_kept(run) && !visit::answers(run);
    }
    maker(run).is_some_and(|pid| !is_ours(pid))
}

fn maker(run: &Path) -> Option<u32> {
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').and_then(|(_, pid)| pid.parse().ok())
}

fn is_ours(pid: u32) -> bool {
    let command = fs::read_to_string(format!("/proc/{pid}/comm"));
    // Between its start and its change into the shim, a process is still the command.
    command.is_ok_and(|name| name.starts_with("hatchway"))
}

/// The process that runs a guest from a disk image, if that is what a folder's run is and it has not ended.
pub(crate) fn machine_of(run: &Path) -> Option<u32> {
    // One that is kept bears the number of whoever named it, and answers itself.
    let is_kept = run.join(unit::FILE).exists();
    let runs = run.join(machine::FOLDER).is_dir() && !run.join(EXIT).exists() && !is_kept;
    maker(run).filter(|pid| runs && is_ours(*pid))
}

fn remove_log(run: &Path) {
    let folder = run.join(log::FOLDER);
    for file in fs::read_dir(&folder).into_iter().flatten().flatten().take(SERVED_MAX) {
        drop(fs::remove_file(file.path()));
    }
    drop(fs::remove_dir(folder));
}

/// Removes these files of a run, which has left its record.
pub(super) fn tidy(run: &Path, names: &[&str]) {
    names.iter().for_each(|name| drop(fs::remove_file(run.join(name))));
}

/// Removes what a run leaves. A folder with something else in it stays, and what cannot be removed is tried again at the
/// next start.
pub(crate) fn remove(run: &Path) {
    for name in FILES {
        drop(fs::remove_file(run.join(name)));
    }
    for folder in SERVED.map(|name| run.join(name)) {
        // Only the run's owner can put something else in the place of such a folder.
        for file in fs::read_dir(&folder).into_iter().flatten().flatten().take(SERVED_MAX) {
            drop(fs::remove_file(file.path()));
        }
        drop(fs::remove_dir(folder));
    }
    drop(fs::remove_dir(run));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_without_a_word_is_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        // The number of a process that is no shim, one that no process has, and a name that is no run's.
        assert!(abandoned(&folder.path().join("1700000000000-1")));
        assert!(abandoned(&folder.path().join("1700000000000-4999999")));
        assert!(!abandoned(&folder.path().join("kept-by-somebody")));
    }

    #[test]
    fn a_guest_from_an_image_is_known_by_its_folder_as_long_as_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (own, gone) = (format!("1700000000000-{}", std::process::id()), "1700000000000-4999999");
        for name in [own.as_str(), gone] {
            fs::create_dir_all(folder.path().join(name).join(machine::FOLDER)).unwrap();
        }
        let own = folder.path().join(own);
        // The test program is called like the crate.
        assert_eq!(machine_of(&own), Some(std::process::id()));
        assert_eq!(machine_of(&folder.path().join(gone)), None);
        fs::write(own.join(EXIT), "{}").unwrap();
        assert_eq!(machine_of(&own), None);
    }

    #[test]
    fn a_new_run_clears_away_what_killed_ones_left() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("units/acme");
        let old = unit.join("1700000000000-4999999");
        fs::create_dir_all(old.join("sound")).unwrap();
        for file in ["xauthority", "companions.log", "sound/cookie"] {
            fs::write(old.join(file), "secret").unwrap();
        }
        let foreign = unit.join("1700000000001-4999999");
        fs::create_dir_all(&foreign).unwrap();
        fs::write(foreign.join("notes"), "mine").unwrap();
        make(&unit.join("1700000000002-1")).unwrap();
        assert!(!old.exists());
        assert!(foreign.join("notes").exists());
    }
}
