//! A scan's file as a source of frames: for trying the service, and for seeing a scan again.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hatchway_wire::frames::{Becomes, Frames, Head, Kind, Sample, Word};
use nix::time::{ClockId, clock_gettime};

use super::stop::Until;
use super::words::hear;
use super::{Stop, Stream};
use crate::Error;
use crate::mdf::{File, Mdf, MeasurementData};

/// How often who waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(200);

/// How fast frames are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as they were measured.
    Measured,
    /// So many a second.
    Rate(f64),
    /// As fast as they are taken.
    Taken,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Frames, background frames with them.
    pub frames: u64,
}

/// Sends the frames of a scan in the order in which they were measured, `times` times over; 0 is without end. What the service tells of them is
/// said, and its end is waited for: then all frames were taken. Gives up once `stop` is said.
///
/// # Errors
/// The file cannot be read, has spectra instead of samples, or the service does not take the frames.
pub fn play(
    path: &Path,
    stream: &mut Stream,
    pace: Pace,
    times: u64,
    stop: &Stop,
    say: &(dyn Fn(String) + Sync),
) -> Result<Played, Error> {
    let file = File::open(path)?;
    let (mdf, _) = Mdf::read(&file)?;
    let data = MeasurementData::open(&file, &mdf)?.in_measured_order(&mdf)?;
    check(path, &mdf, &data)?;
    let described = described(&mdf, &data);
    let between = between(pace, &mdf, &described)?;
    let player = Player { data: &data, described, between, times, stop, is_over: AtomicBool::new(false) };
    let ear = stream.try_clone().map_err(Error::StreamLost)?;
    let (sent, last) = std::thread::scope(|scope| {
        let told = scope.spawn(|| player.listen(ear, say));
        let sent = player.send_all(stream);
        if sent.is_err() {
            // What it was told before is heard, and nothing more is waited for.
            stream.hang_up();
        }
        (sent, told.join())
    });
    // Without a last word it has not taken all, whatever could be sent.
    match (last, sent) {
        (Ok(Some(Word { becomes: Becomes::Refused, text })), _) => Err(Error::Refused(text)),
        (_, Err(error)) => Err(error),
        (Ok(Some(Word { becomes: Becomes::Ended, .. })), Ok(frames)) => Ok(Played { frames }),
        (_, Ok(frames)) if stop.is_said() => Ok(Played { frames }),
        _ => Err(Error::StreamLost(ErrorKind::UnexpectedEof.into())),
    }
}

/// Whether what is in the file is what was measured.
fn check(path: &Path, mdf: &Mdf, data: &MeasurementData<'_>) -> Result<(), Error> {
    let unexpected = |dataset: &str, expected: &str| {
        let (found, expected) = ("1".to_owned(), expected.to_owned());
        Err(Error::Unexpected { path: path.into(), dataset: dataset.to_owned(), found, expected })
    };
    if mdf.measurement.as_ref().is_some_and(|of| of.is_transfer_function_corrected) {
        return unexpected(
            "/measurement/isTransferFunctionCorrected",
            "0: frames are sent as they are measured",
        );
    }
    if data.is_fourier() {
        return unexpected("/measurement/isFourierTransformed", "0: frames are sent as samples");
    }
    Ok(())
}

/// Both directions of a connection to the service.
struct Player<'a> {
    data: &'a MeasurementData<'a>,
    described: Frames,
    between: Duration,
    times: u64,
    stop: &'a Stop,
    /// Whether the service has hung up.
    is_over: AtomicBool,
}

