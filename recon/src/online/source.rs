//! Who sends frames: checked against the calibration at once, and taken one after the other.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hatchway_wire::frames::{Becomes, Frames, Head, Kind};

use super::frame::{decode, describe, head, size};
use super::stop::Until;
use super::words::{one_line, tell};
use super::{Frame, Listener, Mailbox, Metrics, Running, Stop, Stream};
use crate::Error;
use crate::run::System;

/// How long a source may take to describe its frames.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sources that may be here: the one whose frames are taken, and those that wait.
const SOURCES_MAX: usize = 8;

/// What a source's frames become.
pub(super) struct Intake<'a> {
    pub(super) system: &'a System,
    pub(super) mailbox: &'a Mailbox,
    pub(super) metrics: &'a Metrics,
    pub(super) stop: &'a Stop,
    /// Whether the background is taken off.
    pub(super) background: bool,
    pub(super) say: &'a (dyn Fn(String) + Sync),
}

/// A source that has described its frames.
struct Source<'a> {
    stream: Stream,
    reader: BufReader<Until<'a, Stream>>,
    frames: Frames,
    _here: Counted<'a>,
    _described: Counted<'a>,
}

impl Source<'_> {
    /// Tells it what becomes of its frames, if it wants to know.
    fn tell(&self, becomes: Becomes, text: &str) {
        if self.frames.words {
            tell(&self.stream, becomes, text);
        }
    }
}

