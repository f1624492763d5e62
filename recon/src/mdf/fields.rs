//! Every field of MDF 2.1 in one table. Reading, checking and writing take types, shapes and needs from here.
//!
//! Source: the MDF specification, version 2.1.0 (arXiv:1602.06072), its tables of groups and fields.

use serde::Serialize;

/// The length of one dimension of a dataset, by the letter that the specification gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Dim {
    /// Tracers.
    A,
    /// Kept coefficients of a sparse row.
    B,
    /// Receive channels.
    C,
    /// Drive-field channels.
    D,
    /// Background frames.
    E,
    /// Frequencies of a drive-field channel.
    F,
    /// Periods of a frame.
    J,
    /// Frequencies of the data.
    K,
    /// Frames.
    N,
    /// Foreground frames, which are the positions of a calibration.
    O,
    /// Voxels of a reconstruction.
    P,
    /// Frames of a reconstruction.
    Q,
    /// Channels of a reconstruction.
    S,
    /// Sampling points of a period.
    V,
    /// Sampling points that are stored.
    W,
    /// Steps of the fields within a period.
    Y,
    /// Two: factor and offset.
    Two,
    /// Three: the axes x, y, z.
    Three,
    /// V/2+1: every frequency of a period.
    All,
    /// B+E: coefficients, then background frames.
    Sparse,
}

impl Dim {
    /// The letter of the specification, or the number.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
            Self::J => "J",
            Self::K => "K",
            Self::N => "N",
            Self::O => "O",
            Self::P => "P",
            Self::Q => "Q",
            Self::S => "S",
            Self::V => "V",
            Self::W => "W",
            Self::Y => "Y",
            Self::Two => "2",
            Self::Three => "3",
            Self::All => "(V/2+1)",
            Self::Sparse => "(B+E)",
        }
    }
}

/// What the elements of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Type {
    /// Text.
    Text,
    /// Text: a UUID of version 4 in its canonical form.
    Uuid,
    /// Text: a time in UTC, `yyyy-mm-ddThh:mm:ss.ms`.
    Time,
    /// Int8, 0 or 1.
    Flag,
    /// Int64.
    Int64,
    /// Float64.
    Float64,
    /// A compound of two Float64 named `r` and `i`.
    Complex128,
    /// An integer of any width.
    Integer,
    /// An integer, a float, or a compound `{r, i}` of two.
    Number,
}

impl Type {
    /// The name that reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Uuid => "a UUID of version 4",
            Self::Time => "a time yyyy-mm-ddThh:mm:ss.ms",
            Self::Flag => "Int8, 0 or 1",
            Self::Int64 => "Int64",
            Self::Float64 => "Float64",
            Self::Complex128 => "Complex128 {r, i}",
            Self::Integer => "an integer",
            Self::Number => "a number",
        }
    }
}

/// Whether a field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Need {
    /// Wherever its group is.
    Mandatory,
    /// May be left out.
    Optional,
    /// Mandatory where the flag of this path is 1.
    When(&'static str),
    /// Not in the specification, but in use by MPIFiles.jl; no violation.
    Extension,
}

/// One field.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Field {
    /// Path in the file.
    pub path: &'static str,
    /// Type of its elements.
    pub kind: Type,
    /// Its shapes: one, or for the data several of which flags choose one. Slowest dimension first; empty is a scalar.
    pub shapes: &'static [&'static [Dim]],
    /// Whether it has to be there.
    pub need: Need,
    /// Unit, or nothing.
    pub unit: &'static str,
    /// The first version that has it.
    pub since: &'static str,
}

/// A group and whether a file has to have it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Group {
    /// Path in the file.
    pub path: &'static str,
    /// In every file.
    pub mandatory: bool,
}

/// The groups of the specification, parents first.
pub const GROUPS: &[Group] = &[
    Group { path: "", mandatory: true },
    Group { path: "/study", mandatory: true },
    Group { path: "/experiment", mandatory: true },
    Group { path: "/tracer", mandatory: false },
    Group { path: "/scanner", mandatory: true },
    Group { path: "/acquisition", mandatory: true },
    Group { path: "/acquisition/drivefield", mandatory: true },
    Group { path: "/acquisition/receiver", mandatory: true },
    Group { path: "/measurement", mandatory: false },
    Group { path: "/calibration", mandatory: false },
    Group { path: "/reconstruction", mandatory: false },
];

use Dim::{A, All, B, C, D, F, J, K, N, O, P, Q, S, Sparse, Three, Two, W, Y};
use Need::{Extension, Mandatory, Optional, When};
use Type::{Complex128, Flag, Float64, Int64, Integer, Number, Text, Time, Uuid};

