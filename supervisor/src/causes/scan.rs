//! What the words in a log point to, and how much each of them weighs.
//!
//! A log is full of errors that its tool lives with. So a line weighs more the less else its words are said of, the nearer it is to the
//! end, and the graver it sounds; and less where its tool says that it goes on all the same.

use super::evidence::{Evidence, Said};
use super::pattern::{self, Want};
use super::subjects::{self, Signature};
use super::{errno, forms};

/// A cause that something points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Which cause.
    pub(super) code: &'static str,
    /// How much speaks for it.
    pub(super) weight: i32,
    /// What the sentence names.
    pub(super) thing: Option<String>,
    /// The line of the log, by its number.
    pub(super) line: Option<usize>,
    /// Whether the kernel, the loader or Hatchway itself has said so.
    pub(super) certain: bool,
}

/// From here on a finding is taken for what ended the tool.
pub(super) const WEIGHT_MIN: i32 = 14;
/// What a step of [`Signature::strength`] weighs.
const STRENGTH: i32 = 4;
/// The strength of a form that shells alone have.
const UNSET: i32 = 9;
/// What the last line weighs more than one that is far above.
const RECENT: i32 = 15;
/// What words of an error add.
const GRAVE: i32 = 5;
/// What words take away that say that the tool goes on.
const BENIGN: i32 = 18;
/// What such a line is worth at most once much more has been said: no strength makes up for it.
const PASSED: i32 = -24;
/// What is taken away where the tool has said later that it is up.
const OVERTAKEN: i32 = 12;

/// Words of those who give up, in lower case.
const FATAL: &[&str] = &[
    "fatal",
    "critical",
    "panic",
    "exiting",
    "giving up",
    "terminating",
    "aborting",
    "shutting down",
    "cannot continue",
    "can't continue",
    "emerg",
    "alert]",
    "severe",
];
/// Words of those who complain.
const ERROR: &[&str] = &[
    "error",
    "err:",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "failed",
    "failure",
    "unable",
    "exception",
    "refused",
    "denied",
    "[e]",
    " e/",
    "not found",
    "missing",
    "invalid",
    "must ",
];
/// Words of those who go on.
const GOES_ON: &[&str] = &[
    "warn",
    "[w]",
    "(w)",
    "~info~",
    "[i]",
    "~debug~",
    "~trace~",
    "~notice~",
    "optional",
    "ignor",
    "skip",
    "falling back",
    "fall back",
    "fallback",
    "using default",
    "using built-in",
    "using builtin",
    "use default",
    "default will be used",
    "defaults will be used",
    "defaults",
    "continuing",
    "continue without",
    "going on",
    "non-fatal",
    "nonfatal",
    "not fatal",
    "not critical",
    "harmless",
    "deprecat",
    "disabled",
    "disabling",
    "trying next",
    "trying another",
    "will try",
    "retrying",
    "creating it",
    "creating a new",
    "creating new",
    "will be created",
    "first run",
    "no problem",
    "recovered",
    "reconnected",
    "instead",
    "not required",
    "without it",
    "(ok)",
    "best effort",
    "hint:",
    "removed stale",
    "removing stale",
    "cleaned up",
    "nothing to clean",
    "cleanup",
    "clean up",
    "cleaning up",
];
/// Desktop libraries complain of these in tools that are well.
const NOISE: &[&str] = &[
    "gtk-message",
    "canberra",
    "atk-bridge",
    "accessibility bus",
    "dbind-",
    "libegl warning",
    "fontconfig warning",
    "icon theme",
    "theme engine",
    "session management error",
    "not set, defaulting",
    "dconf",
    "gvfs",
    "fixme:",
    "libva",
    "from ld_preload",
    "vdpau",
    "perl: warning",
    "telemetry",
    "update check",
    "checking for updates",
    "crash reporter",
    "splash",
];
/// Words of those who have come far, whole words.
const IS_UP: &[&str] = &[
    "~ready~",
    "listening on",
    "~initialized~",
    "~initialised~",
    "started successfully",
    "startup complete",
    "is running",
    "~online~",
    "successfully",
    "up and running",
    "initialization complete",
    "~connected~",
];

/// Of what is no line of its own: frames of a trace, what only closes a story.
fn is_frame(line: &str) -> bool {
    let bare = line.trim_start();
    let indented = bare.len() < line.len();
    indented && (bare.starts_with("at ") || bare.starts_with("File \""))
        || bare.starts_with('#') && bare[1..].starts_with(|c: char| c.is_ascii_digit())
        || bare.starts_with("[0x")
        || bare.starts_with("0x")
        || bare.starts_with("... ") && bare.ends_with(" more")
        || bare.chars().all(|c| !c.is_alphanumeric())
        || bare.starts_with("Traceback (")
        || bare.starts_with("note: run with `RUST_BACKTRACE")
        || (indented && (bare.starts_with("from ") || bare.starts_with("in ")))
}

