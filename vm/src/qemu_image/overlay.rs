//! What is written instead of an image: a qcow2 over it, thrown away or kept.
//!
//! A difference is worth nothing over another image than its own: a guest would read a mixture. So a kept one has a note
//! beside it that says which image it is over.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hatchway_envs::lock::write_atomically;

use super::argv::text;
use crate::command::{self, plain};
use crate::error::Error;
use crate::image::{self, Qcow2};
use crate::machine::Disk;

/// `qemu-img create` reads one head and writes another.
const CREATE_MAX: Duration = Duration::from_secs(30);
/// The note is a digest, or a size and a time.
const NOTE_MAX: usize = 256;

/// Makes a new difference over each disk in `folder`, after the disks were looked at. `user` is whom `qemu-img` runs as, which
/// reads what somebody brought; the folder has to be theirs.
///
/// # Errors
/// When an image is not of one file, or `qemu-img` fails.
pub fn fresh(disks: &[Disk], folder: &Path, user: Option<(u32, u32)>) -> Result<Vec<PathBuf>, Error> {
    disks
        .iter()
        .enumerate()
        .map(|(number, disk)| make(disk, &folder.join(format!("disk{number}.qcow2")), user))
        .collect()
}

/// Where what is kept lies. Notes are not in the folder of the guest's user, who could put a link there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The folder of differences, the user's.
    pub disks: &'a Path,
    /// The folder of notes, ours.
    pub notes: &'a Path,
}

/// Takes the differences of a run before, or makes them. `images` says for each disk which image it is, in one line: its
/// digest, where that is known.
///
/// # Errors
/// As [`fresh`], and when a difference is over another image.
pub fn kept(
    disks: &[Disk],
    images: &[String],
    place: Place<'_>,
    user: Option<(u32, u32)>,
) -> Result<Vec<PathBuf>, Error> {
    let one = |(number, (disk, image)): (usize, (&Disk, &String))| {
        let path = place.disks.join(format!("disk{number}.qcow2"));
        let note = place.notes.join(format!("disk{number}.image"));
        let image: String = plain(image).chars().take(NOTE_MAX).collect();
        if fs::symlink_metadata(&path).is_err() {
            // First: a difference without a note could never be gone on with.
            write_atomically(&note, format!("{image}\n").as_bytes())?;
            return make(disk, &path, user);
        }
        image::check(&disk.path, disk.format)?;
        let was = fs::read_to_string(&note).map_err(Error::io("read", &note))?;
        if was.trim_end() != image {
            return Err(Error::Image {
                path: disk.path.clone(),
                reason: format!(
                    "is not the one that `{}` was written over ({})",
                    path.display(),
                    plain(&was)
                ),
                hint: format!(
                    "bring that image back; or give up what was written: `rm {} {}`",
                    path.display(),
                    note.display()
                ),
            });
        }
        checked(&path)?;
        Ok(path)
    };
    disks.iter().zip(images).enumerate().map(one).collect()
}

/// A difference is made and written by QEMU alone; one that has become something else is not opened again.
pub(super) fn checked(path: &Path) -> Result<(), Error> {
    match Qcow2::read(path).map_err(Error::io("read", path))? {
        Some(Qcow2 { backing: true, external: false, encrypted: false }) => Ok(()),
        _ => Err(Error::Image {
            path: path.to_owned(),
            reason: "is no difference over an image any more".into(),
            hint: format!("give up what was written: `rm {}`", path.display()),
        }),
    }
}

fn make(disk: &Disk, path: &Path, user: Option<(u32, u32)>) -> Result<PathBuf, Error> {
    image::check(&disk.path, disk.format)?;
    let words = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        disk.format.name(),
        "-b",
        &text(&disk.path)?,
        &text(path)?,
    ];
    let line: Vec<OsString> = words.iter().map(OsString::from).collect();
    let said = command::run_as(user, &line, CREATE_MAX).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NoProgram { program: "qemu-img".into(), package: "qemu-utils" }
        }
        _ => Error::io("run", "qemu-img")(source),
    })?;
    if said.code == Some(0) {
        return Ok(path.to_owned());
    }
    Err(Error::Image {
        path: disk.path.clone(),
        reason: format!("is refused by qemu-img: {}", plain(&said.stderr)),
        hint: format!("`qemu-img info -f {} {}` says more", disk.format, disk.path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Format;

    fn disk(folder: &Path) -> Disk {
        let path = folder.join("base.raw");
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        Disk { path, format: Format::Raw, read_only: false }
    }

    #[test]
    fn what_is_kept_belongs_to_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let disks = [disk(folder.path())];
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let first = kept(&disks, &["sha256 a".into()], Place { disks: &state, notes: &state }, None).unwrap();
        assert_eq!(
            kept(&disks, &["sha256 a".into()], Place { disks: &state, notes: &state }, None).unwrap(),
            first
        );
        let error =
            kept(&disks, &["sha256 b".into()], Place { disks: &state, notes: &state }, None).unwrap_err();
        assert!(error.to_string().contains("was written over (sha256 a)"), "{error}");
        fs::write(&first[0], "QFI\u{fb}").unwrap();
        let error =
            kept(&disks, &["sha256 a".into()], Place { disks: &state, notes: &state }, None).unwrap_err();
        assert!(error.to_string().contains("no difference over an image any more"), "{error}");
    }

    #[test]
    fn the_format_is_what_was_said_not_what_the_guest_wrote() {
        // The guest of a raw disk writes the head of a qcow2 over /etc/hostname into its first sector.
        let folder = tempfile::tempdir().unwrap();
        let disks = [disk(folder.path())];
        let evil = folder.path().join("evil");
        let words = [
            "qemu-img",
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            "/etc/hostname",
            evil.to_str().unwrap(),
            "1M",
        ];
        let line: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(command::run(&line, CREATE_MAX).unwrap().code, Some(0));
        fs::copy(&evil, &disks[0].path).unwrap();
        let overlay = &fresh(&disks, folder.path(), None).unwrap()[0];
        let read = folder.path().join("read");
        let words = [
            "qemu-img",
            "dd",
            "-f",
            "qcow2",
            "-O",
            "raw",
            "bs=4",
            "count=1",
            &format!("if={}", overlay.display()),
            &format!("of={}", read.display()),
        ];
        let line: Vec<OsString> = words.iter().map(OsString::from).collect();
        let said = command::run(&line, CREATE_MAX).unwrap();
        assert_eq!(said.code, Some(0), "{said:?}");
        // Read through the difference, the disk still begins with those bytes, not with the host's name.
        assert_eq!(fs::read(&read).unwrap()[..4], *b"QFI\xfb");
        // Called a qcow2, the same file is refused before QEMU sees it.
        let called = [Disk { format: Format::Qcow2, ..disks[0].clone() }];
        assert!(
            fresh(&called, folder.path(), None)
                .unwrap_err()
                .to_string()
                .contains("difference to another file")
        );
    }
}
