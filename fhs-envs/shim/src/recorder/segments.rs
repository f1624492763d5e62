//! The log on disk: see [`hatchway_wire::log`] for the format.
use hatchway_wire::exit::Logged;
use hatchway_wire::log::{
    DATA_MAX, Full, HEAD, Head, Policy, RECORD, Record, SEGMENTS, SIZE_MIN, Stream, name,
};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::OwnedFd;

/// What became of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is in the log, or was counted as dropped.
    Done,
    /// There is no room, and the oldest may not go for it: so many bytes are in the log, and the others have to wait.
    NoRoom(usize),
}

/// More than two pipes and what was read of one hold.
const REST_MAX: u64 = 4 << 20;
/// Less than that is not worth a record at the end of a segment.
const ROOM_MIN: u64 = 4 << 10;

#[derive(Debug)]
pub(super) struct Segments {
    folder: OwnedFd,
    policy: Policy,
    /// What one segment may have.
    each: u64,
    current: Option<(File, u64)>,
    number: u64,
    /// Number and size of those that are finished, and how many bytes of the tool's output are in each.
    finished: VecDeque<(u64, u64, u64)>,
    /// Bytes of the tool's output in the segment that is written.
    held: u64,
    /// Of each stream, whether kept or not.
    said: [u64; 3],
    dropped: u64,
    trouble: Option<String>,
}

impl Segments {
    pub(super) fn new(folder: OwnedFd, policy: Policy) -> Self {
        let policy = Policy { size: policy.size.max(SIZE_MIN), ..policy };
        Self {
            folder,
            policy,
            each: policy.size / SEGMENTS,
            current: None,
            number: 0,
            finished: VecDeque::new(),
            held: 0,
            said: [0; 3],
            dropped: 0,
            trouble: None,
        }
    }

    /// Keeps a piece of output. Where the disk has no room, the oldest of our own goes first.
    pub(super) fn append(&mut self, stream: Stream, data: &[u8], realtime_ns: i64) -> Kept {
        let mut kept = 0;
        while kept < data.len() {
            let rest = &data[kept..data.len().min(kept.saturating_add(DATA_MAX))];
            let written = self.write(stream, rest, realtime_ns);
            self.trouble = written.as_ref().err().map(io::Error::to_string);
            match written {
                Ok(count) if count > 0 => {
                    self.count(stream, count);
                    if stream != Stream::Remark {
                        self.held = self.held.saturating_add(length(count));
                    }
                    kept = kept.saturating_add(count);
                }
                Ok(_) | Err(_) if self.policy.full != Full::DropOldest => return Kept::NoRoom(kept),
                Ok(_) => drop(self.forget_oldest()),
                // Each turn one of ours goes, so there is an end to it.
                Err(_) => {
                    self.withdraw();
                    if !self.forget_oldest() {
                        self.lose(stream, data.len().saturating_sub(kept));
                        return Kept::Done;
                    }
                }
            }
        }
        Kept::Done
    }

    /// So many bytes were said, and are not kept.
    pub(super) fn lose(&mut self, stream: Stream, bytes: usize) {
        self.count(stream, bytes);
        if stream != Stream::Remark {
            self.dropped = self.dropped.saturating_add(length(bytes));
        }
    }

    /// Throws away all segments but the one that is written.
    pub(super) fn clear(&mut self) {
        while self.forget_oldest() {}
    }

    /// What ended units have left in their pipes has room in any case: it is no more than they hold.
    pub(super) fn admit_the_rest(&mut self) {
        self.policy.size = self.policy.size.saturating_add(self.each.max(REST_MAX));
    }

