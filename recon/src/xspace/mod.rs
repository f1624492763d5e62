//! x-space reconstruction: each sample of the signal belongs to the place where the field-free point is just then.
//!
//! The signal over the speed of the field-free point is the object, blurred by the particles' answer: the *native image*. No calibration is
//! needed. What is lost is the drive frequency itself, which the scanner must filter out because its own field drowns everything there; with it
//! goes a constant in each partial field of view, and neighbours that overlap bring it back (*DC recovery*).
//!
//! Sources: Goodwill and Conolly, "The x-space formulation of the magnetic particle imaging process", IEEE TMI 29 (2010); Lu, Goodwill,
//! Saritas, Zheng and Conolly, "Linearity and shift invariance for quantitative MPI", IEEE TMI 32 (2013).

mod line;

pub use line::{Dc, LineSettings, PartialScan, native_image};
