//! Counting what is unpacked, and handing an entry with its content to the visitor.

use std::io::{self, Read};
use std::path::Path;

use super::guard::Guard;
use super::{Entry, EntryKind, Limits, Part, Visit, printable};
use crate::Error;

/// The state of one walk: bounds, names, and what has been used of them.
pub(super) struct Walk<'w> {
    pub(super) archive: &'w Path,
    pub(super) limits: &'w Limits,
    entries: u64,
    bytes: u64,
    bytes_max: u64,
}

impl<'w> Walk<'w> {
    /// For an archive of `length` bytes; `None` for a directory, which is its own size.
    pub(super) fn new(archive: &'w Path, length: Option<u64>, limits: &'w Limits) -> Self {
        let bytes_max = length.map_or(limits.total_bytes, |length| limits.total_for(length));
        Self { archive, limits, entries: 0, bytes: 0, bytes_max }
    }

    /// Counts unpacked bytes before they are read.
    pub(super) fn count_bytes(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(Error::limit(self.archive, "unpacked bytes in all", self.bytes_max));
        }
        Ok(())
    }

    /// Passes over the padding after a member.
    pub(super) fn skip(&mut self, stream: &mut dyn Read, bytes: u64) -> Result<(), Error> {
        self.count_bytes(bytes)?;
        let skipped = io::copy(&mut stream.take(bytes), &mut io::sink())
            .map_err(|e| Error::decoding(self.archive, "the padding after a member", e))?;
        if skipped == bytes {
            Ok(())
        } else {
            Err(Error::truncated(self.archive, "it ends in the padding after a member"))
        }
    }

    /// Reads what follows the end marker, so that a damaged checksum at the very end is noticed too. `what` is that end.
    pub(super) fn drain(&mut self, stream: &mut dyn Read, what: &str) -> Result<(), Error> {
        let mut buffer = [0_u8; 8192];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => self.count_bytes(got as u64)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::decoding(self.archive, what, e)),
            }
        }
    }

    /// Whether an entry of so many bytes could still be unpacked.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), Error> {
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(Error::limit(self.archive, "unpacked bytes in all", self.bytes_max));
        }
        Ok(())
    }

    /// Checks an entry against bounds and against earlier entries.
    pub(super) fn admit(&mut self, guard: &mut Guard, entry: &Entry) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::limit(self.archive, "number of entries", self.limits.entries));
        }
        if let EntryKind::File { size } = entry.kind {
            if size > self.limits.file_bytes {
                let what = format!("size of member `{}` ({size} bytes)", shown(entry));
                return Err(Error::limit(self.archive, what, self.limits.file_bytes));
            }
            self.count_bytes(size)?;
        }
        guard.admit(self.archive, entry, self.limits)
    }

    /// Checks a symbolic link's target as found in the archive.
    pub(super) fn symlink_target(&self, member: &[u8], raw: &[u8]) -> Result<String, Error> {
        let refuse = |what: &str| Error::hostile(self.archive, printable(member), what);
        if raw.is_empty() {
            return Err(refuse("is a symbolic link to nothing"));
        }
        if raw.len() > self.limits.symlink_bytes {
            return Err(refuse("is a symbolic link with a target longer than Linux allows"));
        }
        if raw.contains(&0) {
            return Err(refuse("is a symbolic link with a NUL in its target"));
        }
        Ok(super::path::decoded(raw).into_owned())
    }
}

/// Calls the visitor with exactly `size` bytes of `source`, reads what it left, and prefers the stream's own error.
pub(super) fn deliver<E: From<Error>>(
    archive: &Path,
    part: Part,
    entry: &Entry,
    source: &mut dyn Read,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
    let mut content = Content { source, left: size, failure: None };
    let visited = visit(part, entry, &mut content);
    if visited.is_ok() && content.failure.is_none() {
        // A failure is kept in `content`, where it is looked for next.
        let _left_unread = io::copy(&mut content, &mut io::sink());
    }
    if let Some(failure) = content.failure {
        return Err(Error::decoding(archive, &format!("member `{}`", shown(entry)), failure).into());
    }
    visited
}

/// A reader of exactly `left` bytes that keeps the first error of its source.
struct Content<'s> {
    source: &'s mut dyn Read,
    left: u64,
    failure: Option<io::Error>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::new(failure.kind(), "the archive is damaged here"));
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let failure = match self.source.read(&mut buffer[..want]) {
            Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof),
            Ok(got) => {
                self.left -= got as u64;
                return Ok(got);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => e,
        };
        let told = io::Error::new(failure.kind(), "the archive is damaged here");
        self.failure = Some(failure);
        Err(told)
    }
}

fn shown(entry: &Entry) -> String {
    printable(entry.path.as_str().as_bytes())
}
