//! What is taken off frames while they come.

use super::Frame;

/// The mean of the last background frames in a row.
#[derive(Debug, Default)]
pub struct Running {
    sum: Vec<f64>,
    count: u64,
    /// Whether the last frame was background.
    continues: bool,
}

impl Running {
    /// Takes a background frame in, or the background off a frame. None for a background frame, and where nothing is known to take off.
    pub fn pass(&mut self, mut frame: Frame) -> Option<Frame> {
        if frame.head.background {
            if !self.continues || self.sum.len() != frame.samples.len() {
                self.sum = vec![0.0; frame.samples.len()];
                self.count = 0;
            }
            self.sum.iter_mut().zip(&frame.samples).for_each(|(sum, sample)| *sum += sample);
            self.count += 1;
            self.continues = true;
            return None;
        }
        self.continues = false;
        if self.count == 0 || self.sum.len() != frame.samples.len() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let share = 1.0 / self.count as f64;
        frame.samples.iter_mut().zip(&self.sum).for_each(|(sample, sum)| *sample -= sum * share);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hatchway_wire::frames::{Head, Kind};

    use super::*;

    fn frame(background: bool, value: f64) -> Frame {
        let head = Head { background, ..Head::description(Kind::Frame, 0) };
        Frame { head, samples: vec![value; 2], count: 1, received: Instant::now() }
    }

    #[test]
    fn the_last_run_is_taken_off() {
        let mut running = Running::default();
        let mut pass =
            |background, value| running.pass(frame(background, value)).map(|frame| frame.samples[0]);
        assert_eq!(pass(false, 9.0), None);
        assert_eq!(pass(true, 1.0), None);
        assert_eq!(pass(true, 3.0), None);
        assert_eq!(pass(false, 9.0), Some(7.0));
        assert_eq!(pass(true, 5.0), None);
        assert_eq!(pass(false, 9.0), Some(4.0));
        assert_eq!(pass(false, 8.0), Some(3.0));
    }
}
