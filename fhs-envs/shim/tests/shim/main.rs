//! The shim on the running kernel: as root, where the tests run as root, and as an ordinary user.
//! Each test makes its own tree from programs of the host; nothing is downloaded.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod containment;
mod ending;
mod files;
mod machine;
mod support;
mod terminal;
