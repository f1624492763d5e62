//! Guests: a tree with Debian's kernel, or a disk image that somebody brings; by QEMU or VirtualBox.
//!
//! ```text
//! erofs    a tree as a read-only disk
//! cpio     the archive that a kernel unpacks first
//! kernel   a kernel and its modules, out of Debian's package
//! machine  what a guest is given: processors, memory, disks, serial lines, forwards, identity
//! qemu     QEMU as the machine of a guest that is made from a tree
//! state    the disk that a guest keeps between runs
//! ```
#![forbid(unsafe_code)]

pub mod cpio;
pub mod erofs;
pub mod kernel;
pub mod machine;
pub mod qemu;
pub mod state;

mod error;

pub use error::Error;
