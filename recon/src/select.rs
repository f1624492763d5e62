//! Which frequencies of which receive channels take part in a reconstruction.
//!
//! Rows are ordered with the frequency fastest and the channel slowest, and indices follow the rules of the reference implementation
//! (MPIFiles.jl, `FrequencyFilter.jl`), so that a plan gives the same rows there and here.

use serde::{Deserialize, Serialize};

use crate::Error;

/// A row of the system matrix within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Receive channel, from 0.
    pub channel: usize,
    /// Index of the frequency, from 0 for 0 Hz.
    pub frequency: usize,
}

/// What a row has to fulfil.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Filter {
    /// The first kept frequency is the first one not below it; in hertz.
    pub min_frequency: f64,
    /// The last kept frequency is the last one not above it; in hertz, 0 for no limit.
    pub max_frequency: f64,
    /// Receive channels, from 0; all if empty.
    pub channels: Vec<usize>,
    /// Rows with less than this signal-to-noise ratio are left out; it needs the calibration's SNR when above 0.
    pub snr: f64,
    /// Only this many rows, those of the greatest SNR; 0 for all.
    pub most: usize,
    /// Only sums and differences of the drive frequencies up to this order, `|m_x| + |m_y| + |m_z|`; 0 for all.
    pub max_mixing_order: u32,
    /// Ranges in hertz that are left out, from the last frequency not above the first value to the last one not above the second.
    pub stop_bands: Vec<[f64; 2]>,
}

impl Default for Filter {
    /// All rows above 80 kHz, the usual bound above the feed-through of preclinical scanners and of their filters.
    fn default() -> Self {
        Self {
            min_frequency: 80e3,
            max_frequency: 0.0,
            channels: Vec::new(),
            snr: 0.0,
            most: 0,
            max_mixing_order: 0,
            stop_bands: Vec::new(),
        }
    }
}

/// The frequencies among which a filter chooses.
#[derive(Clone, Debug)]
pub struct Band {
    /// Receive channels, C.
    pub channels: usize,
    /// Half of the sampling rate in hertz, which MDF calls bandwidth.
    pub bandwidth: f64,
    /// Samples in a period, V; there are V/2 + 1 frequencies.
    pub samples: usize,
    /// Periods of each drive channel in a period of all: V over its divider.
    pub drive: Vec<usize>,
    /// C × K values, if the calibration has them.
    pub snr: Option<Vec<f64>>,
    /// Whether the calibration has each of the K frequencies; it has all if not given.
    pub stored: Option<Vec<bool>>,
}

impl Band {
    /// How many frequencies a channel has, K.
    #[must_use]
    pub fn frequencies(&self) -> usize {
        self.samples / 2 + 1
    }

    /// The frequency of an index in hertz.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "periods have fewer than 2^52 samples")]
    pub fn hertz(&self, frequency: usize) -> f64 {
        frequency as f64 * 2.0 * self.bandwidth / self.samples as f64
    }

    /// How many frequencies lie below a value: the index of the first one that does not.
    fn below(&self, hertz: f64) -> usize {
        partition(self.frequencies(), |frequency| self.hertz(frequency) < hertz)
    }

    /// How many frequencies are not above a value.
    fn up_to(&self, hertz: f64) -> usize {
        partition(self.frequencies(), |frequency| self.hertz(frequency) <= hertz)
    }

    /// The least order of a mix of drive frequencies that falls on each frequency; `None` beyond `most`.
    fn mixing_orders(&self, most: u32) -> Vec<Option<u32>> {
        let mut orders = vec![None; self.frequencies()];
        let mut mixes = vec![(0_i64, 0_u32)];
        for &periods in &self.drive {
            let periods = i64::try_from(periods).unwrap_or(i64::MAX);
            mixes = mixes
                .iter()
                .flat_map(|&(index, order)| {
                    let left = i64::from(most - order);
                    (-left..=left).map(move |factor| {
                        let more = u32::try_from(factor.unsigned_abs()).unwrap_or(u32::MAX);
                        (index.saturating_add(periods.saturating_mul(factor)), order.saturating_add(more))
                    })
                })
                .collect();
        }
        for (index, order) in mixes {
            let found = usize::try_from(index).ok().and_then(|index| orders.get_mut(index));
            if let Some(least) = found {
                *least = Some(least.map_or(order, |least: u32| least.min(order)));
            }
        }
        orders
    }
}