/// A field of version 2.0.0.
const fn field(
    path: &'static str,
    kind: Type,
    shapes: &'static [&'static [Dim]],
    need: Need,
    unit: &'static str,
) -> Field {
    Field { path, kind, shapes, need, unit, since: "2.0.0" }
}

/// A field that came with version 2.1.0.
const fn new(path: &'static str, kind: Type, shapes: &'static [&'static [Dim]], need: Need) -> Field {
    Field { path, kind, shapes, need, unit: "", since: "2.1.0" }
}

const SCALAR: &[&[Dim]] = &[&[]];
const PERMUTED: Need = When("/measurement/isFramePermutation");
const SELECTED: Need = When("/measurement/isFrequencySelection");
const SPARSE: Need = When("/measurement/isSparsityTransformed");

/// Every field, in the order of the specification.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("/time", Time, SCALAR, Mandatory, ""),
    field("/uuid", Uuid, SCALAR, Mandatory, ""),
    field("/version", Text, SCALAR, Mandatory, ""),
    field("/study/description", Text, SCALAR, Mandatory, ""),
    field("/study/name", Text, SCALAR, Mandatory, ""),
    field("/study/number", Int64, SCALAR, Mandatory, ""),
    field("/study/time", Time, SCALAR, Optional, ""),
    field("/study/uuid", Uuid, SCALAR, Mandatory, ""),
    field("/experiment/description", Text, SCALAR, Mandatory, ""),
    field("/experiment/isSimulation", Flag, SCALAR, Mandatory, ""),
    field("/experiment/name", Text, SCALAR, Mandatory, ""),
    field("/experiment/number", Int64, SCALAR, Mandatory, ""),
    field("/experiment/subject", Text, SCALAR, Mandatory, ""),
    field("/experiment/uuid", Uuid, SCALAR, Mandatory, ""),
    field("/tracer/batch", Text, &[&[A]], Mandatory, ""),
    field("/tracer/concentration", Float64, &[&[A]], Mandatory, "mol(solute)/L"),
    field("/tracer/injectionTime", Time, &[&[A]], Optional, ""),
    field("/tracer/name", Text, &[&[A]], Mandatory, ""),
    field("/tracer/solute", Text, &[&[A]], Mandatory, ""),
    field("/tracer/vendor", Text, &[&[A]], Mandatory, ""),
    field("/tracer/volume", Float64, &[&[A]], Mandatory, "L"),
    field("/scanner/boreSize", Float64, SCALAR, Optional, "m"),
    field("/scanner/facility", Text, SCALAR, Mandatory, ""),
    field("/scanner/manufacturer", Text, SCALAR, Mandatory, ""),
    field("/scanner/name", Text, SCALAR, Mandatory, ""),
    field("/scanner/operator", Text, SCALAR, Mandatory, ""),
    field("/scanner/topology", Text, SCALAR, Mandatory, ""),
    field("/acquisition/gradient", Float64, &[&[J, Y, Three, Three]], Optional, "T/m/mu0"),
    field("/acquisition/numAverages", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/numFrames", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/numPeriodsPerFrame", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/offsetField", Float64, &[&[J, Y, Three]], Optional, "T/mu0"),
    field("/acquisition/startTime", Time, SCALAR, Mandatory, ""),
    field("/acquisition/drivefield/baseFrequency", Float64, SCALAR, Mandatory, "Hz"),
    field("/acquisition/drivefield/cycle", Float64, SCALAR, Mandatory, "s"),
    field("/acquisition/drivefield/divider", Int64, &[&[D, F]], Mandatory, ""),
    field("/acquisition/drivefield/numChannels", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/drivefield/phase", Float64, &[&[J, D, F]], Mandatory, "rad"),
    field("/acquisition/drivefield/strength", Float64, &[&[J, D, F]], Mandatory, "T/mu0"),
    field("/acquisition/drivefield/waveform", Text, &[&[D, F]], Mandatory, ""),
    field("/acquisition/receiver/bandwidth", Float64, SCALAR, Mandatory, "Hz"),
    field("/acquisition/receiver/dataConversionFactor", Float64, &[&[C, Two]], Optional, "unit"),
    field("/acquisition/receiver/inductionFactor", Float64, &[&[C]], Optional, ""),
    field("/acquisition/receiver/numChannels", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/receiver/numSamplingPoints", Int64, SCALAR, Mandatory, ""),
    field("/acquisition/receiver/transferFunction", Complex128, &[&[C, K], &[C, All]], Optional, ""),
    field("/acquisition/receiver/unit", Text, SCALAR, Mandatory, ""),
    field("/measurement/data", Number, &[&[N, J, C, K], &[J, C, K, N], &[N, J, C, W], &[J, C, W, N], &[J, C, K, Sparse]], Mandatory, "unit"),
    field("/measurement/framePermutation", Int64, &[&[N]], PERMUTED, ""),
    field("/measurement/frequencySelection", Int64, &[&[K]], SELECTED, ""),
    field("/measurement/isBackgroundCorrected", Flag, SCALAR, Mandatory, ""),
    field("/measurement/isBackgroundFrame", Flag, &[&[N]], Mandatory, ""),
    field("/measurement/isFastFrameAxis", Flag, SCALAR, Mandatory, ""),
    field("/measurement/isFourierTransformed", Flag, SCALAR, Mandatory, ""),
    field("/measurement/isFramePermutation", Flag, SCALAR, Mandatory, ""),
    field("/measurement/isFrequencySelection", Flag, SCALAR, Mandatory, ""),
    new("/measurement/isSparsityTransformed", Flag, SCALAR, Mandatory),
    field("/measurement/isSpectralLeakageCorrected", Flag, SCALAR, Mandatory, ""),
    field("/measurement/isTransferFunctionCorrected", Flag, SCALAR, Mandatory, ""),
    new("/measurement/sparsityTransformation", Text, SCALAR, SPARSE),
    new("/measurement/subsamplingIndices", Integer, &[&[J, C, K, B]], SPARSE),
    field("/calibration/deltaSampleSize", Float64, &[&[Three]], Optional, "m"),
    field("/calibration/fieldOfView", Float64, &[&[Three]], Optional, "m"),
    field("/calibration/fieldOfViewCenter", Float64, &[&[Three]], Optional, "m"),
    field("/calibration/method", Text, SCALAR, Mandatory, ""),
    field("/calibration/offsetFields", Float64, &[&[O, Three]], Optional, "T/mu0"),
    field("/calibration/order", Text, SCALAR, Optional, ""),
    field("/calibration/positions", Float64, &[&[O, Three]], Optional, "m"),
    field("/calibration/size", Int64, &[&[Three]], Optional, ""),
    field("/calibration/snr", Float64, &[&[J, C, K]], Optional, ""),
    field("/reconstruction/data", Number, &[&[Q, P, S]], Mandatory, ""),
    field("/reconstruction/fieldOfView", Float64, &[&[Three]], Optional, "m"),
    field("/reconstruction/fieldOfViewCenter", Float64, &[&[Three]], Optional, "m"),
    field("/reconstruction/isOverscanRegion", Flag, &[&[P]], Optional, ""),
    field("/reconstruction/order", Text, SCALAR, Optional, ""),
    field("/reconstruction/positions", Float64, &[&[P, Three]], Optional, "m"),
    field("/reconstruction/size", Int64, &[&[Three]], Optional, ""),
    field("/calibration/isMeanderingGrid", Flag, SCALAR, Extension, ""),
    field("/acquisition/receiver/transferFunctionFileName", Text, SCALAR, Extension, ""),
    field("/custom/auxiliaryData", Number, &[], Extension, ""),
];

/// The field of a path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

impl Field {
    /// The path of its group; empty for the root.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.path.rfind('/').map_or("", |at| &self.path[..at])
    }

    /// Whether a version has the field. Versions are compared as `major.minor`; text that is none has every field.
    #[must_use]
    pub fn is_in(&self, version: &str) -> bool {
        self.since == "2.0.0" || !version.starts_with("2.0")
    }

    /// A shape in letters, such as `J x C x K`.
    #[must_use]
    pub fn shape_name(shape: &[Dim]) -> String {
        if shape.is_empty() {
            return "a scalar".to_owned();
        }
        shape.iter().map(|dim| dim.symbol()).collect::<Vec<_>>().join(" x ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unique_and_groups_exist() {
        for (at, field) in FIELDS.iter().enumerate() {
            assert!(!FIELDS[..at].iter().any(|other| other.path == field.path), "{} twice", field.path);
            let known = GROUPS.iter().any(|group| group.path == field.group());
            assert!(known || field.need == Extension, "{} is in no group", field.path);
        }
    }

    #[test]
    fn conditions_name_flags() {
        for field in FIELDS {
            if let When(flag) = field.need {
                assert_eq!(find(flag).map(|flag| flag.kind), Some(Flag), "{}", field.path);
            }
        }
    }

    #[test]
    fn versions_before_sparsity_lack_its_flag() {
        let flag = find("/measurement/isSparsityTransformed").unwrap();
        assert!(!flag.is_in("2.0.0") && !flag.is_in("2.0.1") && flag.is_in("2.1.0"));
    }
}
