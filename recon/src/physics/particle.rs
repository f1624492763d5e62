//! Magnetic nanoparticles: moment, response to a field, relaxation.

use serde::{Deserialize, Serialize};

use super::langevin_over;
use crate::Error;

/// Boltzmann's constant in J/K, exact since the SI of 2019.
pub const BOLTZMANN: f64 = 1.380_649e-23;
/// The magnetic constant in T·m/A (CODATA 2018 differs from 4π·10⁻⁷ in the tenth digit).
pub const MU0: f64 = 1.256_637_062_12e-6;
/// Molar mass of magnetite, Fe₃O₄, in kg/mol (IUPAC atomic weights), and its density in kg/m³.
const MAGNETITE: (f64, f64) = (0.231_533, 5180.0);

/// A kind of particle, all alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Particle {
    /// Diameter of the magnetic core in metres.
    pub diameter: f64,
    /// Saturation magnetisation of the core times µ0, in tesla; magnetite has 0.6.
    pub saturation: f64,
    /// Temperature in kelvin.
    pub temperature: f64,
    /// Time constant of Debye relaxation in seconds; 0 for particles that follow at once.
    pub relaxation: f64,
}

impl Default for Particle {
    /// Magnetite of 25 nm at 300 K that follows at once.
    fn default() -> Self {
        Self { diameter: 25e-9, saturation: 0.6, temperature: 300.0, relaxation: 0.0 }
    }
}

impl Particle {
    /// Volume of the core in m³.
    #[must_use]
    pub fn volume(&self) -> f64 {
        std::f64::consts::PI / 6.0 * self.diameter.powi(3)
    }

    /// Magnetic moment `m` in A·m².
    #[must_use]
    pub fn moment(&self) -> f64 {
        self.saturation / MU0 * self.volume()
    }

    /// `β = m/(k T)` in 1/T: ξ = β|B|.
    #[must_use]
    pub fn beta(&self) -> f64 {
        self.moment() / (BOLTZMANN * self.temperature)
    }

    /// Mean moment along `B` per tesla of it, in A·m²/T: `m L(ξ)/|B|`. Finite where the field is zero.
    #[must_use]
    pub fn response(&self, strength: f64) -> f64 {
        let beta = self.beta();
        self.moment() * beta * langevin_over(beta * strength)
    }

    /// Particles per m³ in a suspension with this much iron in mol/m³ (which is mmol/L): cores of magnetite have three iron atoms a formula.
    #[must_use]
    pub fn density(&self, iron: f64) -> f64 {
        let (molar_mass, density) = MAGNETITE;
        iron / 3.0 * molar_mass / (density * self.volume())
    }

    /// Distance over which a gradient in T/m blurs a point along it, at half height, in metres: `4.161/(β G)`.
    #[must_use]
    pub fn resolution(&self, gradient: f64) -> f64 {
        4.161 / (self.beta() * gradient.abs())
    }

    /// Values that make no physical sense are refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let positive =
            [("diameter", self.diameter), ("saturation", self.saturation), ("temperature", self.temperature)];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::model("particle", format!("`{name}` is {value}; it must be above 0")));
            }
        }
        if !(self.relaxation.is_finite() && self.relaxation >= 0.0) {
            let text = format!("`relaxation` is {}; it must be 0 or more seconds", self.relaxation);
            return Err(Error::model("particle", text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of resolutions at 300 K with µ0·M = 0.6 T in the literature on MPI: millimetres over diameter and gradient.
    #[test]
    fn resolutions_are_those_of_the_literature() {
        let expected = [
            (25e-9, 2.5, 1.76),
            (25e-9, 5.7, 0.77),
            (25e-9, 7.0, 0.63),
            (20e-9, 2.5, 3.45),
            (20e-9, 5.7, 1.51),
            (17e-9, 2.5, 5.61),
            (17e-9, 5.7, 2.46),
            (27e-9, 2.5, 1.40),
            (27e-9, 5.7, 0.61),
        ];
        for (diameter, gradient, millimetres) in expected {
            let particle = Particle { diameter, ..Particle::default() };
            let found = particle.resolution(gradient) * 1e3;
            assert!((found - millimetres).abs() < 0.006, "{diameter} {gradient}: {found} mm");
        }
    }

    #[test]
    fn iron_becomes_particles() {
        let particle = Particle::default();
        // 1 mol of iron is 77.2 g of magnetite.
        let mass = particle.density(1000.0) * particle.volume() * 5180.0;
        assert!((mass - 77.178).abs() < 0.001, "{mass}");
    }

    #[test]
    fn nonsense_is_refused() {
        let hot = Particle { temperature: f64::NAN, ..Particle::default() };
        assert!(hot.check().unwrap_err().to_string().contains("`temperature` is NaN"));
        let early = Particle { relaxation: -1e-6, ..Particle::default() };
        assert!(early.check().is_err());
        Particle::default().check().unwrap();
    }
}