/// The first of 0..n for which a condition, true up to there, is false.
fn partition(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl Filter {
    /// The rows that are left, channel by channel.
    ///
    /// # Errors
    /// No row is left, a channel does not exist, or the filter asks for an SNR that is not there.
    pub fn rows(&self, band: &Band) -> Result<Vec<Row>, Error> {
        let channels = self.chosen_channels(band)?;
        let kept = self.kept_frequencies(band);
        let snr = match &band.snr {
            None if self.snr > 0.0 || self.most > 0 => {
                return Err(self.nothing("it asks for an SNR, and the calibration has none"));
            }
            Some(snr) if snr.len() != band.channels * band.frequencies() => {
                let text = format!(
                    "the SNR has {} values for {} channels of {} frequencies",
                    snr.len(),
                    band.channels,
                    band.frequencies()
                );
                return Err(self.nothing(&text));
            }
            snr => snr,
        };
        let of =
            |row: &Row| snr.as_ref().map_or(0.0, |snr| snr[row.channel * band.frequencies() + row.frequency]);
        let all = channels.iter().flat_map(|&channel| {
            kept.iter()
                .enumerate()
                .filter(|(_, kept)| **kept)
                .map(move |(frequency, _)| Row { channel, frequency })
        });
        let mut rows: Vec<Row> = all.filter(|row| self.snr <= 0.0 || of(row) >= self.snr).collect();
        if self.most > 0 && rows.len() > self.most {
            // The order of equal ones is their own, so that the choice is the same each time.
            rows.sort_by(|a, b| of(b).total_cmp(&of(a)).then(a.cmp(b)));
            rows.truncate(self.most);
            rows.sort_unstable();
        }
        if rows.is_empty() { Err(self.nothing("no row is left")) } else { Ok(rows) }
    }

    fn nothing(&self, problem: &str) -> Error {
        Error::Selection { problem: problem.to_owned(), filter: Box::new(self.clone()) }
    }

    fn chosen_channels(&self, band: &Band) -> Result<Vec<usize>, Error> {
        if let Some(channel) = self.channels.iter().find(|channel| **channel >= band.channels) {
            return Err(self.nothing(&format!(
                "there is no channel {channel}; there are 0 to {}",
                band.channels.saturating_sub(1)
            )));
        }
        let mut chosen =
            if self.channels.is_empty() { (0..band.channels).collect() } else { self.channels.clone() };
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }

    /// Whether each frequency is kept, by what is the same for all channels.
    fn kept_frequencies(&self, band: &Band) -> Vec<bool> {
        let end = if self.max_frequency > 0.0 { band.up_to(self.max_frequency) } else { band.frequencies() };
        let range = band.below(self.min_frequency)..end;
        let stored =
            |frequency: usize| band.stored.as_ref().is_none_or(|stored| stored.get(frequency) == Some(&true));
        let mut kept: Vec<bool> = (0..band.frequencies())
            .map(|frequency| range.contains(&frequency) && stored(frequency))
            .collect();
        for &[low, high] in &self.stop_bands {
            // Both bounds are the last frequency not above them; the first may lie before 0 Hz.
            let (first, end) = (band.up_to(low).saturating_sub(1), band.up_to(high));
            for stopped in kept.iter_mut().take(end).skip(first) {
                *stopped = false;
            }
        }
        if self.max_mixing_order > 0 {
            for (kept, order) in kept.iter_mut().zip(band.mixing_orders(self.max_mixing_order)) {
                *kept &= order.is_some();
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A period of the preclinical scanner's 2-D sequence: 1632 samples at 2.5 MHz, 16 and 17 periods of the drive fields.
    fn band(snr: Option<&[f64]>) -> Band {
        let snr = snr.map(<[f64]>::to_vec);
        Band { channels: 2, bandwidth: 1.25e6, samples: 1632, drive: vec![16, 17], snr, stored: None }
    }

    fn all() -> Filter {
        Filter { min_frequency: 0.0, ..Filter::default() }
    }

    fn indices(rows: &[Row], channel: usize) -> Vec<usize> {
        rows.iter().filter(|row| row.channel == channel).map(|row| row.frequency).collect()
    }

    #[test]
    fn all_frequencies_are_those_of_a_real_transform() {
        let rows = all().rows(&band(None)).unwrap();
        assert_eq!(rows.len(), 2 * 817);
        assert_eq!(rows[0], Row { channel: 0, frequency: 0 });
        assert_eq!(rows[817], Row { channel: 1, frequency: 0 });
        assert!((band(None).hertz(816) - 1.25e6).abs() < 1e-6);
    }

    #[test]
    fn bounds_are_kept_when_met() {
        let spacing = 2.5e6 / 1632.0;
        let filter =
            Filter { min_frequency: band(None).hertz(10), max_frequency: band(None).hertz(12), ..all() };
        assert_eq!(indices(&filter.rows(&band(None)).unwrap(), 0), [10, 11, 12]);
        let filter = Filter { min_frequency: 9.1 * spacing, max_frequency: 12.9 * spacing, ..all() };
        assert_eq!(indices(&filter.rows(&band(None)).unwrap(), 1), [10, 11, 12]);
        // 80 kHz is index 52.2.
        assert_eq!(Filter::default().rows(&band(None)).unwrap()[0].frequency, 53);
    }

    #[test]
    fn a_stop_band_begins_with_the_frequency_before_it() {
        let spacing = 2.5e6 / 1632.0;
        let stop_bands = vec![[10.5 * spacing, 12.5 * spacing]];
        let filter = Filter { max_frequency: 14.0 * spacing, stop_bands, ..all() };
        let kept = indices(&filter.rows(&band(None)).unwrap(), 0);
        assert_eq!(kept, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14]);
    }

    #[test]
    fn rows_of_little_signal_are_left_out() {
        let mut snr = vec![1.0; 2 * 817];
        snr[100] = 7.0;
        snr[817 + 60] = 5.0;
        snr[817 + 61] = 4.999;
        let rows = Filter { snr: 5.0, ..all() }.rows(&band(Some(&snr))).unwrap();
        assert_eq!(rows, [Row { channel: 0, frequency: 100 }, Row { channel: 1, frequency: 60 }]);
        let rows = Filter { most: 3, ..all() }.rows(&band(Some(&snr))).unwrap();
        assert_eq!(indices(&rows, 0), [100]);
        assert_eq!(indices(&rows, 1), [60, 61]);
    }

    #[test]
    fn what_the_calibration_has_not_is_left_out() {
        let mut stored = vec![true; 817];
        stored[1] = false;
        let some = Band { stored: Some(stored), ..band(None) };
        let filter = Filter { max_frequency: some.hertz(3), ..all() };
        assert_eq!(indices(&filter.rows(&some).unwrap(), 1), [0, 2, 3]);
    }

    #[test]
    fn mixes_up_to_an_order_are_kept() {
        // Order 2: 0, 16, 17, 32, 33, 34 and 17 − 16.
        let rows = Filter { max_mixing_order: 2, ..all() }.rows(&band(None)).unwrap();
        assert_eq!(indices(&rows, 0), [0, 1, 16, 17, 32, 33, 34]);
        let orders = band(None).mixing_orders(3);
        assert_eq!((orders[0], orders[16], orders[1], orders[15]), (Some(0), Some(1), Some(2), Some(3)));
        assert_eq!(orders[5], None);
    }

    #[test]
    fn what_leaves_nothing_is_told() {
        let message = |filter: Filter, snr| filter.rows(&band(snr)).unwrap_err().to_string();
        assert!(message(Filter { min_frequency: 2e6, ..all() }, None).contains("no row is left"));
        assert!(
            message(Filter { channels: vec![2], ..all() }, None).contains("no channel 2; there are 0 to 1")
        );
        assert!(message(Filter { snr: 2.0, ..all() }, None).contains("calibration has none"));
        assert!(message(all(), Some(&[1.0])).contains("1 values for 2 channels of 817"));
        let unknown: f64 = f64::NAN;
        assert!(message(Filter { snr: 2.0, ..all() }, Some(&vec![unknown; 1634])).contains("no row is left"));
    }
}
