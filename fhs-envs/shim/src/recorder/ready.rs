//! How far the unit is: what its shim says over one connection, and what is in what the tool says.
use crate::channel::{Channel, Received};
use crate::record;
use hatchway_wire::control::{self, ControlOrder, ControlReport};
use hatchway_wire::log::Stream;
use hatchway_wire::ready::{FILE, Readiness, Ready, ReadyRecord, Stage, Standing, Watched, Wish, line_of};
use hatchway_wire::{HostPath, VERSION};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// From one try to come to the shim to the next: as long as a start takes mostly, and then.
const AGAIN_EARLY: Duration = Duration::from_millis(10);
const AGAIN_LATER: Duration = Duration::from_millis(500);
const EARLY: Duration = Duration::from_secs(2);
/// Connections that end without an answer before the shim counts as one that knows no such order.
const SILENT_MAX: u32 = 3;
/// Messages that are taken before this process rests: a guest is hostile, and may send without end.
const MESSAGES_MAX: usize = 16;
const REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Watch<'a> {
    wish: Option<&'a Wish>,
    folder: OwnedFd,
    record: Option<HostPath>,
    begun: Instant,
    link: Option<Channel>,
    /// When to come to the shim again, or to hear it again.
    next: Instant,
    /// Connections in a row that ended without an answer.
    silent: u32,
    /// The tool's start: the first answer.
    started: Option<Instant>,
    seen: Option<Watched>,
    search: Option<Search>,
    standing: Standing,
}

impl<'a> Watch<'a> {
    pub(super) fn new(wish: Option<&'a Wish>, folder: OwnedFd, path: &HostPath) -> Self {
        let search = wish.and_then(|wish| match &wish.what {
            Ready::Log { text } => Some(Search::new(text.as_bytes())),
            _ => None,
        });
        let now = Instant::now();
        Self {
            wish,
            folder,
            record: path.join(FILE).ok(),
            begun: now,
            link: None,
            next: now,
            silent: 0,
            started: None,
            seen: None,
            search,
            standing: Standing {
                ready: Stage::Starting,
                how: None,
                after_ms: None,
                health: None,
                status: None,
            },
        }
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What to wait for.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().filter(|_| Instant::now() >= self.next).map(AsFd::as_fd)
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let away = self.link.is_none() && !self.is_unknown();
        let next = (away || self.next > Instant::now()).then_some(self.next);
        let late = self.late().filter(|_| self.standing.ready == Stage::Starting);
        [next, late].into_iter().flatten().min()
    }

    /// The shim does not know the order.
    fn is_unknown(&self) -> bool {
        self.silent >= SILENT_MAX
    }

    fn late(&self) -> Option<Instant> {
        let within = Duration::from_millis(self.wish?.within_ms);
        self.started?.checked_add(within)
    }

    /// What the tool has said.
    pub(super) fn look(&mut self, stream: Stream, data: &[u8]) {
        if let Some(search) = self.search.as_mut().filter(|search| !search.found) {
            search.look(stream, data);
        }
    }

    /// Does what can be done without waiting; true where something is otherwise than before.
    pub(super) fn turn(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next {
            if self.link.is_none() && !self.is_unknown() {
                self.come(now);
            }
            self.hear(now);
        }
        let before = self.standing.clone();
        self.judge(now);
        before != self.standing
    }

    fn come(&mut self, now: Instant) {
        let early = now.saturating_duration_since(self.begun) < EARLY;
        self.next = now + if early { AGAIN_EARLY } else { AGAIN_LATER };
        // Nobody listens yet, or no more.
        let Ok(link) = reach(&self.folder) else { return };
        if link.offer(&ControlOrder::Watch, None).is_ok() {
            self.link = Some(link);
            self.next = now;
        }
    }

    fn hear(&mut self, now: Instant) {
        for _ in 0..MESSAGES_MAX {
            let Some(link) = &self.link else { return };
            match link.receive::<ControlReport>() {
                Ok(Received::Message(ControlReport::Watched(seen), _)) => {
                    self.silent = 0;
                    self.started.get_or_insert(now);
                    self.seen = Some(seen);
                }
                Ok(Received::Message(..)) => {}
                Ok(Received::Nothing) => return,
                Ok(Received::End) | Err(_) => {
                    self.link = None;
                    self.next = now + AGAIN_LATER;
                    if self.started.is_none() {
                        self.silent += 1;
                    }
                    if self.is_unknown() {
                        // It takes nobody before its tool has started.
                        self.started = Some(now);
                    }
                    return;
                }
            }
        }
        self.next = now + REST;
    }

