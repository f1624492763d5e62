//! Whether a device had been there before it was not: the kernel says `No such device` of both.

use std::collections::BTreeSet;

use super::pattern::{self, Want};
use super::scan::{Finding, Lines};

/// Lines before that are looked at.
const BACK: usize = 120;
/// Calls that only something which is open can fail at.
const IN_USE: &[&str] = &[
    "~dqbuf",
    "_dqbuf",
    "_qbuf",
    "~urb~",
    "submit",
    "~transfer~",
    "~endpoint~",
    "~ep 0x",
    "~read:",
    "~read()",
    "~read failed",
    "~read error",
    "~readi ",
    "~write:",
    "~write()",
    "~write failed",
    "~write error",
    "~recv",
    "bulk read",
    "bulk write",
    "~tcdrain~",
    "~tcsetattr~",
    "during",
    "while reading",
    "while writing",
    "~lost~",
];
/// Words of those who look for a device, or begin with it.
const BEGINS: &[&str] = &[
    "open",
    "~find",
    "~found~",
    "detect",
    "~prob",
    "enumerat",
    "~claim",
    "~attach",
    "~search",
    "~scan for",
    "~init",
];
/// Words of data that come from a device, or of one that is at work.
const WORKS: &[&str] = &[
    "~frame~",
    "~frames~",
    "~images~",
    "~grabbed~",
    "~fps~",
    "~sample~",
    "~samples~",
    "~sps~",
    "~streaming~",
    "~acquiring~",
    "~acquired~",
    "~acquisition running",
    "~acquisition started",
    "~recording~",
    "~measuring~",
    "~measured~",
    "~received~",
    "~opened~",
    "~connected~",
    "~attached~",
    "~claimed~",
    "~online~",
    "~homed~",
    "~responding~",
    "~firmware version",
    "~firmware rev",
    "*idn?",
    "~readings~",
    "~packets~",
    "bytes/s",
    "kb/s",
    "mb/s",
    "msps",
];
/// Of a line that names the very device these are enough.
const WELL: &[&str] = &["~ok~", "~ready~", "~started~", "~running~", "~baud", "~up~"];
/// Lines with these are alike since something is tried again and again.
const TRIES: &[&str] =
    &["retry", "~retries", "attempt", "~try", "wait", "sleep", "~scanning", "~prob", "search", "~port "];
/// With these a line of that kind says the opposite, or is about something else: settings, files, other machines.
const NOT: &[&str] = &[
    "~not~",
    "n't ",
    "~no ",
    "fail",
    "error",
    "cannot",
    "unable",
    "waiting",
    "expect",
    "~need",
    "~require",
    "config",
    "~0 frames",
    "~0 samples",
    "~0 of ",
    "file",
    "client",
    "server",
    "database",
    "~rate",
    "~size",
    "setting",
    "param",
    "~mode~",
    "format",
    "target",
    "request",
    "calib",
    "~load",
    "licen",
    "broker",
    "://",
    "display",
    "~x11",
    "~bus~",
    "signal",
    "~log~",
];

/// A device that worked and is not there any more has gone away.
pub(super) fn refine(finding: Finding, lines: &Lines<'_>) -> Finding {
    let Some(index) = finding.line.filter(|_| finding.code == "device-missing") else { return finding };
    let line = lines.lower(index);
    let in_use = has(line, IN_USE) && !has(line, BEGINS);
    if !in_use && !worked(lines, index) {
        return finding;
    }
    Finding { code: "device-lost", weight: finding.weight + 4, ..finding }
}

/// Whether lines before show it at work. Whoever opens one of several devices says nothing of the others.
fn worked(lines: &Lines<'_>, index: usize) -> bool {
    let own = pattern::thing(Want::Device, lines.text(index));
    let begins = has(lines.lower(index), BEGINS);
    let mut seen = BTreeSet::new();
    (index.saturating_sub(BACK)..index).any(|before| {
        let (line, text) = (lines.lower(before), lines.text(before));
        let named = pattern::thing(Want::Device, text).map(|other| own.as_ref() == Some(&other));
        // Who begins with a device has to have named it before.
        let of_file = pattern::path(text).is_some_and(|path| !path.starts_with("/dev/"));
        if !named.unwrap_or(!begins) || of_file || has(line, NOT) {
            return false;
        }
        // Lines that differ in their numbers alone are of something that goes on: positions, temperatures, steps.
        let goes_on = !has(line, TRIES) && !seen.insert(without_numbers(line));
        goes_on || has(line, WORKS) || (named == Some(true) && has(line, WELL))
    })
}

fn without_numbers(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit() && !"+-.".contains(*c)).collect()
}

fn has(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| pattern::find(word, line, line).is_some())
}
