//! Many streams over one way: how channels go between a unit and `hatchway run` where descriptors cannot be handed over, or
//! where whoever has the other end is in another network.
//!
//! The way is a stream of bytes (a virtio port, a socket). On it are frames ([`frame`]): a stream is asked for by name, taken or
//! refused, carries bytes both ways, and each direction ends for itself, as with TCP (RFC 9293). No side sends more than the other
//! has room for: it begins with [`WINDOW`] bytes and gets back what was passed on. So one stream that nobody reads holds up
//! no other, and memory is bounded. The other side is hostile: what breaks these rules is [`Broken`], and the end of the way.
//!
//! This is the same on both sides. What the local ends are is the user's ([`Local`]); when to read and write, its `poll` says.
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

pub mod frame;

use frame::{Broken, Decoder, Frame};

/// Bytes of one direction of a stream that are on their way at most.
pub const WINDOW: u32 = 256 << 10;
/// Bytes in a frame at most. What is sent is taken from streams in turn, so this is what others wait for.
pub const DATA_MAX: usize = 32 << 10;
/// Streams at a time.
pub const STREAMS_MAX: usize = 256;
/// Bytes of frames that wait for the way; then no more is read from local ends.
const OUT_MAX: usize = 256 << 10;
/// Passed on before the other side is told that it may send as many again.
const CREDIT_STEP: u32 = WINDOW / 4;

/// The local end of a stream. Nothing that is done with it waits: it says [`io::ErrorKind::WouldBlock`].
pub trait Local: Read + Write + AsFd + Send + std::fmt::Debug {
    /// No more is written.
    ///
    /// # Errors
    /// The end is gone.
    fn end(&mut self) -> io::Result<()>;
    /// It is broken off, and who has the other end should see that.
    fn reset(&mut self);
}

/// Who begins streams with odd numbers, so that both may begin some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the unit.
    Inner,
    /// `hatchway run`.
    Outer,
}

/// What the other side wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream to what has this name: answer with [`Mux::accept`] or [`Mux::refuse`].
    Wanted {
        /// Number of the stream.
        id: u32,
        /// As the other side says.
        target: String,
    },
    /// A stream that this side began is over: it was refused, ended, or broken off. Its local end is gone.
    Over {
        /// Number of the stream.
        id: u32,
    },
}

/// One side.
#[derive(Debug)]
pub struct Mux {
    next: u32,
    decoder: Decoder,
    out: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
    /// The stream that has its turn first, so that none waits for ever.
    first: u32,
    /// How the other side broke the rules; then nothing of it is taken any more.
    broken: Option<Broken>,
}

#[derive(Debug)]
struct Stream {
    /// Nothing until the stream is accepted here.
    local: Option<Box<dyn Local>>,
    /// The other side has taken it.
    open: bool,
    ours: bool,
    /// What came and was not written yet.
    waiting: Vec<u8>,
    /// What may still be sent.
    credit: u32,
    /// Passed on, and not told yet.
    passed: u32,
    /// The local end has no more to say, and the other side knows.
    read_end: bool,
    /// The other side has no more to say.
    peer_end: bool,
    /// The local end knows that.
    told: bool,
}

impl Stream {
    fn new(local: Option<Box<dyn Local>>, ours: bool) -> Self {
        Self {
            local,
            open: !ours,
            ours,
            waiting: Vec::new(),
            credit: WINDOW,
            passed: 0,
            read_end: false,
            peer_end: false,
            told: false,
        }
    }

    fn wants(&self, room: bool) -> (bool, bool) {
        let ready = self.open && self.local.is_some();
        (ready && room && !self.read_end && self.credit > 0, ready && !self.waiting.is_empty())
    }

    fn is_over(&self) -> bool {
        self.read_end && self.told
    }
}

impl Mux {
    /// A side without streams.
    #[must_use]
    pub fn new(side: Side) -> Self {
        let next = match side {
            Side::Inner => 1,
            Side::Outer => 2,
        };
        let (decoder, out, streams) = (Decoder::default(), Vec::new(), BTreeMap::new());
        Self { next, decoder, out, streams, first: 0, broken: None }
    }

    /// Begins a stream to what the other side knows by this name.
    ///
    /// # Errors
    /// There are [`STREAMS_MAX`] already.
    pub fn open(&mut self, target: &str, local: Box<dyn Local>) -> io::Result<u32> {
        if self.streams.len() >= STREAMS_MAX {
            return Err(io::Error::other("too many streams at a time"));
        }
        let id = self.next;
        self.next = self.next.wrapping_add(2);
        self.send(&Frame::Open { id, target: target.to_owned() });
        self.streams.insert(id, Stream::new(Some(local), true));
        Ok(id)
    }

