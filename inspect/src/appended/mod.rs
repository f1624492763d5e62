//! Data behind the end of a program or a script.

mod encoded;
mod magic;
mod makeself;
mod program;
mod script;
#[cfg(test)]
mod tests;
mod walk;

use crate::Error;
use crate::archive::{self, Format, Source};

pub(crate) use magic::name_of;
pub use walk::{carries_archive, walk_carried};

/// Bytes of a script in which the variables of its head are looked for.
const HEADER: usize = 64 << 10;

/// An archive that begins somewhere inside a file that is no archive itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Where it begins.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) size: u64,
    /// What it is.
    pub(crate) format: Format,
}

/// Finds the archives appended to a script (makeself and other self-extracting installers).
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of_script(source: &mut Source<'_>) -> Result<Vec<Payload>, Error> {
    script::payloads(source)
}

/// The script that a self-extracting archive runs when it has unpacked itself, as a path in what it unpacks.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn startup_script(source: &mut Source<'_>) -> Result<Option<String>, Error> {
    let head = source.read_at(0, HEADER)?;
    Ok(if head.starts_with(b"#!") { makeself::startup(&head) } else { None })
}

/// Finds the archives appended to an ELF or PE program, from `offset` on, in the order of their offsets.
///
/// A payload may also be the whole file: the ISO image that an AppImage of type 1 is, or a zip archive that counts from
/// the beginning of the program.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of_program(source: &mut Source<'_>, offset: u64) -> Result<Vec<Payload>, Error> {
    program::payloads(source, offset)
}

/// Finds an archive in a program that has nothing behind its end: PyInstaller on Linux puts its package into a section.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn in_program(source: &mut Source<'_>) -> Result<Vec<Payload>, Error> {
    let package = archive::pyinstaller::find(source)?;
    let payload = package.map(|found| (found.offset, found.size, Format::PyInstaller));
    Ok(payload.into_iter().map(|(offset, size, format)| Payload { offset, size, format }).collect())
}
