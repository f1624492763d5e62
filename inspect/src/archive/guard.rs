//! What earlier entries forbid later ones.

use std::collections::HashMap;
use std::path::Path;

use super::{Entry, EntryKind, Limits, MemberPath, printable};
use crate::Error;

/// A name the archive has already used, in the sense that matters to a later entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Directory,
    File,
    Symlink,
    Other,
}

impl Seen {
    fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::Directory => Self::Directory,
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => Self::File,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Device { .. } | EntryKind::Fifo | EntryKind::Socket => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File => "a file",
            Self::Symlink => "a symbolic link",
            Self::Other => "a device node, pipe or socket",
        }
    }
}

/// Memory per remembered name beside the name itself: hash table slot, `String` header, allocator.
const NAME_OVERHEAD: u64 = 64;

/// Remembers every name of one tree and refuses entries that would be written through a link, would turn one kind of
/// thing into another, or would link to something outside.
#[derive(Debug, Default)]
pub(super) struct Guard {
    seen: HashMap<String, Seen>,
    name_memory: u64,
}

impl Guard {
    pub(super) fn admit(&mut self, archive: &Path, entry: &Entry, limits: &Limits) -> Result<(), Error> {
        self.check_parents(archive, &entry.path, limits)?;
        if let EntryKind::Hardlink { target } = &entry.kind {
            self.check_hardlink(archive, &entry.path, target, limits)?;
        }
        let kind = Seen::of(&entry.kind);
        if entry.path.is_root() {
            return if kind == Seen::Directory {
                Ok(())
            } else {
                Err(Error::hostile(
                    archive,
                    ".",
                    format!("replaces the root of the archive by {}", kind.name()),
                ))
            };
        }
        match self.seen.get(entry.path.as_str()) {
            Some(&earlier) if earlier != kind => Err(Error::hostile(
                archive,
                shown(&entry.path),
                format!("is {} and was {} earlier in the same archive", kind.name(), earlier.name()),
            )),
            Some(_) => Ok(()),
            None => self.remember(archive, entry.path.as_str(), kind, limits),
        }
    }

    /// Every directory above an entry must be one, named or implied.
    fn check_parents(&mut self, archive: &Path, path: &MemberPath, limits: &Limits) -> Result<(), Error> {
        let text = path.as_str();
        for (end, _) in text.match_indices('/') {
            let parent = &text[..end];
            match self.seen.get(parent) {
                Some(Seen::Directory) => {}
                Some(earlier) => {
                    let what =
                        format!("lies below `{}`, which is {}", printable(parent.as_bytes()), earlier.name());
                    return Err(Error::hostile(archive, shown(path), what));
                }
                None => self.remember(archive, parent, Seen::Directory, limits)?,
            }
        }
        Ok(())
    }

    fn check_hardlink(
        &self,
        archive: &Path,
        path: &MemberPath,
        target: &MemberPath,
        limits: &Limits,
    ) -> Result<(), Error> {
        let aim = printable(target.as_str().as_bytes());
        let what = match self.seen.get(target.as_str()) {
            _ if target == path => format!("is a hard link to itself (`{aim}`)"),
            Some(Seen::File) => return Ok(()),
            None if limits.links_outside => return Ok(()),
            Some(other) => format!("is a hard link to `{aim}`, which is {}, not a file", other.name()),
            None => format!("is a hard link to `{aim}`, which does not appear earlier in the archive"),
        };
        Err(Error::hostile(archive, shown(path), what))
    }

    fn remember(&mut self, archive: &Path, name: &str, kind: Seen, limits: &Limits) -> Result<(), Error> {
        self.name_memory += name.len() as u64 + NAME_OVERHEAD;
        if self.name_memory > limits.name_memory {
            return Err(Error::limit(archive, "memory for the names of its members", limits.name_memory));
        }
        self.seen.insert(name.to_owned(), kind);
        Ok(())
    }
}

fn shown(path: &MemberPath) -> String {
    printable(path.as_str().as_bytes())
}
