//! Scriptlets and triggers.

use super::facts::relation;
use super::header::Header;
use crate::{ScriptFacts, scripts};

/// Name, script and interpreter (rpmtag.h).
const SCRIPTLETS: [(&str, u32, u32); 9] = [
    ("pre", 1023, 1085),
    ("post", 1024, 1086),
    ("preun", 1025, 1087),
    ("postun", 1026, 1088),
    ("pretrans", 1151, 1153),
    ("posttrans", 1152, 1154),
    ("preuntrans", 5104, 5106),
    ("postuntrans", 5105, 5107),
    ("verify", 1079, 1091),
];

/// Tags of one sort of triggers: scripts, interpreters, and for each condition its name, version, flags and the number
/// of its script.
struct Triggers {
    prefix: &'static str,
    scripts: u32,
    interpreters: u32,
    names: u32,
    versions: u32,
    flags: u32,
    indices: u32,
}

/// Triggers on packages, on files, and on files after all of a transaction.
const TRIGGERS: [Triggers; 3] = [
    Triggers {
        prefix: "trigger",
        scripts: 1065,
        interpreters: 1092,
        names: 1066,
        versions: 1067,
        flags: 1068,
        indices: 1069,
    },
    Triggers {
        prefix: "filetrigger",
        scripts: 5066,
        interpreters: 5067,
        names: 5069,
        versions: 5071,
        flags: 5072,
        indices: 5070,
    },
    Triggers {
        prefix: "transfiletrigger",
        scripts: 5076,
        interpreters: 5077,
        names: 5079,
        versions: 5081,
        flags: 5082,
        indices: 5080,
    },
];

/// When a trigger runs (`RPMSENSE_TRIGGERPREIN` and the like).
const MOMENTS: [(u64, &str); 4] = [(1 << 25, "prein"), (1 << 16, "in"), (1 << 17, "un"), (1 << 18, "postun")];

/// Triggers of one sort that are listed.
const TRIGGERS_LISTED: usize = 256;
/// Conditions named of one trigger.
const CONDITIONS: usize = 64;

pub(super) fn read(header: &Header) -> Vec<ScriptFacts> {
    let mut found = Vec::new();
    for (name, script, interpreter) in SCRIPTLETS {
        let text = header.raw_strings(script).next();
        // An interpreter with arguments is an array of words; without a script it runs by itself, often `/sbin/ldconfig`.
        let words = header.strings(interpreter);
        let interpreter = words.join(" ");
        let interpreter = (!interpreter.is_empty()).then_some(interpreter);
        if text.is_some() || interpreter.is_some() {
            found.push(scripts::read_with(name, interpreter, text.unwrap_or_default()));
        }
    }
    for triggers in TRIGGERS {
        triggers.read(header, &mut found);
    }
    found
}

impl Triggers {
    fn read(&self, header: &Header, found: &mut Vec<ScriptFacts>) {
        let names = header.strings(self.names);
        let versions = header.strings(self.versions);
        let (flags, indices) = (header.numbers(self.flags), header.numbers(self.indices));
        let interpreters = header.strings(self.interpreters);
        let conditions: Vec<_> = names.iter().zip(&flags).zip(&indices).enumerate().collect();
        for (number, script) in header.raw_strings(self.scripts).take(TRIGGERS_LISTED).enumerate() {
            let mine = conditions.iter().filter(|(_, (_, index))| **index == number as u64);
            let mine: Vec<_> = mine.take(CONDITIONS).collect();
            let moment = mine.iter().find_map(|(_, ((_, flags), _))| {
                MOMENTS.iter().find(|(flag, _)| **flags & flag != 0).map(|(_, moment)| *moment)
            });
            let conditions = mine.iter().map(|(at, ((name, flags), _))| {
                relation(name, **flags, versions.get(*at).map_or("", String::as_str))
            });
            let conditions = conditions.collect::<Vec<_>>().join(", ");
            let name = format!("{}{} {conditions}", self.prefix, moment.unwrap_or_default());
            let interpreter = interpreters.get(number).filter(|name| !name.is_empty());
            found.push(scripts::read_with(name.trim_end(), interpreter.cloned(), script));
        }
    }
}
