//! A layout in a tar archive, unpacked into a folder of the store's workspace: only the names that a layout has.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hatchway_inspect::archive::{self, EntryKind, Format, Limits};

use super::folder::DOCUMENT_BYTES_MAX;
use crate::error::Error;
use crate::store::{Store, Workspace, space};

/// Documents that are kept, in all: an index of a thousand images has fewer.
const DOCUMENTS_MAX: usize = 10_000;

/// Unpacks what an image consists of; everything else in the archive is passed over.
pub(super) fn unpack(store: &Store, workspace: &Workspace<'_>, place: &Path) -> Result<PathBuf, Error> {
    let bad = |reason: String| Error::Image { image: place.display().to_string(), reason };
    let size = fs::metadata(place).map_err(Error::io("read", place))?.len();
    if !matches!(archive::detect(place)?, Format::Tar(_)) {
        return Err(bad("it is neither a folder nor a tar archive".into()));
    }
    space::ensure(store.root(), size)?;
    let folder = workspace.scratch("image")?;
    let mut documents = 0;
    archive::walk::<Error>(place, &Limits::default(), &mut |_, entry, content| {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let path = entry.path.as_str();
        let document = matches!(path, "index.json" | "manifest.json")
            || path.strip_suffix(".json").is_some_and(is_digest);
        let part = path.strip_prefix("blobs/sha256/").is_some_and(is_digest)
            || path.strip_suffix("/layer.tar").or(path.strip_suffix(".tar")).is_some_and(is_digest);
        let wanted = part || document && size <= DOCUMENT_BYTES_MAX;
        if !wanted {
            return Ok(());
        }
        documents += 1;
        if documents > DOCUMENTS_MAX {
            return Err(bad(format!("it holds more than {DOCUMENTS_MAX} files")));
        }
        write(&folder.join(path), content)
    })?;
    Ok(folder)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn write(path: &Path, content: &mut dyn Read) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    // A name that stands twice in an archive is its last file.
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    io::copy(content, &mut file).map_err(Error::io("write", path))?;
    Ok(())
}
