//! What has happened to the units, and who has asked for what: one JSON object a line, in segments of a bounded size.
//!
//! Numbers of events go up by one for ever, so a reader that comes back says which it has seen last. What cannot be written (a full
//! disk) is kept in memory and written later; what has no room there either is counted.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Now};
use crate::dirs::{Dirs, names_in};
use crate::error::Error;

/// Bytes of a segment, about.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that are kept.
const SEGMENTS: usize = 16;
/// Events that are kept in memory, for readers that follow, and while the disk takes none.
const RECENT: usize = 4096;
const SUFFIX: &str = ".jsonl";

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A daemon has begun.
    DaemonBegan,
    /// A daemon ends in order; units go on.
    DaemonEnded,
    /// An instrument is carried out from now on.
    Applied,
    /// Somebody has asked for something.
    Asked,
    /// A unit is started.
    Starting,
    /// A unit that was running already is looked after again.
    Found,
    /// A unit is ready.
    Ready,
    /// A unit is not ready in time.
    Late,
    /// A unit is well again, or is not.
    Health,
    /// A unit waits for others.
    Blocked,
    /// A unit is asked to end.
    Stopping,
    /// A run of a unit has ended.
    Ended,
    /// A unit waits before it starts again.
    BackOff,
    /// A unit fails again and again, and waits for a person.
    Degraded,
    /// Something could not be done.
    Failed,
    /// Events are missing here.
    Lost,
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// `CLOCK_REALTIME`, in nanoseconds.
    pub realtime_ns: i64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// Of which boot that is.
    pub boot: String,
    /// What has happened.
    pub kind: Kind,
    /// To which unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// To which run of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// In words.
    pub text: String,
    /// Who has asked for it: `uid 1000 (ada)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What an event is about, before it has a number and a time.
#[derive(Debug, Clone)]
pub struct Entry {
    kind: Kind,
    unit: Option<String>,
    run: Option<String>,
    text: String,
    by: Option<String>,
}

impl Entry {
    /// One of the instrument as a whole.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, unit: None, run: None, text: text.into(), by: None }
    }

    /// One of a unit.
    #[must_use]
    pub fn of(kind: Kind, unit: &str, text: impl Into<String>) -> Self {
        Self { unit: Some(unit.to_owned()), ..Self::new(kind, text) }
    }

    /// Of a run.
    #[must_use]
    pub fn run(self, run: &str) -> Self {
        Self { run: Some(run.to_owned()), ..self }
    }

    /// That somebody has asked for.
    #[must_use]
    pub fn by(self, who: &str) -> Self {
        Self { by: Some(who.to_owned()), ..self }
    }
}

/// The one writer.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    next: u64,
    /// The segment that is written, and its whole lines' bytes.
    file: Option<(File, u64)>,
    recent: VecDeque<Event>,
    /// How many of the recent ones are not on disk.
    unwritten: usize,
    /// Events that found no room anywhere.
    lost: u64,
    /// The last event could not be written, and that was said.
    is_troubled: bool,
}

/// Where it is.
#[must_use]
pub fn folder(dirs: &Dirs) -> PathBuf {
    super::files::folder(dirs).join("events")
}

impl Journal {
    /// Opens it; half a line at its end, of a writer that was killed or a machine that went down, is cut off.
    ///
    /// # Errors
    /// Its folder cannot be made or read.
    pub fn open(dirs: &Dirs) -> Result<Self, Error> {
        let folder = folder(dirs);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let mut journal = Self {
            folder,
            next: 1,
            file: None,
            recent: VecDeque::new(),
            unwritten: 0,
            lost: 0,
            is_troubled: false,
        };
        let Some((first, path)) = segments(&journal.folder).pop() else { return Ok(journal) };
        journal.next = first;
        // On a disk that takes nothing it goes on in memory.
        let open = || -> io::Result<(File, u64)> {
            let length = whole_lines(&path)?;
            let file = File::options().append(true).open(&path)?;
            file.set_len(length)?;
            Ok((file, length))
        };
        journal.file = open().ok();
        journal.recent = read(&path).map_err(Error::io("read", &path))?.into();
        if let Some(last) = journal.recent.back() {
            journal.next = last.seq + 1;
        }
        journal.forget();
        Ok(journal)
    }

