//! The CPU side's only unsafe code: safe wrappers for the few system calls that neither `nix` nor `rustix` binds,
//! or binds only as `unsafe`. Its own crate so that every other one can forbid unsafe code.
//!
//! Every function is safe to call with any argument; what a call needs to be sound is checked inside.

#![allow(unsafe_code, reason = "this crate is where it is allowed")]

pub mod descriptors;
pub mod devices;
pub mod lock;
pub mod mount;
pub mod network;
pub mod probe;
pub mod process;
pub mod seccomp;
pub mod user_namespace;
pub mod write_back;

use std::io;

/// Turns the return value of a C function into a result.
fn check(value: impl Into<i64>) -> io::Result<i64> {
    let value = value.into();
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