/// Lines of the tool with what they are when read from the end.
pub(super) struct Lines<'e> {
    lines: &'e [Said],
    /// What words are looked for in: the lines, and behind each what the number of an error in it means.
    full: Vec<String>,
    /// The same in lower case.
    lower: Vec<String>,
    /// Of each line, how many lines of weight come after it.
    after: Vec<i32>,
    /// The last line in which the tool says that it is up.
    up: Option<usize>,
}

impl<'e> Lines<'e> {
    /// Of this evidence.
    #[must_use]
    pub(super) fn new(evidence: &'e Evidence) -> Self {
        let lines = evidence.lines.as_slice();
        let full: Vec<String> = lines.iter().map(|line| full(&line.text)).collect();
        let lower: Vec<String> = full.iter().map(|line| line.to_ascii_lowercase()).collect();
        let mut after = vec![0; lines.len()];
        let mut count = 0;
        for (index, line) in lines.iter().enumerate().rev() {
            after[index] = count;
            if !line.ours && !is_frame(&line.text) {
                count += 1;
            }
        }
        let is_up = |line: &str| {
            has(line, IS_UP)
                && !line.contains("not ")
                && !line.contains("fail")
                && !has(line, &["error", "lost", "dis"])
        };
        let up = lower.iter().rposition(|line| is_up(line));
        Self { lines, full, lower, after, up }
    }

    /// How a line weighs by itself.
    fn weight(&self, index: usize) -> i32 {
        let line = &self.lower[index];
        let mut weight = (RECENT - self.after[index]).max(0);
        if has(line, FATAL) {
            weight += GRAVE + 2;
        } else if has(line, ERROR) {
            weight += GRAVE;
        }
        // One that gives up does not go on, whatever else the line says. Retrying as the last that is heard is no going on either.
        let retries = line.contains("retry") && self.after[index] <= 2;
        let ends = |line: &str| has(line, &["fatal", "exiting", "giving up", "aborting", "terminating"]);
        let goes_on = has(line, GOES_ON)
            && !ends(line)
            && !retries
            && !self.lower.get(index + 1).is_some_and(|next| ends(next));
        if goes_on || has(line, NOISE) {
            weight -= BENIGN;
            // Whoever goes on and says much more has ended for another reason.
            if self.after[index] > 2 {
                weight = weight.min(PASSED);
            }
        }
        // What goes on in the next line: `… not found`, `continuing without it`.
        if let Some(next) = self.lower.get(index + 1)
            && has(next, &["continuing", "using default", "falling back", "ignored", "ignoring", "skipping"])
        {
            weight -= BENIGN;
        }
        if self.up.is_some_and(|up| up > index) {
            weight -= OVERTAKEN;
        }
        // The root of an exception's chain.
        if line.trim_start().starts_with("caused by") {
            weight += GRAVE;
        }
        if self.after[index] > 40 {
            weight -= 6;
        }
        weight
    }

