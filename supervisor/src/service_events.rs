//! What native services have told of themselves, and the safety daemon, which is one of Hatchway's own beside them: lines of JSON in a file of
//! their runtime folder, for `timeline`. Whoever writes it is not believed further than that: a line is bounded, and steers nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use hatchway_wire::ready::line_of;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::dirs::{Dirs, names_in};
use crate::timeline::Moment;

/// Name of the file.
pub(crate) const FILE: &str = "events.jsonl";
/// What it was called before the one that is written now was begun.
const OLD: &str = "events.jsonl.1";
/// The folder of the safety daemon, below the runtime folder.
pub(crate) const SAFETY: &str = "safety";
/// That of native services, in which each has one.
const SERVICES: &str = "services";
/// Of a file its end is read: so much.
const BYTES_MAX: u64 = 1 << 20;
/// Letters of a kind.
const KIND_MAX: usize = 32;

/// One line. Fields that are not known here are a newer version's.
#[derive(Debug, Deserialize)]
struct Line {
    /// `CLOCK_REALTIME`, in nanoseconds.
    realtime_ns: i64,
    /// In a word: small letters, digits and `-`.
    kind: String,
    /// In words.
    #[serde(default)]
    text: String,
}

/// All that is known, and of whom it cannot be read.
pub(crate) fn all(dirs: &Dirs) -> (Vec<Moment>, Vec<(String, io::Error)>) {
    let services = dirs.runtime.join(SERVICES);
    let mut folders: Vec<_> =
        names_in(&services).into_iter().map(|name| (services.join(&name), name)).collect();
    folders.push((dirs.runtime.join(SAFETY), SAFETY.to_owned()));
    let (mut told, mut unread) = (Vec::new(), Vec::new());
    for (folder, name) in folders {
        match of_folder(&folder, &name) {
            Ok(moments) => told.extend(moments),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unread.push((name, error)),
        }
    }
    (told, unread)
}

fn of_folder(folder: &Path, name: &str) -> io::Result<Vec<Moment>> {
    // Once it is long a service puts it there, and begins anew.
    let mut told = match read(folder, OLD, name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        told => told.unwrap_or_default(),
    };
    told.extend(read(folder, FILE, name)?);
    Ok(told)
}

fn read(folder: &Path, file: &str, name: &str) -> io::Result<Vec<Moment>> {
    let mut file = open(folder, file)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(BYTES_MAX);
    file.seek(SeekFrom::Start(begin))?;
    let mut reader = BufReader::new(file.take(BYTES_MAX));
    if begin > 0 {
        // The first is a part of one.
        reader.skip_until(b'\n')?;
    }
    let mut told = Vec::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        told.extend(serde_json::from_slice(&line).ok().and_then(|line| moment(line, name)));
        line.clear();
    }
    Ok(told)
}

/// The folder is the service's own: what it puts there under this name may be a link, or a pipe that nobody writes to.
fn open(folder: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let held = fs::File::open(folder)?;
    let file = File::from(rustix::fs::openat(&held, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("`{name}` is no file"))),
    }
}

fn moment(line: Line, name: &str) -> Option<Moment> {
    let is_kind = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let Line { realtime_ns, kind, text } = line;
    let fits = !kind.is_empty() && kind.len() <= KIND_MAX && kind.chars().all(is_kind);
    fits.then(|| Moment { realtime_ns, source: name.to_owned(), kind, text: line_of(&text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(content: &[u8]) -> Vec<Moment> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), content).unwrap();
        of_folder(folder.path(), "daq").unwrap()
    }

    #[test]
    fn lines_are_taken_as_they_are_meant_and_nothing_else() {
        let text = "{\"realtime_ns\":5,\"kind\":\"trip\",\"text\":\"coil \\u001b[2J hot\",\"new\":1}\nnot json\n\
                    {\"realtime_ns\":6,\"kind\":\"Bad kind\"}\n{\"kind\":\"x\"}\n{\"realtime_ns\":7,\"kind\":\"armed\"}";
        let told = told(text.as_bytes());
        // No older file is no error.
        let seen: Vec<_> =
            told.iter().map(|one| (one.realtime_ns, one.kind.as_str(), one.text.as_str())).collect();
        assert_eq!(seen, [(5, "trip", "coil \u{fffd}[2J hot"), (7, "armed", "")]);
    }

    #[test]
    fn of_a_long_file_the_end_counts() {
        let line = |at: usize| format!("{{\"realtime_ns\":{at},\"kind\":\"x\"}}\n");
        let text: String = (0..100_000).map(line).collect();
        let told = told(text.as_bytes());
        assert!(told.len() > 10_000 && told.len() < 100_000);
        assert_eq!(told.last().unwrap().realtime_ns, 99_999);
        // Without an end of line there is nothing whole in it.
        assert!(self::told(&vec![b'x'; 3 << 20]).is_empty());
    }

    #[test]
    fn what_was_put_aside_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for (name, at) in [(OLD, 1), (FILE, 2)] {
            fs::write(folder.path().join(name), format!("{{\"realtime_ns\":{at},\"kind\":\"x\"}}\n"))
                .unwrap();
        }
        let told = of_folder(folder.path(), "daq").unwrap();
        assert_eq!(told.iter().map(|one| one.realtime_ns).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_folder(folder.path(), "x").unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = folder.path().join(FILE);
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(of_folder(folder.path(), "x").is_err());
        fs::remove_file(&path).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::RUSR, 0).unwrap();
        assert!(of_folder(folder.path(), "x").unwrap_err().to_string().contains("is no file"));
    }
}
