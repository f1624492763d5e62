//! Why a unit is as it is: the cause first, with what shows it and what to do.
//!
//! [`diagnose`] is pure: from [`Evidence`] and what a [`Host`] answers to ranked causes. [`subjects`] has what is known, [`scan`] weighs
//! what a log says, [`refine`] looks at what is beside it, and [`ended`] at how it ended. `docs/why.md` tells it to those who use it.

mod ended;
mod errno;
pub mod evidence;
mod forms;
mod history;
pub mod pattern;
mod refine;
mod scan;
pub mod subjects;

pub use evidence::{
    Cause, Confidence, Evidence, Host, Net, Nothing, Said, Shown, Slot, Source, Standing, Words,
};

use evidence::{bounded, plain};
use scan::{Finding, Lines, WEIGHT_MIN, merge};
use subjects::kind_of;

/// More causes than this are none.
pub const CAUSES_MAX: usize = 3;
/// Lines that are shown where nothing is known.
const LAST: usize = 3;
/// A finding that weighs so much less than the first is not told.
const APART: i32 = 22;
/// What weighs less is not even a guess.
const GUESS_MIN: i32 = 6;
/// From here on a finding is likely.
const LIKELY: i32 = 36;
/// Lines of the record or of notes that are shown with a cause.
const SHOWN_MAX: usize = 2;

/// Causes, the best first; one at least.
#[must_use]
pub fn diagnose(evidence: &Evidence, host: &dyn Host) -> Vec<Cause> {
    let evidence = Evidence { lines: bounded(&evidence.lines), ..evidence.clone() };
    let lines = Lines::new(&evidence);
    let mut found: Vec<Finding> = Vec::new();
    for finding in lines.findings() {
        merge(&mut found, refine::refine(finding, &lines, &evidence, host));
    }
    for finding in ended::findings(&evidence, &lines, host) {
        merge(&mut found, finding);
    }
    found.extend(clock(&found, host));
    let all = found.clone();
    found.retain(|finding| finding.code != "unhandled-exception" || !explained(&all, finding));
    let failed = matches!(&evidence.standing, Standing::Ended(_) | Standing::Gone);
    if !found.iter().any(|finding| finding.weight >= WEIGHT_MIN) && failed {
        found.push(Finding { code: "unknown", weight: WEIGHT_MIN, thing: None, line: None, certain: false });
    }
    found.sort_by_key(|finding| -finding.weight);
    let best = found.first().map_or(0, |finding| finding.weight);
    let told = found.iter().filter(|finding| best - finding.weight < APART).take(CAUSES_MAX);
    let told = told.filter(|finding| finding.weight >= GUESS_MIN);
    told.map(|finding| tell(finding, &lines, &evidence, host)).collect()
}

/// An exception that nobody catches is how something ended that another line names.
fn explained(found: &[Finding], exception: &Finding) -> bool {
    found.iter().any(|other| {
        other.code != exception.code
            && other.line.is_some()
            && other.line == exception.line
            && other.weight >= exception.weight - 4
    })
}

/// A clock that is far off is what certificates and licences fail by.
fn clock(found: &[Finding], host: &dyn Host) -> Option<Finding> {
    let by_time =
        ["certificate-expired", "certificate-not-yet-valid", "licence-expired", "certificate-untrusted"];
    let first =
        found.iter().filter(|finding| by_time.contains(&finding.code)).map(|finding| finding.weight).max()?;
    let why = host.clock()?;
    Some(Finding { code: "clock-wrong", weight: first + 1, thing: Some(why), line: None, certain: true })
}

fn tell(finding: &Finding, lines: &Lines<'_>, evidence: &Evidence, host: &dyn Host) -> Cause {
    let thing = thing_of(finding, lines, evidence);
    let (says, next) = match kind_of(finding.code) {
        Some(kind) => {
            let says = match &thing {
                Some(thing) if kind.says.contains("{}") => kind.says.replace("{}", thing),
                // What only adds to a sentence may be missing.
                _ if kind.says.contains("{}")
                    && !kind.says.starts_with("{}")
                    && !kind.says.contains(" {}")
                    && !kind.says.contains("`{}") =>
                {
                    kind.says.replace("{}", "")
                }
                _ if kind.says.contains("{}") => of_means(kind.means),
                _ => kind.says.to_owned(),
            };
            let bare = thing.as_deref().filter(|thing| is_harmless(thing));
            let fits = |line: &&&str| bare.is_some() || !line.contains("{}");
            let next = kind.next.iter().filter(fits);
            let bare = bare.unwrap_or_default();
            let next = next.map(|line| line.replace("{unit}", &evidence.unit).replace("{}", bare));
            (says, next.collect())
        }
        None => (finding.code.to_owned(), Vec::new()),
    };
    let mut shown = Vec::new();
    match finding.line {
        Some(index) => shown.push(Shown { source: Source::Log, text: lines.text(index).to_owned() }),
        None => shown.extend(of_record(evidence, lines)),
    }
    shown.extend(facts(finding, thing.as_deref(), evidence, host));
    let evidence = shown.into_iter().map(|shown| Shown { text: plain(&shown.text), ..shown }).collect();
    Cause { code: finding.code, says: plain(&says), confidence: confidence(finding), evidence, next }
}

