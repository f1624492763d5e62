//! What is known of causes, subject by subject: for each code what it means and what to do, and the words by which programs tell it.
//!
//! Words are those of systems and runtimes, not of single tools. Each group names where its words are from.

mod composed;
mod crash;
mod devices;
mod ends;
mod files;
mod graphics;
mod licence;
mod limits;
mod network;
mod runtimes;
mod setup;
mod start;

use super::pattern::Want;

/// A cause: its code, and what is said of it.
#[derive(Debug)]
pub struct Kind {
    /// A word that stays.
    pub code: &'static str,
    /// The sentence, with `{}` for the thing.
    pub says: &'static str,
    /// The sentence where the thing is not known; also what the code means.
    pub means: &'static str,
    /// What causes it, mostly.
    pub mostly: &'static str,
    /// What to do, a line each, with `{unit}` and `{}`.
    pub next: &'static [&'static str],
}

/// Words by which programs tell a cause.
#[derive(Debug)]
pub struct Signature {
    /// Which cause.
    pub code: &'static str,
    /// How much they say, from 1 (they are said of many things) to 9 (of nothing else).
    pub strength: u8,
    /// What the line should name.
    pub want: Want,
    /// Any of these, in lower case ([`super::pattern::find`]).
    pub any: &'static [&'static str],
    /// And of each of these groups one, anywhere in the line: what it is about, and what is the matter with it.
    pub also: &'static [&'static [&'static str]],
    /// With any of these it is something else.
    pub unless: &'static [&'static str],
}

const fn kind(
    code: &'static str,
    says: &'static str,
    means: &'static str,
    mostly: &'static str,
    next: &'static [&'static str],
) -> Kind {
    Kind { code, says, means, mostly, next }
}

const fn words(code: &'static str, strength: u8, want: Want, any: &'static [&'static str]) -> Signature {
    Signature { code, strength, want, any, also: &[], unless: &[] }
}

const fn words_unless(
    code: &'static str,
    strength: u8,
    want: Want,
    any: &'static [&'static str],
    unless: &'static [&'static str],
) -> Signature {
    Signature { code, strength, want, any, also: &[], unless }
}

/// What a line is about and what is the matter with it, in whatever words: as telling as a phrase only if nothing else fits.
const fn about(
    code: &'static str,
    strength: u8,
    want: Want,
    any: &'static [&'static str],
    also: &'static [&'static [&'static str]],
    unless: &'static [&'static str],
) -> Signature {
    Signature { code, strength, want, any, also, unless }
}

/// All codes, subject by subject.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    let all: [&'static [Kind]; 11] = [
        ends::KINDS,
        start::KINDS,
        crash::KINDS,
        limits::KINDS,
        files::KINDS,
        setup::KINDS,
        network::KINDS,
        licence::KINDS,
        devices::KINDS,
        graphics::KINDS,
        runtimes::KINDS,
    ];
    all.into_iter().flatten()
}

/// All words.
pub fn signatures() -> impl Iterator<Item = &'static Signature> {
    let all: [&'static [Signature]; 11] = [
        ends::SIGNATURES,
        start::SIGNATURES,
        crash::SIGNATURES,
        limits::SIGNATURES,
        files::SIGNATURES,
        setup::SIGNATURES,
        network::SIGNATURES,
        licence::SIGNATURES,
        devices::SIGNATURES,
        graphics::SIGNATURES,
        runtimes::SIGNATURES,
    ];
    all.into_iter().flatten().chain(composed::signatures())
}

/// What is known of a code.
#[must_use]
pub fn kind_of(code: &str) -> Option<&'static Kind> {
    kinds().find(|kind| kind.code == code)
}