    /// Adds an event; the result is the last one, which may say that events cannot be written.
    pub fn add(&mut self, entry: Entry, now: &Now) -> Event {
        let event = self.remember(entry, now);
        // A full disk is no reason to stop anything; what is unwritten is tried again with the next event.
        let written = self.write();
        self.forget();
        match written {
            Ok(()) => self.is_troubled = false,
            Err(error) if !std::mem::replace(&mut self.is_troubled, true) => {
                let text = format!("events cannot be written, and wait in memory: {error}");
                return self.remember(Entry::new(Kind::Failed, text), now);
            }
            Err(_) => {}
        }
        event
    }

    fn remember(&mut self, entry: Entry, now: &Now) -> Event {
        let Entry { kind, unit, run, text, by } = entry;
        let monotonic_ns = u64::try_from(now.monotonic.as_nanos()).unwrap_or(u64::MAX);
        let (seq, realtime_ns, boot) = (self.next, clock::now_ns(), now.boot.clone());
        let event = Event { seq, realtime_ns, monotonic_ns, boot, kind, unit, run, text, by };
        self.next += 1;
        self.recent.push_back(event.clone());
        self.unwritten += 1;
        event
    }

    /// The number of the last event; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// How many events are nowhere.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Events after this number, oldest first, no more than so many.
    #[must_use]
    pub fn since(&self, seq: u64, most: usize) -> Vec<Event> {
        let in_memory = self.recent.front().is_none_or(|first| first.seq <= seq + 1);
        if in_memory {
            return self.recent.iter().filter(|event| event.seq > seq).take(most).cloned().collect();
        }
        since(&self.folder, seq, most)
    }

    fn write(&mut self) -> io::Result<()> {
        let from = self.recent.len() - self.unwritten;
        let mut text = Vec::new();
        for event in self.recent.iter().skip(from) {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        let first = self.recent.get(from).map_or(self.next, |event| event.seq);
        let full = self.file.as_ref().is_none_or(|(_, length)| *length >= SEGMENT_BYTES);
        if full {
            self.begin_segment(first)?;
        }
        let Some((file, length)) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(&text) {
            // Half a line would spoil the next one. Where it cannot be cut off, the reader passes over it; why it was not written counts.
            drop(file.set_len(*length));
            return Err(error);
        }
        *length += text.len() as u64;
        self.unwritten = 0;
        Ok(())
    }

    fn begin_segment(&mut self, first: u64) -> io::Result<()> {
        let path = self.folder.join(format!("{first:020}{SUFFIX}"));
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        file.set_len(0)?;
        self.file = Some((file, 0));
        let mut all = segments(&self.folder);
        all.truncate(all.len().saturating_sub(SEGMENTS));
        all.iter().for_each(|(_, path)| drop(fs::remove_file(path)));
        Ok(())
    }

    fn forget(&mut self) {
        while self.recent.len() > RECENT {
            self.recent.pop_front();
            if self.unwritten > self.recent.len() {
                self.unwritten = self.recent.len();
                self.lost += 1;
            }
        }
    }
}

/// All events after this number that are on disk, for whoever reads without a daemon.
#[must_use]
pub fn since(folder: &Path, seq: u64, most: usize) -> Vec<Event> {
    let all = segments(folder);
    // The segment with the first that is wanted is the last one that begins no later.
    let begin = all.iter().rposition(|(first, _)| *first <= seq + 1).unwrap_or(0);
    let mut found = Vec::new();
    for (_, path) in all.iter().skip(begin) {
        if found.len() >= most {
            break;
        }
        let events = read(path).unwrap_or_default();
        found.extend(events.into_iter().filter(|event| event.seq > seq));
    }
    found.truncate(most);
    found
}

fn segments(folder: &Path) -> Vec<(u64, PathBuf)> {
    let names = names_in(folder).into_iter();
    let number = |name: &str| name.strip_suffix(SUFFIX)?.parse().ok();
    names.filter_map(|name| Some((number(&name)?, folder.join(&name)))).collect()
}

/// What is no event is left out: it is of a version that nobody knows, or damaged.
fn read(path: &Path) -> io::Result<Vec<Event>> {
    let lines = BufReader::new(File::open(path)?).split(b'\n');
    Ok(lines.map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()).collect())
}

