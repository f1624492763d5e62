//! From a value to a colour.

use serde::{Deserialize, Serialize};

/// A way to show values by colours; all grow lighter with the value, so that they stay readable in print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColourMap {
    /// Black to white.
    Gray,
    /// Black, red, yellow, white: each third of the range raises one of red, green and blue.
    #[default]
    Hot,
    /// Black, blue, cyan, white: the same from the other end.
    Ice,
}

impl ColourMap {
    /// Red, green and blue of a share between 0 and 1; what is beyond is at the end, and what is no number is 0.
    #[must_use]
    pub fn colour(self, share: f64) -> [u8; 3] {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let third = |from: f64| byte(((share - from) * 3.0).clamp(0.0, 1.0));
        let rising = [third(0.0), third(1.0 / 3.0), third(2.0 / 3.0)];
        match self {
            Self::Gray => [byte(share); 3],
            Self::Hot => rising,
            Self::Ice => [rising[2], rising[1], rising[0]],
        }
    }
}

fn byte(share: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1 becomes 0 to 255"
    )]
    let value = (share * 255.0).round() as u8;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_go_from_black_to_white_and_never_darken() {
        for map in [ColourMap::Gray, ColourMap::Hot, ColourMap::Ice] {
            assert_eq!((map.colour(0.0), map.colour(1.0)), ([0; 3], [255; 3]));
            assert_eq!((map.colour(-1.0), map.colour(f64::NAN), map.colour(9.0)), ([0; 3], [0; 3], [255; 3]));
            let light = |step: u32| map.colour(f64::from(step) / 100.0).map(u32::from).iter().sum::<u32>();
            assert!((0..100).all(|step| light(step) <= light(step + 1)));
        }
    }
}
