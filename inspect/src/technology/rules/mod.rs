//! What is recognised by what, as data.
//!
//! Every sign has a weight. A technology is claimed when its strongest sign is [`STRONG`], or when two different weak signs of it
//! are in the artifact: a word alone may stand in a list of file types, a help text or a table of vendors.
//!
//! Where the signs come from, group by group: the names of libraries are the sonames that the projects or vendors ship, device
//! nodes those of the kernel's `Documentation/admin-guide/devices.txt`, and environment variables and messages those which the
//! administrator's guides of the licence managers name.

mod devices;
mod displays;
mod licences;
mod runtimes;

use crate::TechnologyKind;

/// One such sign suffices.
pub(super) const STRONG: u8 = 2;
const S: u8 = STRONG;
/// Two different ones are needed.
const W: u8 = 1;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A library: a soname that begins so and goes on with nothing, `.`, `-` or a digit. Needed, noted or among the constants.
    Library(&'static str),
    /// A library whose name begins so, whatever follows.
    LibraryPrefix(&'static str),
    /// A file of the artifact of this name, whatever its case.
    File(&'static str),
    /// A file whose name begins and ends so, in lower case.
    FileLike(&'static str, &'static str),
    /// A word among the constants of a program, one of [`MARKS`].
    Mark(&'static str),
    /// A hard-coded path that begins so.
    Path(&'static str),
    /// A library a Windows program imports, in lower case, the beginning of its name.
    Import(&'static str),
    /// A program's interpreter, the beginning of its base name.
    Interpreter(&'static str),
    /// `SUBSYSTEM` of a udev rule.
    Subsystem(&'static str),
    /// The beginning of `KERNEL` of a udev rule.
    Kernel(&'static str),
    /// A port in an endpoint.
    Port(&'static str),
    /// An endpoint of the form `port@host`.
    Server,
}

/// A technology and its signs.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) kind: TechnologyKind,
    pub(super) name: &'static str,
    pub(super) signs: &'static [(Sign, u8)],
}

const fn rule(kind: TechnologyKind, name: &'static str, signs: &'static [(Sign, u8)]) -> Rule {
    Rule { kind, name, signs }
}

/// Every rule, group after group.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    let tables = [
        licences::LICENCES,
        licences::IDENTITIES,
        displays::GUIS,
        displays::GPUS,
        devices::DEVICES,
        runtimes::SOUNDS,
        runtimes::RUNTIMES,
    ];
    tables.into_iter().flatten()
}