/// Commands are typed as they are shown: a name that a tool has given is in them only where no shell sees more in it than a name.
fn is_harmless(thing: &str) -> bool {
    !thing.starts_with('-') && thing.chars().all(|c| c.is_ascii_alphanumeric() || "/._:@+-".contains(c))
}

/// The sentence of a code without a thing: it begins in lower case, as the others do, and has no full stop.
fn of_means(means: &str) -> String {
    let means = means.trim_end_matches('.');
    let mut chars = means.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let rest = chars.as_str();
    // `D-Bus`, `USB` and other names stay as they are.
    let is_name = rest.starts_with(|c: char| c.is_uppercase() || c == '-');
    if is_name { means.to_owned() } else { format!("{first}{rest}") }
}

/// Where a sentence names no thing of its own, the line is the thing.
fn thing_of(finding: &Finding, lines: &Lines<'_>, evidence: &Evidence) -> Option<String> {
    let of_line = || finding.line.and_then(|index| pattern::clean(lines.text(index)));
    match finding.code {
        "unknown" => {
            let last = lines.complaint(1).first().and_then(|line| pattern::clean(line));
            last.map(|line| format!("`{line}`"))
        }
        "assertion-failed"
        | "memory-corrupted"
        | "unhandled-exception"
        | "licence-expired"
        | "licence-in-use"
        | "licence-wrong-machine"
        | "licence-invalid"
        | "dongle-missing"
        | "needs-input"
        | "version-mismatch"
        | "opengl-missing"
        | "vulkan-missing"
        | "cuda-missing"
        | "cuda-too-old"
        | "gpu-lost"
        | "runtime-missing"
        | "database-error" => of_line(),
        "licence-missing" => finding.thing.clone().or_else(of_line),
        "config-error"
        | "bad-command-line"
        | "already-running"
        | "database-locked"
        | "sound-missing"
        | "wine-prefix-broken"
        | "windows-driver"
        | "licence-service-down" => of_line().or_else(|| finding.thing.clone()),
        "clock-wrong" => finding.thing.clone().or_else(of_line),
        "memory-limit" => {
            finding.thing.clone().or_else(|| evidence.words.memory.clone()).map(|limit| format!("`{limit}`"))
        }
        "group-memory-limit" => finding.thing.as_ref().map(|group| format!(": {group}")),
        "out-of-memory" => evidence.words.memory.as_ref().map(|limit| format!("; its limit is `{limit}`")),
        "too-many-tasks" => evidence.words.tasks.map(|tasks| format!("; its limit is {tasks}")),
        "shared-memory" => evidence.words.shm.as_ref().map(|size| format!("; its `/dev/shm` has `{size}`")),
        "display-missing" | "display-lost" | "bus-missing" | "fonts-missing" | "connection-lost"
        | "not-permitted" => finding
            .thing
            .clone()
            .filter(|thing| thing.chars().any(char::is_alphanumeric))
            .map(|thing| format!(": {thing}")),
        "file-size-limit" => finding.thing.clone().map(|thing| format!(": {thing}")),
        "illegal-instruction" | "aborted" => {
            finding.thing.clone().filter(|thing| thing.starts_with([';', ':']))
        }
        _ => finding.thing.clone(),
    }
}

fn of_record(evidence: &Evidence, lines: &Lines<'_>) -> Vec<Shown> {
    let mut shown: Vec<Shown> = evidence
        .shown
        .iter()
        .take(SHOWN_MAX)
        .map(|text| Shown { source: Source::Exit, text: text.clone() })
        .collect();
    if shown.is_empty() {
        shown.extend(
            lines.last(LAST).into_iter().map(|text| Shown { source: Source::Log, text: text.to_owned() }),
        );
    }
    shown
}

