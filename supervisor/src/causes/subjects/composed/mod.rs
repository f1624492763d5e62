//! What a line is about and what is the matter with it: vendors have words of their own for the same few things.

mod settings;
mod things;
mod words;

use super::{Signature, about};

/// All of them.
pub(super) fn signatures() -> impl Iterator<Item = &'static Signature> {
    things::SIGNATURES.iter().chain(settings::SIGNATURES)
}