    fn judge(&mut self, now: Instant) {
        let (health, status) = self
            .seen
            .as_ref()
            .map(|seen| (seen.health, seen.status.as_deref().map(line_of)))
            .unwrap_or_default();
        (self.standing.health, self.standing.status) = (health, status);
        let stage = match self.standing.ready {
            Stage::Ready => return,
            _ => self.stage(now),
        };
        if stage.0 == self.standing.ready || stage.0 == Stage::Starting {
            return;
        }
        let after = self.started.map_or(Duration::ZERO, |started| now.saturating_duration_since(started));
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        (self.standing.ready, self.standing.how, self.standing.after_ms) =
            (stage.0, Some(stage.1), Some(after_ms));
        self.write();
    }

    /// How far it is now, and how that is known.
    fn stage(&self, now: Instant) -> (Stage, String) {
        let Some(wish) = self.wish else {
            let stage = if self.started.is_some() { Stage::Ready } else { Stage::Starting };
            return (stage, "its tool has started".to_owned());
        };
        let seen = self.seen.as_ref().map(|seen| &seen.ready);
        let (is_ready, failed, last) = match (&self.search, seen) {
            (Some(search), _) => (search.found, None, None),
            (None, Some(Readiness::Ready)) => (true, None, None),
            (None, Some(Readiness::Failed { why })) => (false, Some(why.as_str()), None),
            (None, Some(Readiness::Starting { last })) => (false, None, last.as_deref()),
            (None, None) => (false, None, Some("what runs it is of a version that does not look")),
        };
        let looked = |why: Option<&str>| match why {
            Some(why) => format!("looked for {}: {}", wish.what, line_of(why)),
            None => format!("looked for {}", wish.what),
        };
        match failed {
            _ if is_ready => (Stage::Ready, wish.what.to_string()),
            Some(why) => (Stage::Late, looked(Some(why))),
            None if self.late().is_some_and(|late| now >= late) => (Stage::Late, looked(last)),
            None => (Stage::Starting, String::new()),
        }
    }

    /// Who looks at the folder later, and asks nobody. That it cannot be written keeps nothing from going on.
    fn write(&self) {
        let Standing { ready, how, after_ms, .. } = &self.standing;
        let record = ReadyRecord {
            version: VERSION,
            stamp: record::now(),
            after_ms: after_ms.unwrap_or_default(),
            how: how.clone().unwrap_or_default(),
            late: *ready == Stage::Late,
        };
        if let Some(path) = &self.record {
            record::write(&record, path, false).ok();
        }
    }
}

/// The name of a socket may have some hundred bytes only, and that of a folder more.
fn reach(folder: &OwnedFd) -> io::Result<Channel> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let name = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), control::SOCKET);
    connect(&socket, &SocketAddrUnix::new(name.as_str())?)?;
    Ok(Channel::of(socket))
}

/// Looks for a text without a line's end in both streams, however they are cut, in one pass and without keeping any of them (Knuth,
/// Morris, Pratt).
#[derive(Debug)]
struct Search {
    text: Vec<u8>,
    /// For each of its beginnings, the length of the longest shorter beginning that this one ends with.
    back: Vec<usize>,
    /// How much of it each stream ends with.
    met: [usize; 2],
    found: bool,
}

impl Search {
    fn new(text: &[u8]) -> Self {
        let mut back = vec![0; text.len()];
        let mut met = 0;
        for at in 1..text.len() {
            while met > 0 && text[at] != text[met] {
                met = back[met - 1];
            }
            met += usize::from(text[at] == text[met]);
            back[at] = met;
        }
        Self { text: text.to_vec(), back, met: [0; 2], found: text.is_empty() }
    }

