//! A hostile unit on the way of channels, and a model of what may be held for it.
//!
//! The first byte of an input says how it is read. Raw: the rest is what comes over the way, cut into pieces. Otherwise it is a
//! list of steps of four bytes, each a frame that is well formed, a turn, or a look at what is to be sent: so an input of some
//! bytes fills the window, and one frame at a time can be held against the model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hatchway_wire::mux::frame::{Decoder, Frame};
use hatchway_wire::mux::{DATA_MAX, Event, Local, Mux, STREAMS_MAX, Side, WINDOW};

/// Bytes that wait for the way at most while [`Mux::hears`] is asked: twice what is let in, a piece of what comes, a frame of
/// each stream.
const OUT_MAX: usize = 3 * WINDOW as usize;
/// Streams that this side begins, so that answers to them mean something.
const OWN: u32 = 2;

/// How a local end behaves, by the first byte of the name it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Takes all, and says it again.
    Echo,
    /// Takes nothing, and says nothing.
    Deaf,
    /// Takes a little at a time, and has always something to say.
    Talks,
    /// Is gone at the first word.
    Gone,
    /// Has ended.
    Ended,
}

impl Kind {
    /// None: nobody is there.
    fn of(target: &str) -> Option<Self> {
        match target.bytes().next() {
            Some(b'e') => Some(Self::Echo),
            Some(b'd') => Some(Self::Deaf),
            Some(b't') => Some(Self::Talks),
            Some(b'g') => Some(Self::Gone),
            Some(b'x') => Some(Self::Ended),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct End {
    kind: Kind,
    /// Written to it, counted by whoever looks from outside.
    written: Arc<AtomicU64>,
    said: u64,
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.kind {
            Kind::Echo | Kind::Ended => bytes.len(),
            Kind::Talks => bytes.len().min(1000),
            Kind::Deaf => return Err(io::ErrorKind::WouldBlock.into()),
            Kind::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let ready = match self.kind {
            Kind::Echo => self.written.load(Ordering::Relaxed) - self.said,
            Kind::Talks => u64::MAX,
            Kind::Deaf | Kind::Gone => 0,
            Kind::Ended => return Ok(0),
        };
        if ready == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(usize::try_from(ready).unwrap_or(usize::MAX));
        self.said = self.said.saturating_add(count as u64);
        Ok(count)
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        static NOTHING: OnceLock<File> = OnceLock::new();
        NOTHING.get_or_init(|| File::open("/dev/null").expect("there is /dev/null")).as_fd()
    }
}

impl Local for End {
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// What is known of a stream from outside.
#[derive(Default)]
struct Known {
    /// Passed to the local end that is there now.
    written: Arc<AtomicU64>,
    /// Sent to it.
    received: u64,
    /// Over all streams that have had this number: bytes that came out, and how many were allowed.
    sent: u64,
    allowed: u64,
    /// Of them, too: told to the other side that it may send more.
    credited: u64,
    /// Passed on by local ends that are gone.
    before: u64,
}

struct Unit {
    mux: Mux,
    known: BTreeMap<u32, Known>,
    out: Decoder,
}

impl Unit {
    fn new() -> Self {
        let mut unit = Self { mux: Mux::new(Side::Outer), known: BTreeMap::new(), out: Decoder::default() };
        for kind in [Kind::Echo, Kind::Talks].into_iter().take(OWN as usize) {
            let written = Arc::new(AtomicU64::new(0));
            let end = End { kind, written: written.clone(), said: 0 };
            let id = unit.mux.open("own", Box::new(end)).expect("there are no others");
            unit.known.insert(id, Known { written, allowed: u64::from(WINDOW), ..Known::default() });
        }
        unit
    }

    /// Whether the unit keeps to the rules, and is heard.
    fn take(&mut self, bytes: &[u8]) -> bool {
        if !self.mux.hears() {
            return true;
        }
        let Ok(events) = self.mux.take(bytes) else {
            let before = self.mux.count();
            let open = Frame::Open { id: u32::MAX, target: "echo".into() }.encode();
            assert!(
                self.mux.take(&open).is_err() && self.mux.count() == before,
                "one that broke the rules is heard"
            );
            return false;
        };
        for event in events {
            if let Event::Wanted { id, target } = event
                && self.mux.has(id)
            {
                self.answer(id, &target);
            }
        }
        true
    }

    fn answer(&mut self, id: u32, target: &str) {
        let Some(kind) = Kind::of(target) else { return self.mux.refuse(id) };
        let known = self.known.entry(id).or_default();
        known.before += known.written.load(Ordering::Relaxed);
        known.written = Arc::new(AtomicU64::new(0));
        known.received = 0;
        known.allowed += u64::from(WINDOW);
        self.mux.accept(id, Box::new(End { kind, written: known.written.clone(), said: 0 }));
    }

    /// A frame alone, so that what it may do is known.
    fn frame(&mut self, frame: &Frame) -> bool {
        let heard = self.mux.hears();
        let there = |id: &u32| heard && self.mux.has(*id);
        let (data, credit) = match frame {
            Frame::Data { id, bytes } if there(id) => (Some((*id, bytes.len() as u64)), None),
            Frame::Credit { id, count } if there(id) => (None, Some((*id, u64::from(*count)))),
            _ => (None, None),
        };
        if !self.take(&frame.encode()) {
            return false;
        }
        if let Some((id, count)) = data {
            let known = self.known.get_mut(&id).expect("data is taken for what was accepted");
            known.received += count;
            let waiting = known.received - known.written.load(Ordering::Relaxed);
            assert!(waiting <= u64::from(WINDOW), "{waiting} bytes wait for one stream");
        }
        if let Some((id, count)) = credit {
            self.known.entry(id).or_default().allowed += count;
        }
        true
    }

    fn turn(&mut self) {
        for event in self.mux.turn() {
            assert!(matches!(event, Event::Over { id } if !self.mux.has(id)));
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.mux.count() <= STREAMS_MAX);
        assert!(self.mux.out().len() <= OUT_MAX, "{} bytes wait for the way", self.mux.out().len());
        assert!(self.mux.wishes().count() <= self.mux.count());
    }

    /// Looks at so many bytes of what is sent: it keeps to the rules itself. Without a model, only their form is known.
    fn drain(&mut self, count: usize, model: bool) {
        let bytes = self.mux.out()[..count.min(self.mux.out().len())].to_vec();
        self.mux.written(bytes.len());
        self.out.push(&bytes);
        while let Some(frame) = self.out.next().expect("frames of ours are whole") {
            match frame {
                Frame::Data { id, bytes } if model => {
                    let known = self.known.get_mut(&id).expect("one that is open sends");
                    known.sent += bytes.len() as u64;
                    assert!(known.sent <= known.allowed, "stream {id} sent more than there is room for");
                }
                Frame::Credit { id, count } if model => {
                    let known = self.known.get_mut(&id).expect("one that is open is told");
                    known.credited += u64::from(count);
                    let passed = known.before + known.written.load(Ordering::Relaxed);
                    assert!(known.credited <= passed, "stream {id} has room for what was not passed on");
                }
                _ => {}
            }
        }
    }
}

/// Frames of a unit over the way of channels.
pub fn mux(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first() else { return };
    let mut unit = Unit::new();
    if head & 1 == 0 {
        return raw(&mut unit, usize::from(head >> 2) + 1, head & 2 == 0, rest);
    }
    for step in rest.chunks_exact(4) {
        let id = u32::from(step[1]);
        let size = usize::from(u16::from_le_bytes([step[2], step[3]])) * 2 % (DATA_MAX + 1);
        let frame = match step[0] % 9 {
            0 => {
                Frame::Open { id, target: ["echo", "deaf", "talks", "gone", "x", "nobody"][size % 6].into() }
            }
            1 => Frame::Opened { id },
            2 | 3 => Frame::Data { id, bytes: vec![7; size.max(1)] },
            4 => Frame::Credit { id, count: u32::try_from(size.max(1)).unwrap_or(1) },
            5 => Frame::End { id },
            6 => Frame::Reset { id },
            7 => {
                unit.turn();
                continue;
            }
            _ => {
                unit.drain(size * 16, true);
                continue;
            }
        };
        if !unit.frame(&frame) {
            return;
        }
        unit.check();
    }
    unit.turn();
    unit.drain(usize::MAX, true);
}

/// Bytes as they are, in pieces with a turn after each.
fn raw(unit: &mut Unit, step: usize, drains: bool, bytes: &[u8]) {
    for piece in bytes.chunks(step) {
        if !unit.take(piece) {
            return;
        }
        unit.turn();
        if drains {
            unit.drain(usize::MAX, false);
        }
    }
}
