//! Walking what a self-unpacking file carries, instead of the file.

use std::path::Path;

use super::{Payload, of_program, of_script};
use crate::archive::{self, Format, Limits, Source, Visit};
use crate::{Error, elf};

/// Whether a file of this format is a wrapper around one archive, which can be unpacked without running it: an AppImage
/// or a makeself script.
#[must_use]
pub fn carries_archive(format: Format) -> bool {
    matches!(format, Format::AppImage | Format::Makeself)
}

/// Walks the archives that an AppImage or a makeself script carries, as [`archive::walk`] walks an archive: nothing of the
/// file is run. Where makeself carries several, they follow each other, as its own script unpacks them.
///
/// # Errors
/// As [`archive::walk`]; [`Error::Unsupported`] when the file carries nothing that can be unpacked.
pub fn walk_carried<E: From<Error>>(path: &Path, limits: &Limits, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let format = archive::detect(path)?;
    let source = &mut Source::open(path)?;
    let payloads = match format {
        Format::AppImage => image(path, source)?,
        Format::Makeself => of_script(source)?,
        _ => Vec::new(),
    };
    if payloads.is_empty() {
        let what = "it carries no archive that can be unpacked without running it";
        return Err(Error::unsupported(path, what).into());
    }
    for payload in payloads {
        let mut window = source.window(payload.offset, payload.size);
        archive::walk_in(&mut window, payload.format, limits, visit)?;
    }
    Ok(())
}

/// The file system of an AppImage: the first behind its runtime, which is what the runtime mounts. Signatures follow it.
fn image(path: &Path, source: &mut Source<'_>) -> Result<Vec<Payload>, Error> {
    let appended = elf::read_file(path)?.appended;
    let end = appended.map_or_else(|| source.len(), |appended| appended.offset);
    let found = of_program(source, end)?;
    let is_image = |payload: &Payload| matches!(payload.format, Format::Squashfs | Format::Iso);
    Ok(found.into_iter().find(is_image).into_iter().collect())
}
