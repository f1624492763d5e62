//! Every message that crosses a process boundary; no I/O. Its own crate because it is an ABI between processes.
//!
//! - [`bootstrap`]: what `hatchway run` hands to the shim: the plan of operations and the process to start.
//! - [`op`]: the operations themselves, a closed list.
//! - [`attend`]: the messages between the two halves of the shim.
//! - [`control`]: the messages between who comes to a running unit and its shim.
//! - [`exit`]: `exit.json`, the truth about an ended unit, and the exit codes of `hatchway run`.
//! - [`frames`]: streams of measured frames and of images.
//! - [`guest`]: the messages between `hatchway run` and a guest's init.
//! - [`log`]: the segments in which a unit's output is kept.
//! - [`mux`]: many streams over one way.
//! - [`path`]: paths on the host and paths inside a sandbox, as two types that do not mix.
//! - [`ready`]: when a tool counts as ready, and what is told of it.
//! - [`unit`]: what the recorder of a unit is told, and the messages to it.
#![forbid(unsafe_code)]

pub mod attend;
pub mod bootstrap;
pub mod control;
pub mod exit;
pub mod frames;
pub mod guest;
pub mod log;
pub mod mux;
pub mod op;
pub mod path;
pub mod ready;
pub mod unit;

pub use bootstrap::{
    Bootstrap, Companion, Fence, Health, Instruction, Process, ResourceLimit, Services, StdioMode,
};
pub use exit::{ExitReason, ExitRecord, Outcome, Stamp, Usage};
pub use op::{Channel, DeviceId, Door, Endpoint, Namespaces, Op, Owner, Slot, SourceKind, Transport};
pub use path::{HostPath, InsidePath, PathError};
pub use ready::Ready;

/// The version of [`Bootstrap`] and [`ExitRecord`]; the shim refuses any other.
pub const VERSION: u32 = 1;
