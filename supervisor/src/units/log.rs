//! What a unit has said, read from the segments of its log ([`hatchway_wire::log`]) while they are written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hatchway_wire::log::{self, HEAD, Head, RECORD, Record, Stream};
use serde::Serialize;

/// A line without an end is given out as one when it has got so long.
const LINE_MAX: usize = 64 << 10;

/// A line, or what of one was said before something else was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// When its first byte was read: `CLOCK_REALTIME`, nanoseconds.
    pub realtime_ns: i64,
    /// Who said it.
    pub stream: Stream,
    /// Bytes of this stream before it that the log has not got any more.
    pub missing: u64,
    /// Without its end.
    pub text: String,
}

/// Where reading is.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// The segment that is read, and how far.
    open: Option<(u64, File, u64)>,
    next: u64,
    /// Of each stream, the number of the byte that comes next.
    expected: [u64; 3],
    /// Of each stream, the line that has no end yet.
    begun: [Option<(i64, u64, Vec<u8>)>; 3],
    /// Of each stream, whether its last line was given out before its end came.
    cut: [bool; 3],
    /// Where what was there ends, if only that is wanted: a segment, and bytes of it.
    end: Option<(u64, u64)>,
}

/// One record.
struct Piece {
    record: Record,
    data: Vec<u8>,
}

impl Reader {
    /// Of the log in a unit's folder, from its beginning on.
    #[must_use]
    pub fn new(unit: &Path) -> Self {
        let folder = unit.join(log::FOLDER);
        let (expected, begun, cut) = ([0; 3], [None, None, None], [false; 3]);
        Self { folder, open: None, next: 1, expected, begun, cut, end: None }
    }

    /// Only what is there now is read, though the unit never rest. No clock says what that is: those can be set.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn hold(&mut self) -> io::Result<()> {
        let last = numbers(&self.folder)?.into_iter().max().unwrap_or_default();
        let size = match fs::metadata(self.folder.join(log::name(last))) {
            Ok(there) => there.len(),
            // It went to make room, so there are later ones.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.end = Some((last, size));
        Ok(())
    }

    /// What has come since is read, too.
    pub fn go_on(&mut self) {
        self.end = None;
    }

    fn is_at_end(&self) -> bool {
        let at = self.open.as_ref().map_or((self.next, 0), |(number, _, at)| (*number, *at));
        self.end.is_some_and(|end| at >= end)
    }

