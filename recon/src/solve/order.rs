//! In which order a sweep takes the rows.

use serde::{Deserialize, Serialize};

use super::real::count;

/// The order of the rows in a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// As they stand in the matrix.
    #[default]
    Natural,
    /// Shuffled once, before the first sweep: Fisher-Yates from the last row down, with [`SplitMix64::below`].
    /// The same seed gives another order than Julia's generator does.
    Shuffled {
        /// Of the generator; 1234 unless stated.
        #[serde(default = "default_seed")]
        seed: u64,
    },
    /// Every sweep draws some rows without replacement, each time with probabilities in proportion to ‖a_k‖².
    /// Drawn by the keys ln(u)/‖a_k‖², u uniform in (0, 1]; the rows with the largest keys, largest first (Efraimidis
    /// and Spirakis 2006). The seed gives other rows than Julia's generator does.
    Sampled {
        /// Of the generator; 1234 unless stated. The generator goes on from sweep to sweep.
        #[serde(default = "default_seed")]
        seed: u64,
        /// The share of the rows that are not zero, in (0, 1]; 0.15 unless stated. Rounded to the nearest number of
        /// rows, at least one.
        #[serde(default = "default_fraction")]
        fraction: f64,
    },
}

fn default_seed() -> u64 {
    1234
}

fn default_fraction() -> f64 {
    0.15
}

/// The generator SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Starts at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`: the upper half of `bits() * bound`. It favours some numbers by `bound` / 2^64.
    #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below `bound`")]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in (0, 1], of the upper 53 bits.
    #[expect(clippy::cast_precision_loss, reason = "numbers up to 2^53 are exact")]
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// Shuffles in place.
pub(super) fn shuffle(rows: &mut [usize], seed: u64) {
    let mut random = SplitMix64::new(seed);
    for last in (1..rows.len()).rev() {
        rows.swap(last, random.below(last + 1));
    }
}

/// Draws rows without replacement, with probabilities in proportion to `energy(row)`, which is positive.
pub(super) fn sample(
    rows: &[usize],
    energy: impl Fn(usize) -> f64,
    fraction: f64,
    random: &mut SplitMix64,
) -> Vec<usize> {
    let mut keys: Vec<(f64, usize)> = rows.iter().map(|&k| (random.unit().ln() / energy(k), k)).collect();
    keys.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let wanted = (fraction * count(rows.len())).round() as usize;
    keys.truncate(wanted.max(1));
    keys.into_iter().map(|(_, k)| k).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // The first values for the seed 1234567 in the authors' reference implementation.
        let mut random = SplitMix64::new(1_234_567);
        let first = [random.bits(), random.bits(), random.bits()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn shuffling_keeps_every_row() {
        let mut rows: Vec<usize> = (0..100).collect();
        shuffle(&mut rows, 1234);
        assert_ne!(rows, (0..100).collect::<Vec<_>>());
        rows.sort_unstable();
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn rows_are_drawn_in_proportion_to_their_energy() {
        let mut random = SplitMix64::new(7);
        let mut first = [0_u32; 3];
        for _ in 0..30_000 {
            let drawn = sample(&[0, 1, 2], |k| [1.0, 2.0, 3.0][k], 0.5, &mut random);
            assert_eq!(drawn.len(), 2);
            assert_ne!(drawn[0], drawn[1]);
            first[drawn[0]] += 1;
        }
        // 5000, 10000 and 15000 are expected; five standard deviations are below 450.
        for (count, expected) in first.iter().zip([5000_i64, 10_000, 15_000]) {
            assert!((i64::from(*count) - expected).abs() < 450, "{first:?}");
        }
    }
}
