//! Guests: a tree with Debian's kernel, or a disk image that somebody brings; by QEMU or VirtualBox.
//!
//! ```text
//! erofs       a tree as a read-only disk
//! cpio        the archive that a kernel unpacks first
//! kernel      a kernel and its modules, out of Debian's package
//! qemu        QEMU as the machine of a guest that is made from a tree
//! state       the disk that a guest keeps between runs
//! machine     what a guest is given: processors, memory, disks, serial lines, forwards, identity
//! image       whether a disk image is one file and nothing else
//! usb         devices of the host by names that stay
//! qemu_image  a guest from an image, on QEMU
//! virtualbox  the same on VirtualBox
//! ```
#![forbid(unsafe_code)]

pub mod cpio;
pub mod erofs;
pub mod image;
pub mod kernel;
pub mod machine;
pub mod qemu;
pub mod qemu_image;
pub mod state;
pub mod usb;
pub mod virtualbox;

mod command;
mod error;
mod plain;
mod uuid;
mod vmlinux;

pub use error::Error;
