//! What the service counts, for people and for Prometheus.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Images over which times and rates are taken.
const RECENT: usize = 256;

/// Counts from the beginning on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Frames that came, background frames with them.
    pub frames: u64,
    /// Of these, background frames.
    pub background: u64,
    /// Frames whose numbers were jumped over: the source or the way to it lost them.
    pub lost: u64,
    /// Frames that were left out because a newer one was there.
    pub skipped: u64,
    /// Frames that came before there was a background to take off.
    pub without_background: u64,
    /// Frames that are in images.
    pub solved: u64,
    /// Frames whose solution failed.
    pub failed: u64,
    /// Images that were made.
    pub images: u64,
    /// Images that a subscriber was too slow for, over all subscribers.
    pub missed: u64,
    /// Sources that connected.
    pub sources: u64,
    /// Of these, sent away because what they sent could not be used.
    pub rejected: u64,
    /// Subscribers that were sent away because they took nothing.
    pub sent_away: u64,
    /// Subscribers for whom there was no room.
    pub refused: u64,
}

/// Counts and times.
#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    recent: VecDeque<Recent>,
}

/// An image: when it was there, how long after its newest frame, and how long it took to solve.
#[derive(Debug, Clone, Copy)]
struct Recent {
    at: Instant,
    latency: Duration,
    solving: Duration,
}

impl Metrics {
    /// Changes counts.
    pub fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// An image is out: so long after its newest frame was here, of which solving took a part.
    pub fn image(&self, latency: Duration, solving: Duration) {
        let mut state = self.state();
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(Recent { at: Instant::now(), latency, solving });
    }

    /// Of the last images: seconds from the frame to the image at some share of them, 0.5 for the median. None before the first image.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<f64> {
        quantile(self.state().recent.iter().map(|of| of.latency), share)
    }

    /// Images a second: over the last ones, and no more than the time since the last one allows.
    #[must_use]
    pub fn rate(&self) -> f64 {
        rate(self.state().recent.iter().map(|of| of.at), Instant::now())
    }

    /// As Prometheus reads it (<https://prometheus.io/docs/instrumenting/exposition_formats/>). `subscribers` has those of each door.
    #[must_use]
    pub fn text(&self, subscribers: &[(&str, usize)]) -> String {
        let counts = self.counts();
        let mut text = String::new();
        for (name, what, value) in counters(&counts) {
            text += &format!(
                "# HELP hatchway_recon_{name}_total {what}\n# TYPE hatchway_recon_{name}_total counter\nhatchway_recon_{name}_total {value}\n"
            );
        }
        text += "# HELP hatchway_recon_latency_seconds From the last byte of a frame to its image.\n# TYPE hatchway_recon_latency_seconds summary\n";
        for share in [0.5, 0.9, 0.99] {
            if let Some(seconds) = self.latency(share) {
                text += &format!("hatchway_recon_latency_seconds{{quantile=\"{share}\"}} {seconds}\n");
            }
        }
        text += "# HELP hatchway_recon_solve_seconds Of this, the solver.\n# TYPE hatchway_recon_solve_seconds summary\n";
        if let Some(seconds) = quantile(self.state().recent.iter().map(|of| of.solving), 0.5) {
            text += &format!("hatchway_recon_solve_seconds{{quantile=\"0.5\"}} {seconds}\n");
        }
        text += &format!(
            "# HELP hatchway_recon_images_per_second Over the last images.\n# TYPE hatchway_recon_images_per_second gauge\nhatchway_recon_images_per_second {}\n",
            self.rate()
        );
        text += "# HELP hatchway_recon_subscribers Who gets images now.\n# TYPE hatchway_recon_subscribers gauge\n";
        for (door, count) in subscribers {
            text += &format!("hatchway_recon_subscribers{{door=\"{door}\"}} {count}\n");
        }
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counters(counts: &Counts) -> [(&'static str, &'static str, u64); 13] {
    [
        ("frames", "Frames that came, background frames with them.", counts.frames),
        ("frames_background", "Frames that were measured without an object.", counts.background),
        ("frames_lost", "Frames whose numbers were jumped over.", counts.lost),
        ("frames_skipped", "Frames left out because a newer one was there.", counts.skipped),
        (
            "frames_without_background",
            "Frames left out before there was a background.",
            counts.without_background,
        ),
        ("frames_solved", "Frames that are in images.", counts.solved),
        ("frames_failed", "Frames whose solution failed.", counts.failed),
        ("images", "Images that were made.", counts.images),
        ("images_missed", "Images that subscribers were too slow for.", counts.missed),
        ("sources", "Sources that connected.", counts.sources),
        ("sources_rejected", "Sources sent away because of what they sent.", counts.rejected),
        ("subscribers_sent_away", "Subscribers sent away because they took nothing.", counts.sent_away),
        ("subscribers_refused", "Subscribers for whom there was no room.", counts.refused),
    ]
}

fn rate(mut times: impl DoubleEndedIterator<Item = Instant> + ExactSizeIterator, now: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let between = times.len().saturating_sub(1) as f64;
    let (Some(first), Some(last)) = (times.next(), times.next_back()) else { return 0.0 };
    let usual = (last - first).as_secs_f64() / between;
    if usual <= 0.0 {
        return 0.0;
    }
    usual.max((now - last).as_secs_f64()).recip()
}

fn quantile(durations: impl Iterator<Item = Duration>, share: f64) -> Option<f64> {
    let mut all: Vec<f64> = durations.map(|duration| duration.as_secs_f64()).collect();
    all.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a few hundred"
    )]
    let index = (share * all.len().saturating_sub(1) as f64).round() as usize;
    all.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_last_images() {
        let metrics = Metrics::default();
        assert_eq!(metrics.latency(0.5), None);
        for milliseconds in 0..=300 {
            metrics.image(Duration::from_millis(milliseconds), Duration::from_millis(1));
        }
        // The last 256 of them: 45 to 300.
        assert!((metrics.latency(0.0).unwrap() - 0.045).abs() < 1e-9);
        assert!((metrics.latency(1.0).unwrap() - 0.300).abs() < 1e-9);
        let now = Instant::now();
        let times = || (0..11).map(|step| now + Duration::from_millis(step * 20)).collect::<Vec<_>>();
        let last = now + Duration::from_millis(200);
        assert!((rate(times().into_iter(), last) - 50.0).abs() < 1e-9);
        assert!((rate(times().into_iter(), last + Duration::from_secs(4)) - 0.25).abs() < 1e-9);
        metrics.change(|counts| counts.skipped += 7);
        let text = metrics.text(&[("images", 2)]);
        assert!(text.contains("\nhatchway_recon_frames_skipped_total 7\n"), "{text}");
        assert!(text.contains("\nhatchway_recon_subscribers{door=\"images\"} 2\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with('#') || line.split(' ').count() == 2), "{text}");
    }
}