    fn look(&mut self, stream: Stream, data: &[u8]) {
        let met = &mut self.met[usize::from(stream == Stream::Err)];
        for byte in data {
            while *met > 0 && self.text[*met] != *byte {
                *met = self.back[*met - 1];
            }
            *met += usize::from(self.text[*met] == *byte);
            if *met == self.text.len() {
                self.found = true;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(text: &str, parts: &[(Stream, &str)]) -> bool {
        let mut search = Search::new(text.as_bytes());
        for (stream, part) in parts {
            if !search.found {
                search.look(*stream, part.as_bytes());
            }
        }
        search.found
    }

    #[test]
    fn a_text_is_found_however_the_streams_are_cut() {
        let said = "listen listening listenininlistening on 5025\n";
        for size in 1..said.len() {
            let parts: Vec<(Stream, &str)> = said
                .as_bytes()
                .chunks(size)
                .map(|part| (Stream::Out, std::str::from_utf8(part).unwrap()))
                .collect();
            assert!(finds("listening on", &parts), "{size}");
            assert!(finds("nininl", &parts) && !finds("ninininl", &parts), "{size}");
        }
        assert!(finds("aab", &[(Stream::Err, "aaaaaaaab")]));
        // Of each stream for itself, and not over a line's end.
        assert!(!finds("ready", &[(Stream::Out, "rea"), (Stream::Err, "dy")]));
        assert!(finds("ready", &[(Stream::Out, "rea"), (Stream::Err, "x"), (Stream::Out, "dy")]));
        assert!(!finds("ready", &[(Stream::Out, "rea\ndy")]));
    }

    fn watch(wish: Option<&Wish>) -> (tempfile::TempDir, Watch<'_>) {
        let folder = tempfile::tempdir().unwrap();
        let path = HostPath::try_from(folder.path()).unwrap();
        let open = std::fs::File::open(folder.path()).unwrap().into();
        (folder, Watch::new(wish, open, &path))
    }

    fn record(folder: &tempfile::TempDir) -> Option<ReadyRecord> {
        let text = std::fs::read(folder.path().join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn seen(ready: Readiness) -> Option<Watched> {
        Some(Watched { ready, health: None, status: None })
    }

    #[test]
    fn a_unit_is_late_with_its_last_reason_and_ready_all_the_same() {
        let wish = Wish { what: Ready::Tcp { port: 5025 }, within_ms: 1000 };
        let (folder, mut watch) = watch(Some(&wish));
        let now = Instant::now();
        watch.started = Some(now);
        watch.seen = seen(Readiness::Starting { last: Some("connection refused\x1b".to_owned()) });
        watch.judge(now);
        assert_eq!((watch.standing.ready, record(&folder)), (Stage::Starting, None));
        watch.judge(now + Duration::from_secs(1));
        let late = record(&folder).unwrap();
        assert_eq!(late.how, "looked for a connection to its port 5025: connection refused\u{fffd}");
        assert_eq!((late.late, late.after_ms), (true, 1000));
        watch.seen = seen(Readiness::Ready);
        watch.judge(now + Duration::from_secs(2));
        let ready = record(&folder).unwrap();
        assert_eq!(
            (ready.late, ready.after_ms, ready.how.as_str()),
            (false, 2000, "a connection to its port 5025")
        );
        // From then on it stays so.
        watch.seen = seen(Readiness::Failed { why: "x".to_owned() });
        watch.judge(now + Duration::from_secs(3));
        assert_eq!(watch.standing.ready, Stage::Ready);
    }

    #[test]
    fn one_that_cannot_become_ready_is_late_at_once() {
        let wish = Wish { what: Ready::Fd { number: 3 }, within_ms: 60_000 };
        let (folder, mut watch) = watch(Some(&wish));
        watch.started = Some(Instant::now());
        watch.seen = seen(Readiness::Failed { why: "it has closed it without a line".to_owned() });
        watch.judge(Instant::now());
        let how = record(&folder).unwrap().how;
        assert_eq!(how, "looked for a line at its descriptor 3: it has closed it without a line");
    }

    #[test]
    fn without_a_wish_it_is_ready_when_its_tool_has_started() {
        let (folder, mut watch) = watch(None);
        watch.judge(Instant::now());
        assert_eq!((watch.standing.ready, record(&folder)), (Stage::Starting, None));
        watch.started = Some(Instant::now());
        watch.judge(Instant::now());
        assert_eq!(record(&folder).unwrap().how, "its tool has started");
    }
}