impl Player<'_> {
    /// Says what comes until the end; gives the last of it.
    fn listen(&self, ear: Stream, say: &(dyn Fn(String) + Sync)) -> Option<Word> {
        let mut ear = Until { stream: ear, stop: self.stop, patience: None };
        let mut last = None;
        // Who breaks off has nothing more to say.
        while let Ok(Some(word)) = hear(&mut ear) {
            match word.becomes {
                Becomes::Waiting => say(format!("another source is taken first: {}", word.text)),
                Becomes::Taken => say(format!("the service takes {}", word.text)),
                Becomes::Ended | Becomes::Refused => {}
            }
            last = Some(word);
        }
        self.is_over.store(true, Ordering::SeqCst);
        last
    }

    /// Sends the description and all frames; gives how many.
    fn send_all(&self, stream: &mut Stream) -> Result<u64, Error> {
        let text = serde_json::to_vec(&self.described).map_err(|error| Error::Stream(error.to_string()))?;
        let head = Head::description(Kind::Frames, length(text.len())?);
        stream.set_patience(LOOK).map_err(Error::StreamLost)?;
        send(stream, &[head.bytes().as_slice(), &text].concat(), self.stop)?;
        let frames = self.send_frames(stream)?;
        stream.end().map_err(Error::StreamLost)?;
        Ok(frames)
    }

    /// Sends all frames, each when it is due; gives how many.
    fn send_frames(&self, stream: &mut Stream) -> Result<u64, Error> {
        let data = self.data;
        let mut due = Instant::now();
        let mut number = 0;
        while self.times == 0 || number < self.times.saturating_mul(data.frames() as u64) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "below the number of frames, which is a usize"
            )]
            let frame = (number % data.frames() as u64) as usize;
            let bytes = bytes(data, frame, self.described.sample)?;
            due = due.checked_add(self.between).unwrap_or(due);
            self.pause(due)?;
            if self.stop.is_said() {
                break;
            }
            let head = Head {
                kind: Kind::Frame,
                background: data.background()[frame],
                simulated: false,
                length: length(bytes.len())?,
                number,
                count: 1,
                monotonic_ns: now(ClockId::CLOCK_MONOTONIC),
                tai_ns: now(ClockId::CLOCK_TAI),
            };
            send(stream, &[head.bytes().as_slice(), &bytes].concat(), self.stop)?;
            number += 1;
        }
        Ok(number)
    }

    /// Waits until a frame is due, and fails if the service hangs up meanwhile.
    fn pause(&self, due: Instant) -> Result<(), Error> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stop.is_said() {
                return Ok(());
            }
            if self.is_over.load(Ordering::SeqCst) {
                return Err(Error::StreamLost(ErrorKind::UnexpectedEof.into()));
            }
            self.stop.pause(left.min(LOOK));
        }
    }
}

fn described(mdf: &Mdf, data: &MeasurementData<'_>) -> Frames {
    let acquisition = &mdf.acquisition;
    let conversion = acquisition.receiver.data_conversion_factor.as_ref();
    Frames {
        periods: data.periods(),
        channels: data.channels(),
        samples: data.samples(),
        sample: match data.numeric().name().as_str() {
            "Int8" | "Int16" => Sample::Int16,
            "Int32" => Sample::Int32,
            "Float32" => Sample::Float32,
            _ => Sample::Float64,
        },
        conversion: conversion.map(|of| of.data.as_chunks().0.to_vec()).unwrap_or_default(),
        bandwidth: acquisition.receiver.bandwidth,
        base_frequency: acquisition.drive_field.base_frequency,
        dividers: acquisition.drive_field.divider.data.clone(),
        strengths: acquisition.drive_field.strength.data.clone(),
        simulated: mdf.experiment.is_simulation,
        words: true,
    }
}

fn length(bytes: usize) -> Result<u32, Error> {
    u32::try_from(bytes)
        .map_err(|_| Error::Stream(format!("a frame of {bytes} bytes is more than a message can have")))
}

/// Time from frame to frame.
fn between(pace: Pace, mdf: &Mdf, frames: &Frames) -> Result<Duration, Error> {
    let seconds = match pace {
        Pace::Taken => 0.0,
        Pace::Rate(rate) => 1.0 / rate,
        Pace::Measured => {
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
            let samples = (frames.samples * frames.periods) as f64
                * mdf.acquisition.sequence.num_averages.max(1) as f64;
            samples / (2.0 * frames.bandwidth)
        }
    };
    let wrong = || Error::Parameter { name: "rate", value: 1.0 / seconds, range: "at least 1e-6" };
    Duration::try_from_secs_f64(seconds).ok().filter(|between| between.as_secs_f64() <= 1e6).ok_or_else(wrong)
}

fn bytes(data: &MeasurementData<'_>, frame: usize, sample: Sample) -> Result<Vec<u8>, Error> {
    let frames = frame..frame + 1;
    Ok(match sample {
        Sample::Int16 => {
            data.read_frames::<i16>(frames)?.iter().flat_map(|sample| sample.to_le_bytes()).collect()
        }
        Sample::Int32 => {
            data.read_frames::<i32>(frames)?.iter().flat_map(|sample| sample.to_le_bytes()).collect()
        }
        Sample::Float32 => {
            data.read_frames::<f32>(frames)?.iter().flat_map(|sample| sample.to_le_bytes()).collect()
        }
        Sample::Float64 => {
            data.read_frames::<f64>(frames)?.iter().flat_map(|sample| sample.to_le_bytes()).collect()
        }
    })
}

/// Writes all, or as much as is taken before it is time to end.
fn send(stream: &mut Stream, mut bytes: &[u8], stop: &Stop) -> Result<(), Error> {
    while !bytes.is_empty() && !stop.is_said() {
        match stream.write(bytes) {
            Ok(0) => return Err(Error::StreamLost(ErrorKind::WriteZero.into())),
            Ok(count) => bytes = &bytes[count..],
            // It waits for its turn, or for the service; from time to time it looks whether it still should.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::StreamLost(error)),
        }
    }
    Ok(())
}

/// In nanoseconds; 0 where there is no such clock.
fn now(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let (seconds, rest) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_nsec()));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}
