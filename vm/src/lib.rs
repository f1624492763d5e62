//! Guests: a tree with Debian's kernel, or a disk image that somebody brings; by QEMU or VirtualBox.
//!
//! ```text
//! machine  what a guest is given: processors, memory, disks, serial lines, forwards, identity
//! ```
#![forbid(unsafe_code)]

pub mod machine;

mod error;

pub use error::Error;