    /// Why nothing could be written the last time.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn logged(&self) -> Logged {
        Logged { out: self.said[0], err: self.said[1], dropped: self.dropped }
    }

    /// As much as the segment has room for; nothing where the policy has no room for another one.
    fn write(&mut self, stream: Stream, data: &[u8], realtime_ns: i64) -> io::Result<usize> {
        let needed = length(RECORD + data.len());
        let room = |size: u64, each: u64| each.saturating_sub(size);
        let left = self.current.as_ref().map(|(_, size)| room(*size, self.each));
        if left.is_some_and(|left| left < needed.min(ROOM_MIN)) {
            self.finish();
        }
        if self.current.is_none() {
            let kept: u64 = self.finished.iter().map(|(_, size, _)| size).sum();
            if kept.saturating_add(self.each) > self.policy.size && !self.finished.is_empty() {
                return Ok(0);
            }
            self.begin()?;
        }
        let Some((file, size)) = &mut self.current else { return Ok(0) };
        let most = usize::try_from(room(*size, self.each)).unwrap_or(usize::MAX).saturating_sub(RECORD);
        let data = &data[..data.len().min(most)];
        let before = self.said[stream.index()];
        let head = Record { length: data.len(), stream, realtime_ns, before }.bytes();
        let result = write_whole(file, &head, data);
        if let Err(error) = result {
            // What was written of it is taken back, or the segment ends here for every reader.
            if rustix::fs::ftruncate(&*file, *size).is_err() {
                self.finish();
            }
            return Err(error);
        }
        *size = size.saturating_add(length(RECORD + data.len()));
        Ok(data.len())
    }

    /// A segment with nothing in it takes room, and helps nobody.
    fn withdraw(&mut self) {
        if self.current.as_ref().is_some_and(|(_, size)| *size <= length(HEAD)) {
            self.current = None;
            rustix::fs::unlinkat(&self.folder, name(self.number), AtFlags::empty()).ok();
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.number.saturating_add(1);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from(0o640);
        let mut file = File::from(rustix::fs::openat(&self.folder, name(number), flags, mode)?);
        if let Err(error) = file.write_all(&Head { number, before: self.said }.bytes()) {
            rustix::fs::unlinkat(&self.folder, name(number), AtFlags::empty()).ok();
            return Err(error);
        }
        self.number = number;
        self.current = Some((file, length(HEAD)));
        Ok(())
    }

    fn finish(&mut self) {
        if let Some((_, size)) = self.current.take() {
            self.finished.push_back((self.number, size, self.held));
            self.held = 0;
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((number, _, held)) = self.finished.pop_front() else { return false };
        match rustix::fs::unlinkat(&self.folder, name(number), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // It stays on disk, and counts as gone: there is nothing else to be done about it.
            Err(_) => {}
        }
        self.dropped = self.dropped.saturating_add(held);
        true
    }

    fn count(&mut self, stream: Stream, bytes: usize) {
        let said = &mut self.said[stream.index()];
        *said = said.saturating_add(length(bytes));
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Both parts in one call where the kernel takes them at once, so that a kill finds whole records.
fn write_whole(file: &mut File, head: &[u8], data: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[IoSlice::new(head), IoSlice::new(data)])?;
    if let Some(rest) = written.checked_sub(head.len()) {
        return file.write_all(&data[rest..]);
    }
    file.write_all(&head[written..])?;
    file.write_all(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    /// Everything that is kept, and how many bytes of standard output are missing before and between.
    fn read(path: &std::path::Path) -> (Vec<u8>, u64) {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let (mut all, mut missing, mut next) = (Vec::new(), 0, 0);
        for name in names {
            let bytes = std::fs::read(name).unwrap();
            assert!(Head::read(&bytes).is_some());
            let mut at = HEAD;
            while let Some(record) = Record::read(&bytes[at..]) {
                missing += record.before - next;
                next = record.before + record.length as u64;
                all.extend(&bytes[at + RECORD..at + RECORD + record.length]);
                at += RECORD + record.length;
            }
            assert_eq!(at, bytes.len());
        }
        (all, missing)
    }

    #[test]
    fn the_oldest_goes_and_each_byte_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Segments::new(open(folder.path()), Policy { size: SIZE_MIN, full: Full::DropOldest });
        let piece = vec![7; 50_000];
        for _ in 0..100 {
            assert_eq!(log.append(Stream::Out, &piece, 1), Kept::Done);
        }
        let (kept, missing) = read(folder.path());
        let logged = log.logged();
        assert_eq!((logged.out, logged.dropped), (5_000_000, missing));
        assert_eq!(kept.len() as u64 + missing, 5_000_000);
        assert!(kept.len() as u64 <= SIZE_MIN && kept.len() as u64 > SIZE_MIN / 2, "{}", kept.len());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_no_reason_to_turn_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Segments::new(open(folder.path()), Policy { size: SIZE_MIN, full: Full::DropOldest });
        assert_eq!(log.append(Stream::Out, &[7; 5000], 1), Kept::Done);
        log.finish();
        // The next segment takes its head and nothing more.
        let full = || File::options().write(true).open("/dev/full").unwrap();
        log.current = Some((full(), length(HEAD)));
        assert_eq!(log.append(Stream::Out, &[8; 5000], 1), Kept::Done);
        assert_eq!(log.logged(), Logged { out: 10_000, err: 0, dropped: 5000 });
        assert_eq!(read(folder.path()).0, [8; 5000]);
        // No segment can be made at all.
        folder.close().unwrap();
        log.finish();
        assert_eq!(log.append(Stream::Err, &[9; 5000], 1), Kept::Done);
        assert_eq!(log.logged(), Logged { out: 10_000, err: 5000, dropped: 15_000 });
        assert!(log.trouble().is_some());
        let mut log =
            Segments::new(open(std::path::Path::new("/")), Policy { size: SIZE_MIN, full: Full::Block });
        log.current = Some((full(), length(HEAD)));
        assert_eq!(log.append(Stream::Out, b"x", 1), Kept::NoRoom(0));
    }

    #[test]
    fn where_nothing_may_go_there_is_no_room_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Segments::new(open(folder.path()), Policy { size: SIZE_MIN, full: Full::Block });
        let piece = vec![7; 60_000];
        let mut kept = 0;
        let cut = loop {
            match log.append(Stream::Out, &piece, 1) {
                Kept::Done => kept += 1,
                Kept::NoRoom(cut) => break cut as u64,
            }
        };
        assert_eq!(kept, 17, "and {cut} bytes");
        assert_eq!(log.append(Stream::Err, b"x", 1), Kept::NoRoom(0));
        assert_eq!(log.logged().dropped, 0);
        log.clear();
        assert_eq!(log.append(Stream::Err, b"x", 1), Kept::Done);
        // All that there was: the last segment was full, too.
        assert_eq!(log.logged().dropped, kept * 60_000 + cut);
    }
}
