//! Guests: a tree with Debian's kernel, or a disk image that somebody brings; by QEMU or VirtualBox.
//!
//! ```text
//! machine     what a guest is given: processors, memory, disks, serial lines, forwards, identity
//! image       whether a disk image is one file and nothing else
//! usb         devices of the host by names that stay
//! qemu_image  a guest from an image, on QEMU
//! virtualbox  the same on VirtualBox
//! ```
#![forbid(unsafe_code)]

pub mod image;
pub mod machine;
pub mod qemu_image;
pub mod usb;
pub mod virtualbox;

mod command;
mod error;

pub use error::Error;
