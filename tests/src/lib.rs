//! What the end-to-end tests are made of. They drive the real program through its command line and see what a person
//! sees: exit code, output, files.
//!
//! - [`bench`]: one test's folders and environment, and the program run in them;
//! - [`snapshot`]: comparing an outcome with text in the test, and writing that text anew;
//! - [`package`], [`tar`], [`compile`]: vendor packages made by hand, byte for byte the same each time;
//! - [`mirror`], [`keys`], [`server`]: a signed Debian archive in memory, served with faults on demand;
//! - [`oci`]: images made by hand; [`engine`], [`podman`]: container engines of the test's own;
//! - [`kernel`]: Debian's kernel for guests; [`guest`]: a disk image with a system on it;
//! - [`systemd`]: a real systemd as the first process of namespaces of its own;
//! - [`store`]: the store's folders seen from outside, by code that shares nothing with the program's.
//!
//! A test that lacks something panics with the package to install; none is skipped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

pub mod bench;
pub mod compile;
pub mod crash;
pub mod engine;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod keys;
pub mod mirror;
pub mod oci;
pub mod package;
pub mod podman;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod systemd;
pub mod tar;
pub mod windows;
