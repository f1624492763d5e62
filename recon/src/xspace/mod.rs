//! x-space reconstruction: each sample of the signal belongs to the place where the field-free point is just then.
//!
//! The signal over the speed of the field-free point is the object, blurred by the particles' answer: the *native image*. No calibration is
//! needed. What is lost is the drive frequency itself, which the scanner must filter out because its own field drowns everything there; with it
//! goes a constant in each partial field of view. Neighbours that overlap bring it back (*DC recovery*), or an edge at which nothing is.
//!
//! [`native_image`] is a line from partial fields of view that overlap; [`line_image`] is a plane from a field-free line that turns, by
//! filtered back-projection; [`native_points`] is a plane or a volume from a field-free point, of one partial field of view or several.
//! [`sharp_lines`] and [`sharp_points`] undo the particles' answer.
//!
//! MDF does not say where drive and receive channels point: the first is along x, the second along y, the third along z, and all receive
//! channels are equally sensitive.
//!
//! Sources: Goodwill and Conolly, "The x-space formulation of the magnetic particle imaging process", IEEE TMI 29 (2010), and
//! "Multidimensional x-space magnetic particle imaging", IEEE TMI 30 (2011); Lu, Goodwill, Saritas, Zheng and Conolly, "Linearity and shift
//! invariance for quantitative MPI", IEEE TMI 32 (2013).

mod agree;
mod answer;
mod backproject;
mod cg;
mod convolve;
mod deconvolve;
mod flux;
mod line;
mod lines;
mod native;
mod path;
mod scan;
mod shares;
mod sharp_line;
mod sharp_point;
mod signal;
#[cfg(test)]
mod simulated;
mod sweep;

pub use agree::agreeing_lag;
pub use answer::{Answer, distances, point_answers, point_spread};
pub use backproject::{Projection, Window, back_project};
pub use deconvolve::{Deconvolution, NonNegative, Sharp, Wiener};
pub use line::{Dc, LineSettings, PartialScan, native_image};
pub use lines::{line_image, projections};
pub use native::{ENTRIES, Native, native_points};
pub use path::{Across, Drive, Path};
pub use scan::{DriveFrequency, Lag, Part, Scan, Settings};
pub use sharp_line::sharp_lines;
pub use sharp_point::sharp_points;
pub use signal::{advance, in_time, inverse_chain, mirror_delay, mirror_relaxation, relax};