/// One of so many, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// Gives how many there were before it, too.
    fn new(count: &'a AtomicUsize) -> (Self, usize) {
        (Self(count), count.fetch_add(1, Ordering::SeqCst))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Intake<'_> {
    /// Lets sources in and takes one after the other until it is time to end.
    pub(super) fn run(&self, listener: &Listener) -> io::Result<()> {
        let (here, described) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (queue, turns) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = self.stop.guard();
                turns.into_iter().for_each(|source| self.take(source));
            });
            let ended = loop {
                let stream = match listener.accept(self.stop) {
                    Ok(Some(stream)) => stream,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                };
                self.metrics.change(|counts| counts.sources += 1);
                let (here, others) = Counted::new(&here);
                if others >= SOURCES_MAX {
                    self.send_away(&stream, &format!("{others} sources are here already"));
                    continue;
                }
                let (queue, described) = (queue.clone(), &described);
                scope.spawn(move || self.greet(stream, here, described, &queue));
            };
            if ended.is_err() {
                // Nobody is let in any more: who is here has to end, too.
                self.stop.say();
            }
            drop(queue);
            ended
        })
    }

    /// Hears what a source sends, and gives it its turn.
    fn greet<'a>(
        &'a self,
        stream: Stream,
        here: Counted<'a>,
        described: &'a AtomicUsize,
        queue: &mpsc::Sender<Source<'a>>,
    ) {
        let (reader, frames) = match self.described(&stream) {
            Ok(described) => described,
            Err(error) => return self.send_away(&stream, &whole(&error)),
        };
        let (described, before) = Counted::new(described);
        let source = Source { stream, reader, frames, _here: here, _described: described };
        if before > 0 {
            let text = format!("{before} before it");
            (self.say)(format!("a source waits, {text}"));
            source.tell(Becomes::Waiting, &text);
        }
        // It is not taken when it is time to end.
        queue.send(source).ok();
    }

    /// What a source sends, if it belongs to the calibration.
    fn described(&self, stream: &Stream) -> Result<(BufReader<Until<'_, Stream>>, Frames), Error> {
        let stream = stream.try_clone().map_err(Error::StreamLost)?;
        let mut reader = BufReader::new(Until { stream, stop: self.stop, patience: Some(PATIENCE) });
        let frames = describe(&mut reader)?;
        // Between scans a source may say nothing for as long as it likes.
        reader.get_mut().patience = None;
        self.check(&frames)?;
        Ok((reader, frames))
    }

    /// The turn of a source, from its first frame to its end.
    fn take(&self, mut source: Source<'_>) {
        if self.stop.is_said() {
            return;
        }
        let Frames { periods, channels, samples, .. } = source.frames;
        let text = format!("{periods} periods, {channels} channels, {samples} samples");
        (self.say)(format!("a source sends frames of {text}"));
        source.tell(Becomes::Taken, &format!("frames of {text}"));
        match self.frames(&mut source) {
            Ok(frames) => {
                (self.say)(format!("the source ended after {frames} frames"));
                source.tell(Becomes::Ended, &format!("{frames} frames"));
                source.stream.hang_up();
            }
            Err(error) => self.send_away(&source.stream, &whole(&error)),
        }
    }

    fn send_away(&self, stream: &Stream, why: &str) {
        if !self.stop.is_said() {
            self.metrics.change(|counts| counts.rejected += 1);
            (self.say)(format!("the source was sent away: {why}"));
            tell(stream, Becomes::Refused, why);
        }
        stream.hang_up();
    }

    /// Takes all frames of a source; gives how many.
    fn frames(&self, source: &mut Source<'_>) -> Result<u64, Error> {
        let Source { reader, frames, .. } = source;
        let mut running = Running::default();
        let mut expected = None;
        let mut bytes = vec![0; size(frames).unwrap_or(0)];
        let mut count = 0;
        while let Some(head) = head(reader)? {
            if head.kind != Kind::Frame || head.length as usize != bytes.len() {
                let text = format!(
                    "{:?} of {} bytes came, where frames of {} are described",
                    head.kind,
                    head.length,
                    bytes.len()
                );
                return Err(Error::Stream(text));
            }
            reader.read_exact(&mut bytes).map_err(Error::StreamLost)?;
            let received = Instant::now();
            self.count(head.number, head.background, &mut expected);
            let head = Head { simulated: frames.simulated, ..head };
            let frame = Frame { head, samples: decode(frames, &bytes)?, count: 1, received };
            self.pass(frame, &mut running);
            count += 1;
        }
        Ok(count)
    }

    /// What must be the same, or the images would be of something else.
    fn check(&self, frames: &Frames) -> Result<(), Error> {
        let acquisition = &self.system.calibration.acquisition;
        let [periods, channels, samples] = self.system.shape;
        let same = |what: &str, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            let text = format!("its {what} is {found}, and {expected} in the calibration");
            Err(Error::Stream(text))
        };
        same("number of periods", frames.periods.to_string(), periods.to_string())?;
        same("number of channels", frames.channels.to_string(), channels.to_string())?;
        same("number of samples", frames.samples.to_string(), samples.to_string())?;
        same("bandwidth", frames.bandwidth.to_string(), acquisition.receiver.bandwidth.to_string())?;
        let drive = &acquisition.drive_field;
        same("base frequency", frames.base_frequency.to_string(), drive.base_frequency.to_string())?;
        same("dividers", format!("{:?}", frames.dividers), format!("{:?}", drive.divider.data))?;
        let alike = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * a.abs().max(b.abs());
        let theirs = &drive.strength.data;
        if frames.strengths.len() != theirs.len() || !frames.strengths.iter().zip(theirs).all(alike) {
            (self.say)(format!(
                "warning: the drive field of the source is {:?} T, and {theirs:?} T in the calibration: places will be wrong",
                frames.strengths
            ));
        }
        Ok(())
    }

    fn count(&self, number: u64, background: bool, expected: &mut Option<u64>) {
        // A number below the expected one is of a source that began anew.
        let lost = expected.map_or(0, |expected| number.saturating_sub(expected));
        *expected = number.checked_add(1);
        self.metrics.change(|counts| {
            counts.frames += 1;
            counts.background += u64::from(background);
            counts.lost = counts.lost.saturating_add(lost);
        });
    }

    fn pass(&self, frame: Frame, running: &mut Running) {
        let is_background = frame.head.background;
        let passed = match self.background {
            true => running.pass(frame),
            false if is_background => None,
            false => Some(frame),
        };
        match passed {
            Some(frame) => {
                let skipped = self.mailbox.put(frame);
                self.metrics.change(|counts| counts.skipped += skipped);
            }
            None if is_background => {}
            None => self.metrics.change(|counts| counts.without_background += 1),
        }
    }
}

/// An error with its causes, on one line.
pub(super) fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // What a peer has sent may be in it.
    one_line(&text)
}
