//! Snapshots of the disk of a guest that is off: in its kept difference, by `qemu-img`, which QEMU's lock keeps out while the
//! guest runs. Those of memory and disks of a guest that runs are [`super::Guest`]'s.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::argv::text;
use super::overlay;
use crate::command::{self, Said, plain};
use crate::error::Error;
use crate::virtualbox::check_tag;

/// A snapshot copies no data, but deleting one looks at every cluster of a disk that may be large and slow.
const CALL_MAX: Duration = Duration::from_secs(360);
/// What `qemu-img` and QEMU say where another process has the disk open (`raw_check_lock_bytes` in QEMU's block/file-posix.c).
const LOCKED: &str = "Is another process using the image";

/// A snapshot of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    #[serde(rename = "date-sec")]
    pub made: i64,
    /// Bytes of the guest's memory in it; 0 where it was off.
    #[serde(rename = "vm-state-size")]
    pub memory: u64,
}

/// The part of `qemu-img info --output=json` that is wanted: QEMU's QAPI type `ImageInfo`.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    snapshots: Vec<Snapshot>,
}

/// The snapshots of a difference, in the order in which they were made. The guest may run.
///
/// # Errors
/// When the file is no difference any more, or `qemu-img` fails.
pub fn list(disk: &Path) -> Result<Vec<Snapshot>, Error> {
    let said = called(disk, &["info", "-U", "--output=json"])?;
    let mut info: Info = serde_json::from_str(&said.stdout).map_err(|_| refused(disk, "info", &said))?;
    for snapshot in &mut info.snapshots {
        // A stranger may have made them; ours are plain.
        snapshot.name = plain(&snapshot.name);
    }
    Ok(info.snapshots)
}

/// Keeps what the disk is now under this name.
///
/// # Errors
/// When the name is not one or is taken, the guest runs, or `qemu-img` fails.
pub fn take(disk: &Path, name: &str) -> Result<(), Error> {
    check_tag(name)?;
    // `qemu-img` would make a second one of the same name.
    if list(disk)?.iter().any(|snapshot| snapshot.name == name) {
        return Err(Error::SnapshotThere(name.to_owned()));
    }
    called(disk, &["snapshot", "-c", name]).map(drop)
}

/// Makes the disk what it was; what was written since is gone.
///
/// # Errors
/// When there is no such snapshot, the guest runs, or `qemu-img` fails.
pub fn restore(disk: &Path, name: &str) -> Result<(), Error> {
    there(disk, name)?;
    called(disk, &["snapshot", "-a", name]).map(drop)
}

/// Forgets a snapshot.
///
/// # Errors
/// As [`restore`].
pub fn delete(disk: &Path, name: &str) -> Result<(), Error> {
    there(disk, name)?;
    called(disk, &["snapshot", "-d", name]).map(drop)
}

fn there(disk: &Path, name: &str) -> Result<(), Error> {
    check_tag(name)?;
    let names: Vec<String> = list(disk)?.into_iter().map(|snapshot| snapshot.name).collect();
    if names.iter().any(|there| there == name) {
        return Ok(());
    }
    Err(Error::NoSnapshot { name: name.to_owned(), there: names })
}

/// Runs `qemu-img` as whom the disk belongs to, who wrote all that it reads. The format is said: the disk's first bytes are the
/// guest's only in the image below.
fn called(disk: &Path, words: &[&str]) -> Result<Said, Error> {
    overlay::checked(disk)?;
    let meta = fs::symlink_metadata(disk).map_err(Error::io("look at", disk))?;
    let user = rustix::process::geteuid().is_root().then_some((meta.uid(), meta.gid()));
    let path = text(disk)?.replace(',', ",,");
    let image = format!("driver=qcow2,file.driver=file,file.filename={path}");
    let (verb, options) = words.split_first().map_or(("", words), |(verb, options)| (*verb, options));
    let line: Vec<OsString> = ["qemu-img", verb, "--image-opts"]
        .iter()
        .chain(options)
        .map(OsString::from)
        .chain([OsString::from(image)])
        .collect();
    let said = command::run_as(user, &line, CALL_MAX).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NoProgram { program: "qemu-img".into(), package: "qemu-utils" }
        }
        _ => Error::io("run", "qemu-img")(source),
    })?;
    if said.code == Some(0) { Ok(said) } else { Err(refused(disk, verb, &said)) }
}

fn refused(disk: &Path, verb: &str, said: &Said) -> Error {
    if said.stderr.contains(LOCKED) {
        return Error::Busy(disk.to_owned());
    }
    Error::Image {
        path: disk.to_owned(),
        reason: format!("is refused by `qemu-img {verb}`: {}", plain(&said.stderr)),
        hint: format!("`qemu-img check -f qcow2 {}` says more", disk.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Disk, Format};

    #[test]
    fn a_disk_goes_back_to_what_it_was() {
        // A comma in a path is an option's end for QEMU.
        let scratch = tempfile::Builder::new().prefix("a,b").tempdir().unwrap();
        let base = scratch.path().join("base.raw");
        fs::write(&base, vec![0; 1 << 20]).unwrap();
        let disk = Disk { path: base, format: Format::Raw, read_only: false };
        let over = overlay::fresh(&[disk], scratch.path(), None).unwrap().remove(0);
        assert_eq!(list(&over).unwrap(), []);
        take(&over, "clean").unwrap();
        assert!(matches!(take(&over, "clean"), Err(Error::SnapshotThere(_))));
        take(&over, "later").unwrap();
        let names: Vec<String> = list(&over).unwrap().into_iter().map(|snapshot| snapshot.name).collect();
        assert_eq!(names, ["clean", "later"]);
        restore(&over, "clean").unwrap();
        delete(&over, "later").unwrap();
        let gone = restore(&over, "later").unwrap_err();
        assert_eq!(gone.to_string(), "there is no snapshot `later`");
        assert_eq!(gone.hint().as_deref(), Some("there is clean"));
        assert!(matches!(delete(&over, "a b"), Err(Error::SnapshotName(_))));
        // What has become something else is not opened.
        fs::write(&over, "QFI\u{fb}").unwrap();
        assert!(list(&over).unwrap_err().to_string().contains("no difference over an image any more"));
    }
}