    /// Takes a stream that the other side wants.
    pub fn accept(&mut self, id: u32, local: Box<dyn Local>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.local = Some(local);
            self.send(&Frame::Opened { id });
        }
    }

    /// Refuses it.
    pub fn refuse(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.send(&Frame::Reset { id });
        }
    }

    /// Breaks a stream off.
    pub fn reset(&mut self, id: u32) {
        if let Some(mut stream) = self.streams.remove(&id) {
            stream.local.iter_mut().for_each(|local| local.reset());
            self.send(&Frame::Reset { id });
        }
    }

    /// Ends this side's direction of a stream, whatever its local end could still say. What the other side says is still passed on.
    pub fn end(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.read_end
        {
            stream.read_end = true;
            self.send(&Frame::End { id });
        }
    }

    /// Whether a stream cannot be read from its local end now, since the other side has no room.
    #[must_use]
    pub fn is_held_up(&self, id: u32) -> bool {
        let full = self.out.len() >= OUT_MAX;
        self.streams.get(&id).is_some_and(|stream| !stream.read_end && (full || stream.credit == 0))
    }

    /// Whether a stream is there.
    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.streams.contains_key(&id)
    }

    /// Streams that are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// What is to be written to the way; [`Self::written`] takes it off.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// Whether more may be taken from the way. One who asks without listening is not listened to either, or what there is to
    /// say would grow without end.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.out.len() < 2 * OUT_MAX
    }

    /// So many bytes of [`Self::out`] are written.
    pub fn written(&mut self, count: usize) {
        drop(self.out.drain(..count.min(self.out.len())));
    }

    /// Local ends to wait for: whether to read, whether to write.
    pub fn wishes(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>, bool, bool)> {
        let room = self.out.len() < OUT_MAX;
        self.streams.iter().filter_map(move |(id, stream)| {
            let (read, write) = stream.wants(room);
            let local = stream.local.as_ref().filter(|_| read || write)?;
            Some((*id, local.as_fd(), read, write))
        })
    }

    /// Takes what came over the way.
    ///
    /// # Errors
    /// [`Broken`]: the other side does not keep to the rules. It stays so, whatever comes.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let events = self.frames(bytes);
        self.broken = events.as_ref().err().copied();
        events
    }

    fn frames(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Broken> {
        self.decoder.push(bytes);
        let mut events = Vec::new();
        while let Some(frame) = self.decoder.next()? {
            events.extend(self.frame(frame)?);
        }
        Ok(events)
    }

    fn frame(&mut self, frame: Frame) -> Result<Option<Event>, Broken> {
        match frame {
            Frame::Open { id, target } => return self.wanted(id, target),
            Frame::Opened { id } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    if stream.open {
                        return Err(Broken::Order);
                    }
                    stream.open = true;
                }
            }
            Frame::Data { id, bytes } => {
                // One that was broken off here is not known there yet.
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
                let used = stream.waiting.len() + bytes.len() + stream.passed as usize;
                if stream.peer_end || !stream.open || stream.local.is_none() || used > WINDOW as usize {
                    return Err(Broken::Order);
                }
                stream.waiting.extend_from_slice(&bytes);
            }
            Frame::Credit { id, count } => {
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
                stream.credit =
                    stream.credit.checked_add(count).filter(|sum| *sum <= WINDOW).ok_or(Broken::Order)?;
            }
            Frame::End { id } => {
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
                if stream.peer_end || !stream.open {
                    return Err(Broken::Order);
                }
                stream.peer_end = true;
            }
            Frame::Reset { id } => {
                let Some(mut stream) = self.streams.remove(&id) else { return Ok(None) };
                stream.local.iter_mut().for_each(|local| local.reset());
                return Ok(stream.ours.then_some(Event::Over { id }));
            }
        }
        Ok(None)
    }

    fn wanted(&mut self, id: u32, target: String) -> Result<Option<Event>, Broken> {
        // The other side's numbers are of the other kind, and none is used twice at a time.
        if id % 2 == self.next % 2 || self.streams.contains_key(&id) {
            return Err(Broken::Order);
        }
        if self.streams.len() >= STREAMS_MAX {
            // No offence: there some may be over already that are not over here yet.
            self.send(&Frame::Reset { id });
            return Ok(None);
        }
        self.streams.insert(id, Stream::new(None, false));
        Ok(Some(Event::Wanted { id, target }))
    }

    /// Moves what can be moved between local ends and the way without waiting. What is over comes out.
    pub fn turn(&mut self) -> Vec<Event> {
        let ids: Vec<u32> = self
            .streams
            .range(self.first..)
            .chain(self.streams.range(..self.first))
            .map(|(id, _)| *id)
            .collect();
        self.first = ids.get(1).copied().unwrap_or(0);
        let mut events = Vec::new();
        for id in ids {
            let Some(mut stream) = self.streams.remove(&id) else { continue };
            if self.one(id, &mut stream).is_err() {
                stream.local.iter_mut().for_each(|local| local.reset());
                self.send(&Frame::Reset { id });
            } else if !stream.is_over() {
                self.streams.insert(id, stream);
                continue;
            }
            if stream.ours {
                events.push(Event::Over { id });
            }
        }
        events
    }

    fn one(&mut self, id: u32, stream: &mut Stream) -> io::Result<()> {
        let room = self.out.len() < OUT_MAX;
        let (reads, _) = stream.wants(room);
        let Some(local) = stream.local.as_mut().filter(|_| stream.open) else { return Ok(()) };
        let mut written = 0;
        while written < stream.waiting.len() {
            match local.write(&stream.waiting[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        drop(stream.waiting.drain(..written));
        stream.passed += u32::try_from(written).unwrap_or(WINDOW);
        if stream.passed >= CREDIT_STEP {
            self.out.extend(Frame::Credit { id, count: std::mem::take(&mut stream.passed) }.encode());
        }
        if stream.peer_end && stream.waiting.is_empty() && !stream.told {
            stream.told = true;
            local.end()?;
        }
        if reads {
            let mut bytes = vec![0; DATA_MAX.min(stream.credit as usize)];
            match local.read(&mut bytes) {
                Ok(0) => {
                    stream.read_end = true;
                    self.out.extend(Frame::End { id }.encode());
                }
                Ok(count) => {
                    bytes.truncate(count);
                    stream.credit -= u32::try_from(count).unwrap_or(stream.credit);
                    self.out.extend(Frame::Data { id, bytes }.encode());
                }
                Err(error) if later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send(&mut self, frame: &Frame) {
        self.out.extend(frame.encode());
    }
}

fn later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
