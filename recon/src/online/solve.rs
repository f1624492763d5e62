//! From the mailbox to the subscribers.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hatchway_wire::frames::{Head, Kind};
use num_complex::Complex32;

use super::source::whole;
use super::{Frame, Hub, Mailbox, Metrics, Stop, image_message};
use crate::Error;
use crate::prepare::transform;
use crate::run::{Hardware, System};
use crate::solve::{Control, Prepared, Solver};

/// Solves what comes.
pub(super) struct Bench<'a> {
    pub(super) system: &'a System,
    pub(super) hardware: &'a Hardware,
    pub(super) solver: &'a Solver,
    pub(super) mailbox: &'a Mailbox,
    pub(super) metrics: &'a Metrics,
    pub(super) stop: &'a Stop,
    pub(super) images: &'a Hub,
    /// Viewers, and what the images are called there.
    pub(super) viewers: Option<(&'a Hub, &'a str)>,
    pub(super) say: &'a (dyn Fn(String) + Sync),
}

impl Bench<'_> {
    /// Until the mailbox is closed. A card that is lost is followed by the processor, where it may, from the frame on that was lost with it.
    pub(super) fn run(&self, prepared: Prepared<'_, f32>) {
        let Some((frame, error)) = self.frames(&prepared, None) else { return };
        drop(prepared);
        let done = self.again(&frame, error);
        if matches!(done, Err(Error::Cancelled { .. })) {
            self.metrics.change(|counts| counts.skipped += frame.count);
        } else if let Err(error) = done {
            self.metrics.change(|counts| counts.failed += frame.count);
            (self.say)(format!("error: no image can be made any more: {}", whole(&error)));
            self.stop.say();
        }
    }

    /// Goes on in memory.
    fn again(&self, frame: &Frame, error: Error) -> Result<(), Error> {
        let (why, warning) = self.hardware.instead(error)?;
        (self.say)(format!("warning: {warning}"));
        let loaded = self.system.load_in_memory(why, self.stop.flag())?;
        let prepared = Prepared::new(self.solver, &*loaded.operator, None)?;
        match self.frames(&prepared, Some(frame)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Solves `first` and what comes. Gives the frame at which a card was lost.
    fn frames(&self, prepared: &Prepared<'_, f32>, first: Option<&Frame>) -> Option<(Frame, Error)> {
        if let Some(frame) = first {
            self.done(frame, self.image(prepared, frame));
        }
        while let Some(frame) = self.mailbox.take() {
            match self.image(prepared, &frame) {
                Err(error @ Error::GpuLost { .. }) => return Some((frame, error)),
                done => self.done(&frame, done),
            }
        }
        None
    }

    fn done(&self, frame: &Frame, done: Result<(), Error>) {
        match done {
            Ok(()) => {}
            Err(Error::Cancelled { .. }) => self.metrics.change(|counts| counts.skipped += frame.count),
            Err(error) => {
                self.metrics.change(|counts| counts.failed += frame.count);
                (self.say)(format!("frame {} has no image: {}", frame.head.number, whole(&error)));
            }
        }
    }

    fn image(&self, prepared: &Prepared<'_, f32>, frame: &Frame) -> Result<(), Error> {
        let begun = Instant::now();
        let data = self.rows(frame)?;
        let control = Control { progress: None, cancel: Some(self.stop.flag()), skip_residuals: true };
        let solution = prepared.run(&data, None, &control)?;
        let voxels: Vec<f32> = solution.image.iter().map(|value| value.re * self.system.factor).collect();
        let solving = begun.elapsed();
        let missed = self.publish(frame, &voxels)?;
        self.metrics.image(frame.received.elapsed(), solving);
        self.metrics.change(|counts| {
            counts.images += 1;
            counts.solved += frame.count;
            counts.missed += missed;
        });
        Ok(())
    }

    /// The chosen values of the mean of the frames.
    fn rows(&self, frame: &Frame) -> Result<Vec<Complex32>, Error> {
        let [_, channels, samples] = self.system.shape;
        let width = samples / 2 + 1;
        let spectra = transform(&frame.samples, samples)?;
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let share = 1.0 / frame.count as f64;
        #[expect(clippy::cast_possible_truncation, reason = "data are of single precision")]
        let narrow = |value: num_complex::Complex64| {
            Complex32::new((value.re * share) as f32, (value.im * share) as f32)
        };
        let place = |(period, row): &(usize, crate::select::Row)| {
            (period * channels + row.channel) * width + row.frequency
        };
        Ok(self.system.rows.iter().map(|row| narrow(spectra[place(row)])).collect())
    }

    /// Hands the image to all; gives how many missed the one before.
    fn publish(&self, frame: &Frame, voxels: &[f32]) -> Result<u64, Error> {
        let bytes = 4 * voxels.len();
        let length = u32::try_from(bytes)
            .map_err(|_| Error::Image(format!("{} voxels are more than a message can have", voxels.len())))?;
        let simulated = frame.head.simulated || self.system.calibration.experiment.is_simulation;
        let head = Head {
            kind: Kind::Image,
            background: false,
            simulated,
            length,
            count: frame.count,
            ..frame.head
        };
        let mut message = head.bytes().to_vec();
        message.reserve(bytes);
        voxels.iter().for_each(|voxel| message.extend(voxel.to_le_bytes()));
        let mut missed = self.images.publish(message);
        if let Some((viewers, device)) = self.viewers {
            let seconds =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
            missed += viewers.publish(image_message(device, seconds, &self.system.grid, voxels)?);
        }
        Ok(missed)
    }
}
