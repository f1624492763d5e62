//! The Langevin function of paramagnetism: how far a field of strength ξ (in units of thermal energy) aligns a particle.
//!
//! `L(ξ) = coth ξ − 1/ξ`. Near zero both terms are large and nearly equal, so the Taylor series stands in for them (the Bernoulli numbers of
//! `coth`): `L(ξ) = ξ/3 − ξ³/45 + 2ξ⁵/945 − ξ⁷/4725 + 2ξ⁹/93555 − …`.

/// Below it, the first term that the series leaves out is less than 1e-15 of the sum.
const SMALL: f64 = 0.1;

/// `L(ξ)`, odd, between −1 and 1.
#[must_use]
pub fn langevin(xi: f64) -> f64 {
    xi * langevin_over(xi)
}

/// `L(ξ)/ξ`, even, between 0 and 1/3. It is what multiplies a field vector, and has no singular point.
#[must_use]
pub fn langevin_over(xi: f64) -> f64 {
    let square = xi * xi;
    if square < SMALL * SMALL {
        let higher = 2.0 / 93_555.0 - square * (1382.0 / 638_512_875.0);
        return 1.0 / 3.0
            - square * (1.0 / 45.0 - square * (2.0 / 945.0 - square * (1.0 / 4725.0 - square * higher)));
    }
    let size = xi.abs();
    // coth ξ = (1 + e) / (1 − e) with e = exp(−2ξ), which does not overflow.
    let falling = (-2.0 * size).exp();
    ((1.0 + falling) / (1.0 - falling) - 1.0 / size) / size
}

/// `L'(ξ) = 1/ξ² − 1/sinh² ξ`, even, 1/3 at zero. Its width at half of its height is 4.161.
#[must_use]
pub fn langevin_derivative(xi: f64) -> f64 {
    let square = xi * xi;
    if square < SMALL * SMALL {
        let higher = 18.0 / 93_555.0 - square * (15_202.0 / 638_512_875.0);
        return 1.0 / 3.0
            - square * (3.0 / 45.0 - square * (10.0 / 945.0 - square * (7.0 / 4725.0 - square * higher)));
    }
    // 1/sinh² ξ = 4e / (1 − e)² with e = exp(−2ξ).
    let falling = (-2.0 * xi.abs()).exp();
    let rest = 1.0 - falling;
    1.0 / square - 4.0 * falling / (rest * rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_meets_the_closed_form() {
        // Where the two meet, the closed form has still twelve digits.
        for xi in [0.099_999, 0.100_001] {
            let (coth, sinh) = (1.0 / f64::tanh(xi), f64::sinh(xi));
            assert!((langevin(xi) - (coth - 1.0 / xi)).abs() < 1e-14, "{xi}");
            assert!(
                (langevin_derivative(xi) - (1.0 / (xi * xi) - 1.0 / (sinh * sinh))).abs() < 1e-12,
                "{xi}"
            );
        }
    }

    #[test]
    fn limits_and_symmetry() {
        assert_eq!(langevin(0.0), 0.0);
        assert_eq!(langevin_derivative(0.0), 1.0 / 3.0);
        assert!((langevin(1e6) - 1.0).abs() < 1.1e-6 && langevin(1e300) <= 1.0);
        assert_eq!(langevin(-3.0), -langevin(3.0));
        // A field of 1e-200 must not become 0/0.
        assert_eq!(langevin_over(1e-200), 1.0 / 3.0);
    }

    #[test]
    fn the_derivative_is_the_slope() {
        for xi in [0.01, 0.09, 0.11, 0.5, 2.0, 7.0, 30.0] {
            let step = 1e-5 * xi;
            let slope = (langevin(xi + step) - langevin(xi - step)) / (2.0 * step);
            assert!((slope / langevin_derivative(xi) - 1.0).abs() < 1e-7, "{xi}");
        }
    }

    /// Widths at half height of the two envelopes of the point-spread function (Goodwill and Conolly 2011).
    #[test]
    fn widths_at_half_height() {
        let width = |curve: fn(f64) -> f64| {
            let (mut inside, mut outside) = (0.0, 20.0);
            for _ in 0..60 {
                let middle = (inside + outside) / 2.0;
                if curve(middle) > 1.0 / 6.0 { inside = middle } else { outside = middle }
            }
            2.0 * inside
        };
        assert!((width(langevin_derivative) - 4.161).abs() < 5e-4);
        assert!((width(langevin_over) - 9.467).abs() < 5e-4);
    }
}
