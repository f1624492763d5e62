//! Who sends frames: one at a time, checked against the calibration before the first frame is taken.

use std::io::{self, BufReader, Read};
use std::time::{Duration, Instant};

use hatchway_wire::frames::{Frames, Head, Kind};

use super::frame::{decode, describe, head, size};
use super::stop::Until;
use super::{Frame, Listener, Mailbox, Metrics, Running, Stop, Stream};
use crate::Error;
use crate::run::System;

/// How long a source may take to describe its frames.
const PATIENCE: Duration = Duration::from_secs(10);

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

impl Intake<'_> {
    /// Takes one source after the other until it is time to end.
    pub(super) fn run(&self, listener: &Listener) -> io::Result<()> {
        while let Some(stream) = listener.accept(self.stop)? {
            self.metrics.change(|counts| counts.sources += 1);
            match self.source(&stream) {
                Ok(frames) => (self.say)(format!("the source ended after {frames} frames")),
                Err(_) if self.stop.is_said() => {}
                Err(error) => {
                    self.metrics.change(|counts| counts.rejected += 1);
                    (self.say)(format!("the source was sent away: {}", whole(&error)));
                }
            }
            stream.hang_up();
        }
        Ok(())
    }

    /// Takes all frames of a source; gives how many.
    fn source(&self, stream: &Stream) -> Result<u64, Error> {
        let stream = stream.try_clone().map_err(Error::StreamLost)?;
        let mut stream = BufReader::new(Until { stream, stop: self.stop, patience: Some(PATIENCE) });
        let frames = describe(&mut stream)?;
        // Between scans a source may say nothing for as long as it likes.
        stream.get_mut().patience = None;
        self.check(&frames)?;
        (self.say)(format!(
            "a source sends frames of {} periods, {} channels, {} samples",
            frames.periods, frames.channels, frames.samples
        ));
        let mut running = Running::default();
        let mut expected = None;
        let mut bytes = vec![0; size(&frames).unwrap_or(0)];
        let mut count = 0;
        while let Some(head) = head(&mut stream)? {
            if head.kind != Kind::Frame || head.length as usize != bytes.len() {
                let text = format!(
                    "{:?} of {} bytes came, where frames of {} are described",
                    head.kind,
                    head.length,
                    bytes.len()
                );
                return Err(Error::Stream(text));
            }
            stream.read_exact(&mut bytes).map_err(Error::StreamLost)?;
            let received = Instant::now();
            self.count(head.number, head.background, &mut expected);
            let head = Head { simulated: frames.simulated, ..head };
            let frame = Frame { head, samples: decode(&frames, &bytes)?, count: 1, received };
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
    // What a peer has sent may be in it, and makes no line of its own.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