/// What the recipe and the machine add.
fn facts(finding: &Finding, thing: Option<&str>, evidence: &Evidence, host: &dyn Host) -> Vec<Shown> {
    let of_host = |text: String| Shown { source: Source::Host, text };
    let of_recipe = |text: String| Shown { source: Source::Recipe, text };
    let words = &evidence.words;
    let mut shown = Vec::new();
    match finding.code {
        "port-in-use" => {
            let who = thing.and_then(|port| port.parse().ok()).and_then(|port| host.listener(port));
            shown.extend(
                who.filter(|_| matches!(words.network, Net::Host | Net::Unknown))
                    .map(|who| of_host(format!("{who} listens there now"))),
            );
        }
        "network-closed" | "licence-server-unreachable" if words.known => {
            shown.push(of_recipe(words.network.told()));
        }
        "device-missing" | "device-busy" | "device-permission" | "device-lost" => {
            let node = thing.filter(|thing| thing.starts_with("/dev/"));
            shown.extend(node.and_then(|node| host.exists(node)).map(|is| {
                of_host(if is {
                    "the machine has this device now".to_owned()
                } else {
                    "the machine has no such device now".to_owned()
                })
            }));
            shown.extend(
                node.and_then(|node| host.holder(node)).map(|who| of_host(format!("{who} has it open now"))),
            );
        }
        "disk-full" => shown.extend(
            host.free_bytes()
                .map(|bytes| of_host(format!("{} MB are free where its state is", bytes / 1_000_000))),
        ),
        "path-hidden" => shown.push(of_host("the machine has this file".to_owned())),
        "out-of-memory" | "memory-limit" => {
            shown
                .extend(words.memory.as_ref().map(|limit| of_recipe(format!("limits.memory = \"{limit}\""))));
        }
        "too-many-tasks" => {
            shown.extend(words.tasks.map(|tasks| of_recipe(format!("limits.tasks = {tasks}"))));
        }
        "cuda-missing" | "vulkan-missing" | "opengl-missing" if words.known && !words.gpu => {
            shown.push(of_recipe("gpu = false".to_owned()));
        }
        "display-missing" if words.known && !words.display => {
            shown.push(of_recipe("display = \"none\"".to_owned()));
        }
        "sound-missing" if words.known && !words.audio => shown.push(of_recipe("audio = false".to_owned())),
        "bus-missing" | "bus-name-missing" if words.known && !words.dbus => {
            shown.push(of_recipe("no `dbus`".to_owned()));
        }
        "not-ready" | "unhealthy" => shown.extend(standing(evidence)),
        _ => {}
    }
    let notes = evidence.notes.iter().filter(|note| note_is_about(note, finding.code)).take(SHOWN_MAX);
    shown.extend(notes.map(|note| Shown { source: Source::Note, text: note.clone() }));
    shown
}

fn standing(evidence: &Evidence) -> Vec<Shown> {
    match &evidence.standing {
        Standing::Running { late: Some(text), .. } => {
            vec![Shown { source: Source::Standing, text: text.clone() }]
        }
        Standing::Running { unhealthy: true, .. } => {
            vec![Shown {
                source: Source::Standing,
                text: "its check has failed too often in a row".to_owned(),
            }]
        }
        _ => Vec::new(),
    }
}

/// Notes are shown with the cause that they could have to do with.
fn note_is_about(note: &str, code: &str) -> bool {
    let words: &[&str] = match code {
        "memory-limit" | "out-of-memory" | "too-many-tasks" => &["limit"],
        "read-only" | "disk-full" | "permission-denied" => &["overlay", "state"],
        "device-missing" | "slot-not-bound" | "device-permission" => &["device", "slot", "bound"],
        "cuda-missing" | "opengl-missing" | "vulkan-missing" => &["gpu"],
        "forbidden-system-call" => &["filter", "seccomp"],
        _ => &[],
    };
    words.iter().any(|word| note.contains(word))
}

fn confidence(finding: &Finding) -> Confidence {
    match finding.code {
        "unknown" => Confidence::Guess,
        _ if finding.certain => Confidence::Certain,
        _ if finding.weight >= LIKELY => Confidence::Likely,
        _ => Confidence::Guess,
    }
}

#[cfg(test)]
mod tests;