    /// What there is now, a few lines at a time; nothing where there is no more. What is cut off is given out with `rest`.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn lines(&mut self, rest: bool) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            let Some(piece) = self.piece()? else { break };
            self.split(&piece, &mut lines);
        }
        if lines.is_empty() && rest {
            let mut left: Vec<Line> =
                Stream::ALL.into_iter().filter_map(|stream| self.take(stream)).collect();
            left.sort_by_key(|line| line.realtime_ns);
            return Ok(left);
        }
        Ok(lines)
    }

    fn split(&mut self, piece: &Piece, lines: &mut Vec<Line>) {
        let Record { stream, realtime_ns, before, .. } = piece.record;
        let index = stream.index();
        let missing = before.saturating_sub(self.expected[index]);
        self.expected[index] = before.saturating_add(u64::try_from(piece.data.len()).unwrap_or(u64::MAX));
        if missing > 0 {
            // What was begun has lost its end.
            lines.extend(self.take(stream));
        }
        let mut missing = missing;
        let mut rest = piece.data.as_slice();
        if std::mem::take(&mut self.cut[index]) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            let begun = self.begun[index].get_or_insert_with(|| (realtime_ns, missing, Vec::new()));
            missing = 0;
            begun.2.extend_from_slice(part);
            if end.is_some() || begun.2.len() >= LINE_MAX {
                lines.extend(self.take(stream));
            }
            self.cut[index] = end.is_none() && self.begun[index].is_none();
            rest = after.strip_prefix(b"\n").unwrap_or(after);
        }
    }

    fn take(&mut self, stream: Stream) -> Option<Line> {
        let (realtime_ns, missing, text) = self.begun[stream.index()].take()?;
        let text = text.strip_suffix(b"\r").unwrap_or(&text);
        Some(Line { realtime_ns, stream, missing, text: String::from_utf8_lossy(text).into_owned() })
    }

    fn piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            if self.is_at_end() {
                return Ok(None);
            }
            let Some((number, file, at)) = &mut self.open else { return Ok(None) };
            let number = *number;
            let mut piece = read(file, *at)?;
            if piece.is_none() {
                // Once there is a later one, nothing more comes to this; what came before that is read now.
                if first(&self.folder, number.saturating_add(1))?.is_none() {
                    return Ok(None);
                }
                piece = read(file, *at)?;
            }
            if let Some(piece) = piece {
                *at = at.saturating_add(u64::try_from(RECORD + piece.data.len()).unwrap_or(u64::MAX));
                return Ok(Some(piece));
            }
            self.open = None;
            self.next = number.saturating_add(1);
        }
    }

    /// The oldest of those that are still there and were not read.
    fn open_next(&mut self) -> io::Result<bool> {
        while let Some(number) = first(&self.folder, self.next)? {
            match File::open(self.folder.join(log::name(number))) {
                Ok(file) => {
                    let mut head = [0; HEAD];
                    let whole = match file.read_exact_at(&mut head, 0) {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                        other => other.map(|()| true)?,
                    };
                    if !whole || Head::read(&head).is_none() {
                        let later = first(&self.folder, number.saturating_add(1))?.is_some();
                        match (whole, later) {
                            // A power cut has left it so, where the folder is on a disk.
                            (_, true) => self.next = number.saturating_add(1),
                            // It is made just now.
                            (false, false) => return Ok(false),
                            (true, false) => {
                                return Err(io::Error::other(
                                    "it is no segment of a log that this version reads",
                                ));
                            }
                        }
                        continue;
                    }
                    self.open = Some((number, file, u64::try_from(HEAD).unwrap_or(u64::MAX)));
                    return Ok(true);
                }
                // It went to make room.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.next = number.saturating_add(1),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn read(file: &File, at: u64) -> io::Result<Option<Piece>> {
    let whole = |buffer: &mut [u8], at| match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    let mut head = [0; RECORD];
    if !whole(&mut head, at)? {
        return Ok(None);
    }
    let Some(record) = Record::read(&head) else { return Ok(None) };
    let mut data = vec![0; record.length];
    let there = whole(&mut data, at.saturating_add(u64::try_from(RECORD).unwrap_or(u64::MAX)))?;
    Ok(there.then_some(Piece { record, data }))
}

/// The lowest number of a segment from this one on.
fn first(folder: &Path, from: u64) -> io::Result<Option<u64>> {
    Ok(numbers(folder)?.into_iter().filter(|number| *number >= from).min())
}

/// Of all segments.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(entries.flatten().filter_map(|entry| log::number_of(entry.file_name().to_str()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment with these pieces: stream, bytes of it before, what it holds.
    fn segment(folder: &Path, number: u64, pieces: &[(Stream, u64, &str)]) {
        fs::create_dir_all(folder.join(log::FOLDER)).unwrap();
        let mut bytes = Head { number, before: [0; 3] }.bytes().to_vec();
        for (stream, before, text) in pieces {
            let record = Record { length: text.len(), stream: *stream, realtime_ns: 5, before: *before };
            bytes.extend(record.bytes());
            bytes.extend(text.as_bytes());
        }
        fs::write(folder.join(log::FOLDER).join(log::name(number)), bytes).unwrap();
    }

    fn texts(reader: &mut Reader, rest: bool) -> Vec<(Stream, u64, String)> {
        let mut all = Vec::new();
        loop {
            let lines = reader.lines(rest).unwrap();
            if lines.is_empty() {
                return all;
            }
            all.extend(lines.into_iter().map(|line| (line.stream, line.missing, line.text)));
        }
    }

    #[test]
    fn lines_of_two_streams_are_put_together_over_segments() {
        let folder = tempfile::tempdir().unwrap();
        segment(folder.path(), 1, &[(Stream::Out, 0, "one\ntw"), (Stream::Err, 0, "oops\n")]);
        segment(folder.path(), 2, &[(Stream::Out, 6, "o\nthree")]);
        let mut reader = Reader::new(folder.path());
        let told = |stream, text: &str| (stream, 0, text.to_owned());
        let expected = [told(Stream::Out, "one"), told(Stream::Err, "oops"), told(Stream::Out, "two")];
        assert_eq!(texts(&mut reader, false), expected);
        assert_eq!(texts(&mut reader, true), [told(Stream::Out, "three")]);
    }

    #[test]
    fn what_is_there_ends_where_it_was_however_much_comes() {
        let folder = tempfile::tempdir().unwrap();
        let told = |text: &str| (Stream::Out, 0, text.to_owned());
        segment(folder.path(), 1, &[(Stream::Out, 0, "one\ntwo> ")]);
        let mut reader = Reader::new(folder.path());
        reader.hold().unwrap();
        segment(folder.path(), 1, &[(Stream::Out, 0, "one\ntwo> "), (Stream::Out, 9, "yes\n")]);
        segment(folder.path(), 2, &[(Stream::Out, 13, "three\n")]);
        assert_eq!(texts(&mut reader, true), [told("one"), told("two> ")]);
        reader.go_on();
        assert_eq!(texts(&mut reader, true), [told("yes"), told("three")]);
        // Where nothing is there yet, nothing is what there is.
        let empty = tempfile::tempdir().unwrap();
        let mut reader = Reader::new(empty.path());
        reader.hold().unwrap();
        segment(empty.path(), 1, &[(Stream::Out, 0, "late\n")]);
        assert_eq!(texts(&mut reader, true), []);
    }

    #[test]
    fn what_is_missing_is_counted_and_what_is_cut_off_waits() {
        let folder = tempfile::tempdir().unwrap();
        // The first three segments went to make room.
        segment(folder.path(), 4, &[(Stream::Out, 1000, "late\n")]);
        let path = folder.path().join(log::FOLDER).join(log::name(4));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let mut reader = Reader::new(folder.path());
        assert_eq!(texts(&mut reader, true), []);
        fs::write(&path, &whole).unwrap();
        assert_eq!(texts(&mut reader, false), [(Stream::Out, 1000, "late".to_owned())]);
    }
}