fn whole_lines(path: &Path) -> io::Result<u64> {
    let text = fs::read(path)?;
    Ok(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn dirs(folder: &Path) -> Dirs {
        let own = |name: &str| folder.join(name);
        Dirs { data: own("data"), cache: own("cache"), runtime: own("run"), config: Vec::new() }
    }

    fn now() -> Now {
        Now { boot: "b".to_owned(), monotonic: Duration::from_secs(1) }
    }

    fn texts(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    #[test]
    fn numbers_go_on_and_half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        let mut journal = Journal::open(&dirs).unwrap();
        for text in ["one", "two"] {
            journal.add(Entry::of(Kind::Starting, "a", text).run("1-1").by("uid 0"), &now());
        }
        drop(journal);
        let path = segments(&super::folder(&dirs)).pop().unwrap().1;
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":3,\"realtime").unwrap();
        let mut journal = Journal::open(&dirs).unwrap();
        assert_eq!(journal.last(), 2);
        assert_eq!(journal.add(Entry::new(Kind::Applied, "three"), &now()).seq, 3);
        assert_eq!(texts(&journal.since(0, 10)), ["one", "two", "three"]);
        assert_eq!(texts(&since(&super::folder(&dirs), 1, 10)), ["two", "three"]);
        assert_eq!(texts(&since(&super::folder(&dirs), 3, 10)), Vec::<&str>::new());
    }

    #[test]
    fn old_segments_go_and_what_is_asked_of_them_begins_later() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        let mut journal = Journal::open(&dirs).unwrap();
        let long = "x".repeat(100_000);
        for _ in 0..11 * (SEGMENTS + 4) {
            journal.add(Entry::new(Kind::Failed, long.as_str()), &now());
        }
        let kept = segments(&super::folder(&dirs));
        assert_eq!(kept.len(), SEGMENTS);
        let all = since(&super::folder(&dirs), 0, usize::MAX);
        assert_eq!(all.first().unwrap().seq, kept[0].0);
        assert_eq!(all.last().unwrap().seq, journal.last());
        assert!(all.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    }

    #[test]
    fn what_the_disk_does_not_take_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(folder.path());
        let mut journal = Journal::open(&dirs).unwrap();
        journal.add(Entry::new(Kind::Applied, "one"), &now());
        // A file that takes nothing, as on a full disk.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (file, length) = journal.file.replace((full, 0)).unwrap();
        journal.add(Entry::new(Kind::Applied, "two"), &now());
        journal.add(Entry::new(Kind::Applied, "three"), &now());
        let trouble = "events cannot be written, and wait in memory: No space left on device (os error 28)";
        assert_eq!(texts(&journal.since(0, 10)), ["one", "two", trouble, "three"], "it is said once");
        assert_eq!(journal.unwritten, 3);
        journal.file = Some((file, length));
        journal.add(Entry::new(Kind::Applied, "four"), &now());
        assert_eq!(texts(&since(&super::folder(&dirs), 0, 10)), ["one", "two", trouble, "three", "four"]);
    }

    #[test]
    fn an_event_of_a_newer_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"seq\":1,\"realtime_ns\":1,\"monotonic_ns\":1,\"boot\":\"b\",\"kind\":\"new-thing\",\"text\":\"t\",\"more\":2}\nno event\n";
        fs::write(folder.path().join(format!("{:020}{SUFFIX}", 1)), line).unwrap();
        assert_eq!(since(folder.path(), 0, 10)[0].kind, Kind::Other);
    }
}