    /// All that words point to, heaviest first.
    #[must_use]
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found: Vec<Finding> = Vec::new();
        for index in 0..self.lines.len() {
            if self.lines[index].ours {
                continue;
            }
            let own = self.weight(index);
            for signature in subjects::signatures() {
                let Some(gap) = self.fits(index, signature) else { continue };
                let weight = i32::from(signature.strength) * STRENGTH + own;
                let thing = self.thing(index, signature.want, gap);
                // Of two that are as heavy the one that names something is told.
                let finding =
                    Finding { code: signature.code, weight, thing, line: Some(index), certain: false };
                merge(&mut found, finding);
            }
            if let Some(name) = forms::unset_variable(&self.lines[index].text) {
                let weight = UNSET * STRENGTH + own;
                let thing = Some(name.to_owned());
                let finding =
                    Finding { code: "variable-missing", weight, thing, line: Some(index), certain: false };
                merge(&mut found, finding);
            }
        }
        found.sort_by_key(|finding| -finding.weight);
        found
    }

    fn fits<'l>(&'l self, index: usize, signature: &Signature) -> Option<&'l str> {
        let (line, lower) = (self.full[index].as_str(), self.lower[index].as_str());
        let unless = || signature.unless.iter().any(|pattern| pattern::find(pattern, line, lower).is_some());
        let mut all = signature.any.iter().filter_map(|pattern| pattern::find(pattern, line, lower));
        let gap = all.next()?;
        let group =
            |group: &&[&str]| group.iter().any(|pattern| pattern::find(pattern, line, lower).is_some());
        let added = &line[self.lines[index].text.len()..];
        let gap = if added.is_empty() { gap } else { gap.strip_suffix(added).unwrap_or(gap) };
        (signature.also.iter().all(group) && !unless()).then_some(gap)
    }

    /// What the line names, or one beside it: programs tell what they try in one line, and what came of it in the next.
    fn thing(&self, index: usize, want: Want, gap: &str) -> Option<String> {
        if let Some(text) = pattern::clean(gap) {
            return Some(text);
        }
        if let Some(text) = pattern::thing(want, &self.lines[index].text) {
            return Some(text);
        }
        let says = |index: &usize| {
            let lower = self.lower.get(*index).map_or("", String::as_str);
            let another = has(lower, &["warn", "default", "ignor", "skip", "optional"]) || has(lower, NOISE);
            !another && self.lines.get(*index).is_some_and(|line| !line.ours && !is_frame(&line.text))
        };
        let before = (0..index).rev().filter(says).take(2);
        let after = (index + 1..self.lines.len()).filter(says).take(2);
        let near = before.chain(after).filter_map(|index| self.lines.get(index));
        match want {
            Want::Port | Want::Server | Want::Device | Want::Library | Want::Path => {
                near.map(|line| line.text.as_str()).find_map(|line| pattern::thing(want, line))
            }
            Want::Nothing | Want::Gap | Want::Quoted | Want::Any => None,
        }
    }

    /// A line and those beside it, in lower case: what a line is about is often said in the one before.
    #[must_use]
    pub(super) fn around(&self, index: usize) -> String {
        let from = index.saturating_sub(2);
        let to = (index + 2).min(self.lower.len().saturating_sub(1));
        self.lower.get(from..=to).unwrap_or_default().join("\n")
    }

    /// A line and some before it, in lower case.
    #[must_use]
    pub(super) fn before(&self, index: usize, count: usize) -> String {
        self.lower.get(index.saturating_sub(count)..=index).unwrap_or_default().join("\n")
    }

    /// A line.
    #[must_use]
    pub(super) fn text(&self, index: usize) -> &str {
        self.lines.get(index).map_or("", |line| line.text.as_str())
    }

    /// A line in lower case.
    #[must_use]
    pub(super) fn lower(&self, index: usize) -> &str {
        self.lower.get(index).map_or("", String::as_str)
    }

    /// The last lines of the tool that say something.
    #[must_use]
    pub(super) fn last(&self, count: usize) -> Vec<&str> {
        let said = self.lines.iter().filter(|line| !line.ours && !is_frame(&line.text));
        let mut last: Vec<&str> = said.rev().take(count).map(|line| line.text.as_str()).collect();
        last.reverse();
        last
    }

    /// The last line that complains, with one before it; the last lines where none does.
    #[must_use]
    pub(super) fn complaint(&self, count: usize) -> Vec<&str> {
        let complains = |index: &usize| {
            let line = &self.lower[*index];
            !self.lines[*index].ours
                && (has(line, FATAL) || has(line, ERROR))
                && !has(line, GOES_ON)
                && !has(line, NOISE)
                && self.after[*index] < 12
        };
        match (0..self.lines.len()).rev().find(complains) {
            Some(index) => vec![self.text(index)],
            None => self.last(count),
        }
    }

    /// All lines in lower case, from the last.
    pub(super) fn backwards(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lower.iter().enumerate().rev().map(|(index, line)| (index, line.as_str()))
    }
}

/// A line with what the number of an error in it means.
fn full(line: &str) -> String {
    match errno::told(&line.to_ascii_lowercase()) {
        Some(text) => format!("{line}: {text}"),
        None => line.to_owned(),
    }
}

/// Keeps of each cause what weighs most.
pub(super) fn merge(found: &mut Vec<Finding>, finding: Finding) {
    match found.iter_mut().find(|other| other.code == finding.code) {
        Some(other) => {
            let heavier =
                finding.weight > other.weight || (finding.weight == other.weight && other.thing.is_none());
            if heavier {
                let thing = finding.thing.clone().or_else(|| other.thing.take());
                *other = Finding { thing, ..finding };
            } else if other.thing.is_none() {
                other.thing = finding.thing;
            }
        }
        None => found.push(finding),
    }
}

fn has(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| pattern::find(word, line, line).is_some())
}
