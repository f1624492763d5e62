//! Which graphics card: what there is, and which one a wish means.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Error;

/// What an adapter is. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor, in the same memory.
    Integrated,
    /// A card that a host lends to a virtual machine.
    Virtual,
    /// Something else.
    Other,
    /// The processor itself: right results, no speed.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "of another kind",
            Self::Software => "software",
        })
    }
}

/// A graphics card, or what stands in for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Adapter {
    /// Its place in the list, from 0.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The driver and its version.
    pub driver: String,
    /// The interface it is spoken to by.
    pub backend: String,
    /// Bytes of a buffer that a kernel sees at once, at most. A larger matrix is cut into shards.
    pub binding_bytes_max: u64,
    /// Bytes of a buffer, at most.
    pub buffer_bytes_max: u64,
    /// Bytes of memory that the invocations of a group share, at most.
    pub shared_bytes_max: u32,
}

/// Which adapter is meant. In text `auto`, a place in the list, or else part of a name in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// The best: discrete before integrated before virtual; the first of several.
    #[default]
    Auto,
    /// By its place in the list.
    Index(usize),
    /// By a part of its name, in upper or lower case; the best of several.
    Name(String),
}

impl FromStr for Choice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.parse()) {
            ("auto", _) => Self::Auto,
            (_, Ok(index)) => Self::Index(index),
            (_, Err(_)) => Self::Name(text.to_owned()),
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Index(index) => write!(out, "{index}"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An adapter of a list, and why this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chosen {
    /// Its place in the list.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// The adapter that a wish means. A software adapter is taken by [`Choice::Auto`] only if it is allowed to be, and
/// otherwise when it is named.
///
/// # Errors
/// [`Error::NoGpu`] with what there is instead.
pub fn choose(adapters: &[Adapter], choice: &Choice, allow_software: bool) -> Result<Chosen, Error> {
    let names = || adapters.iter().map(|of| format!("`{}`", of.name)).collect::<Vec<_>>().join(", ");
    if adapters.is_empty() {
        return Err(Error::NoGpu("there is none with a Vulkan driver".to_owned()));
    }
    let best = |of: &dyn Fn(&Adapter) -> bool| {
        adapters.iter().filter(|adapter| of(adapter)).min_by_key(|adapter| (adapter.kind, adapter.index))
    };
    let (found, reason) = match choice {
        Choice::Auto => {
            let found = best(&|adapter| allow_software || adapter.kind != Kind::Software);
            let found = found.ok_or_else(|| {
                let names = names();
                Error::NoGpu(format!("there are software adapters only ({names}), which must be asked for"))
            })?;
            let rivals = adapters.iter().filter(|adapter| adapter.kind == found.kind).count();
            (found, format!("{} {} adapter", if rivals > 1 { "the first" } else { "the only" }, found.kind))
        }
        Choice::Index(index) => {
            let text = index.to_string();
            let named = || best(&|adapter| adapter.name.contains(&text));
            // A number is also what many cards are called by.
            let found = adapters.iter().find(|adapter| adapter.index == *index).or_else(named);
            let missing = || {
                Error::NoGpu(format!(
                    "there is no number {index} (counted from 0), and none has it in its name: {}",
                    names()
                ))
            };
            (found.ok_or_else(missing)?, format!("`{index}` was asked for"))
        }
        Choice::Name(part) => {
            let wanted = part.to_lowercase();
            let found = best(&|adapter| adapter.name.to_lowercase().contains(&wanted));
            let missing = || Error::NoGpu(format!("none has `{part}` in its name: {}", names()));
            (found.ok_or_else(missing)?, format!("`{part}` was asked for"))
        }
    };
    Ok(Chosen { index: found.index, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kinds: &[(Kind, &str)]) -> Vec<Adapter> {
        let one = |(index, (kind, name)): (usize, &(Kind, &str))| Adapter {
            index,
            name: (*name).to_owned(),
            kind: *kind,
            driver: String::new(),
            backend: "vulkan".to_owned(),
            binding_bytes_max: 1 << 27,
            buffer_bytes_max: 1 << 31,
            shared_bytes_max: 1 << 14,
        };
        kinds.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_choice_follows_its_rules() {
        use Kind::{Discrete, Integrated, Software, Virtual};
        let all = list(&[
            (Software, "llvmpipe (LLVM)"),
            (Virtual, "Virtio-GPU"),
            (Integrated, "Iris"),
            (Discrete, "GeForce A"),
            (Discrete, "GeForce B"),
        ]);
        for (text, allow, expected, reason) in [
            ("auto", false, 3, "the first discrete adapter"),
            ("auto", true, 3, "the first discrete adapter"),
            ("iris", false, 2, "`iris` was asked for"),
            ("geforce", false, 3, "`geforce` was asked for"),
            ("b", false, 4, "`b` was asked for"),
            ("LLVMpipe", false, 0, "`LLVMpipe` was asked for"),
            ("0", false, 0, "`0` was asked for"),
            ("1", false, 1, "`1` was asked for"),
        ] {
            let chosen = choose(&all, &text.parse().unwrap(), allow).unwrap();
            assert_eq!((chosen.index, chosen.reason.as_str()), (expected, reason), "{text}");
        }
        let some = |length: usize| choose(&all[..length], &Choice::Auto, false).map(|chosen| chosen.index);
        assert_eq!(some(3).unwrap(), 2);
        assert_eq!(some(2).unwrap(), 1);
        assert_eq!(choose(&all[..1], &Choice::Auto, true).unwrap().reason, "the only software adapter");
    }

    #[test]
    fn what_cannot_be_chosen_is_told_with_what_there_is() {
        let all = list(&[(Kind::Software, "llvmpipe")]);
        let say =
            |all: &[Adapter], text: &str| choose(all, &text.parse().unwrap(), false).unwrap_err().to_string();
        let begin = "no graphics card can be used: ";
        assert_eq!(say(&[], "auto"), format!("{begin}there is none with a Vulkan driver"));
        let only = "there are software adapters only (`llvmpipe`), which must be asked for";
        assert_eq!(say(&all, "auto"), format!("{begin}{only}"));
        assert_eq!(
            say(&all, "7"),
            format!("{begin}there is no number 7 (counted from 0), and none has it in its name: `llvmpipe`")
        );
        assert_eq!(say(&all, "iris"), format!("{begin}none has `iris` in its name: `llvmpipe`"));
    }
}
