//! Why something that was asked was not done: RFC 9457, with codes that stay.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::causes::subjects::{self, Kind};
use crate::error::Error;

/// What went wrong, for programs; `hatchway explain CODE` says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Nothing is at this path.
    NoSuchPath,
    /// The path has another method.
    NoSuchMethod,
    /// The request is not as it should be.
    BadRequest,
    /// The role does not suffice.
    NotPermitted,
    /// The instrument has no such unit.
    NoSuchUnit,
    /// The unit has no such run.
    NoSuchRun,
    /// An instrument or a recipe is wrong.
    WrongFile,
    /// The unit does not run.
    NotRunning,
    /// The unit has no terminal.
    NoTerminal,
    /// Somebody else writes to the unit's terminal.
    Occupied,
    /// Something could not be done.
    Failed,
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// A code, what it means, what mostly causes it, and what to do.
#[derive(Debug, Clone, Serialize)]
pub struct Meaning {
    /// The code.
    pub code: &'static str,
    /// The status of HTTP that comes with it, where it is one of the API's errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What it means.
    pub means: &'static str,
    /// What causes it, mostly.
    pub causes: &'static str,
    /// What to do.
    pub next: Cow<'static, str>,
}

/// All codes that `hatchway explain` knows: of the API's errors, and of causes.
pub fn meanings() -> impl Iterator<Item = Meaning> {
    let of_cause = |kind: &'static Kind| Meaning {
        code: kind.code,
        status: None,
        means: kind.means,
        causes: kind.mostly,
        next: Cow::Owned(kind.next.join("; ").replace("{unit}", "UNIT").replace("{}", "…")),
    };
    MEANINGS.iter().cloned().chain(subjects::kinds().map(of_cause))
}

/// Those of the API's errors.
pub const MEANINGS: &[Meaning] = &[
    Meaning {
        code: "no-such-path",
        status: Some(404),
        means: "Nothing of the API is at this path.",
        causes: "A client of another version, or a typing error.",
        next: Cow::Borrowed(
            "`curl --unix-socket /run/hatchway/api.sock http://h/v1/openapi.json` lists what there is.",
        ),
    },
    Meaning {
        code: "no-such-method",
        status: Some(405),
        means: "The path is there, and takes another method.",
        causes: "GET reads, POST changes; there are no others.",
        next: Cow::Borrowed("`/v1/openapi.json` says which method a path has."),
    },
    Meaning {
        code: "bad-request",
        status: Some(400),
        means: "A parameter or the body is not as it should be.",
        causes: "A misspelt key, a wrong type, a relative path.",
        next: Cow::Borrowed("The detail names the place."),
    },
    Meaning {
        code: "not-permitted",
        status: Some(403),
        means: "Whoever asks has not the role that this takes.",
        causes: "The kernel says who asks; `[roles]` of the instrument says what they may.",
        next: Cow::Borrowed(
            "`id` says who you are. Somebody with the role asks for you, or root gives it to you in `instrument.toml` and runs `hatchway up`.",
        ),
    },
    Meaning {
        code: "no-such-unit",
        status: Some(404),
        means: "The instrument that is carried out has no unit of this name.",
        causes: "A typing error, or an instrument that was changed and not applied.",
        next: Cow::Borrowed("`hatchway status` shows the units; `hatchway up` applies the instrument."),
    },
    Meaning {
        code: "no-such-run",
        status: Some(404),
        means: "The unit has no such run, or nothing of what that said is kept.",
        causes: "It never ran since the machine started, or ten later runs have taken its place.",
        next: Cow::Borrowed("`hatchway history UNIT` shows the runs that are known."),
    },
    Meaning {
        code: "wrong-file",
        status: Some(422),
        means: "An instrument or a recipe is wrong, cannot be read, or may be changed by others than root.",
        causes: "The detail has the file, the line and the column.",
        next: Cow::Borrowed("Mend the file, then `hatchway up` again. Nothing was changed."),
    },
    Meaning {
        code: "not-running",
        status: Some(409),
        means: "The unit does not run, so nobody can come to it.",
        causes: "It was stopped, has failed, or waits for others.",
        next: Cow::Borrowed("`hatchway why UNIT` says which; `hatchway start UNIT` starts it."),
    },
    Meaning {
        code: "no-terminal",
        status: Some(409),
        means: "The unit has no terminal that somebody could come to.",
        causes: "Its recipe does not ask for one, or has asked for it since the unit's start.",
        next: Cow::Borrowed(
            "`terminal = true` in [service] of its recipe, then `hatchway up`. `hatchway logs UNIT -f` follows what it says.",
        ),
    },
    Meaning {
        code: "occupied",
        status: Some(409),
        means: "Somebody else writes to the unit's terminal, and one at a time does.",
        causes: "They are attached; the detail names them.",
        next: Cow::Borrowed(
            "`hatchway attach UNIT --read-only` watches them; `--take` takes the terminal over, and tells them.",
        ),
    },
    Meaning {
        code: "failed",
        status: Some(500),
        means: "Something could not be done on this machine.",
        causes: "A full or a read-only disk, mostly; the detail says what was tried on which path.",
        next: Cow::Borrowed(
            "`hatchway doctor` looks at the machine, `hatchway events` shows what has happened.",
        ),
    },
];

/// The answer of the API where something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:hatchway:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: String,
    /// The status of HTTP.
    pub status: u16,
    /// What was the matter this time.
    pub detail: String,
    /// For programs.
    pub code: Code,
    /// What to do, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(code: Code, detail: &str) -> Self {
        let name = serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned));
        let name = name.unwrap_or_default();
        let meaning = MEANINGS.iter().find(|meaning| meaning.code == name);
        Self {
            kind: format!("urn:hatchway:{name}"),
            title: meaning.map_or_else(String::new, |meaning| meaning.means.to_owned()),
            status: meaning.and_then(|meaning| meaning.status).unwrap_or(500),
            detail: detail.to_owned(),
            code,
            hints: Vec::new(),
        }
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, text: &str) -> Self {
        self.hints.push(text.to_owned());
        self
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let code = match error {
            Error::Recipe(_) | Error::ForeignRecipe(_) | Error::NoRecipe { .. } => Code::WrongFile,
            Error::Usage(_) => Code::BadRequest,
            Error::NotRunning { .. } => Code::NotRunning,
            Error::NoTerminal { .. } => Code::NoTerminal,
            Error::Occupied { .. } => Code::Occupied,
            _ => Code::Failed,
        };
        Self { hints: error.hints(), ..Self::new(code, &error.whole()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_meaning_and_each_meaning_a_code() {
        for meaning in MEANINGS {
            let code: Code = serde_json::from_value(meaning.code.into()).unwrap();
            assert_ne!(code, Code::Other, "{}", meaning.code);
            let problem = Problem::new(code, "x");
            assert_eq!((Some(problem.status), problem.title.as_str()), (meaning.status, meaning.means));
        }
        for code in [
            Code::NoSuchPath,
            Code::NoSuchMethod,
            Code::BadRequest,
            Code::NotPermitted,
            Code::NoSuchUnit,
            Code::NoSuchRun,
            Code::WrongFile,
            Code::NotRunning,
            Code::NoTerminal,
            Code::Occupied,
            Code::Failed,
        ] {
            assert!(!Problem::new(code, "x").title.is_empty(), "{code:?}");
        }
    }
}
