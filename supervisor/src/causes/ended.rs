//! What the record of an end, and how a unit stands, point to by themselves.

use hatchway_wire::ExitReason;
use hatchway_wire::exit::Short;
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::evidence::{Evidence, Host, Standing};
use super::pattern;
use super::scan::{Finding, Lines};

/// What Hatchway or the kernel has said of it outweighs every word of a log.
const DECIDED: i32 = 100;
/// A signal of the program's own making: words of the last moment say more.
const CRASH: i32 = 41;
/// The code of a child that a shell passes on.
const CHILD: i32 = 34;

fn found(code: &'static str, weight: i32, thing: Option<String>) -> Finding {
    Finding { code, weight, thing, line: None, certain: weight >= CRASH }
}

/// All that they point to.
#[must_use]
pub(super) fn findings(evidence: &Evidence, lines: &Lines<'_>, host: &dyn Host) -> Vec<Finding> {
    match &evidence.standing {
        Standing::Ended(reason) => of_reason(reason, evidence, lines, host),
        Standing::Gone => vec![found("gone-without-record", DECIDED, None)],
        Standing::Running { late, unhealthy } => running(late.as_deref(), *unhealthy, evidence, lines),
        Standing::Unknown => Vec::new(),
    }
}

fn running(late: Option<&str>, unhealthy: bool, evidence: &Evidence, lines: &Lines<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    if let Some(how) = late {
        let thing = how.split_once(": ").map_or(how, |(_, what)| what).to_owned();
        all.push(Finding { certain: true, ..found("not-ready", 33, Some(thing)) });
        let elsewhere = evidence.words.ready_port.and_then(|wanted| listens_elsewhere(lines, wanted));
        all.extend(elsewhere.map(|(index, port)| Finding {
            line: Some(index),
            ..found("ready-elsewhere", 40, Some(port.to_string()))
        }));
    }
    if unhealthy {
        all.push(Finding { certain: true, ..found("unhealthy", 33, None) });
    }
    if all.is_empty() {
        all.push(found("running", DECIDED, None));
    }
    all
}

/// A tool mostly says where it listens.
fn listens_elsewhere(lines: &Lines<'_>, wanted: u16) -> Option<(usize, u16)> {
    let says =
        |line: &str| ["listening", "serving", "bound to", "accepting"].iter().any(|word| line.contains(word));
    let all: Vec<(usize, u16)> = lines
        .backwards()
        .filter(|(_, line)| says(line))
        .filter_map(|(index, line)| Some((index, pattern::port(line)?)))
        .collect();
    match all.iter().any(|(_, port)| *port == wanted) {
        true => None,
        false => all.first().copied(),
    }
}

fn of_reason(reason: &ExitReason, evidence: &Evidence, lines: &Lines<'_>, host: &dyn Host) -> Vec<Finding> {
    let one = match reason {
        ExitReason::Exit { code: 0 } => found("ended-well", 46, None),
        ExitReason::Exit { code } => return of_code(*code, lines, host),
        ExitReason::Signal { signal, .. } => return vec![of_signal(*signal, CRASH, host)],
        ExitReason::Requested { signal, forced: false, .. } => {
            found("asked-to-end", DECIDED, Some(crate::units::signal_name(*signal)))
        }
        ExitReason::Requested { signal, forced: true, .. } => {
            found("did-not-end-in-time", DECIDED, Some(crate::units::signal_name(*signal)))
        }
        ExitReason::ExecFailed { found: is_there, errno, message, .. } => {
            exec_failed(*is_there, *errno, message, evidence)
        }
        ExitReason::MissingLibrary { library } => missing_library(library, lines),
        ExitReason::SandboxFailed { operation, message, .. } => {
            found("sandbox-failed", DECIDED, Some(format!("cannot {operation}: {message}")))
        }
        ExitReason::Oom { .. } => match &evidence.short {
            Some(Short::Group { path }) => found("group-memory-limit", DECIDED, Some(format!("`{path}`"))),
            Some(Short::Machine) => found("machine-memory", DECIDED, None),
            Some(Short::Unit | Short::Other) | None => {
                found("memory-limit", DECIDED, evidence.words.memory.clone())
            }
        },
        ExitReason::Engine { message, .. } => found("engine-failed", DECIDED, Some(message.clone())),
        ExitReason::Seccomp => found("forbidden-system-call", DECIDED, None),
        ExitReason::LogFull { .. } => found("log-full", DECIDED, None),
        ExitReason::Unhealthy { message, .. } => {
            let thing = message.split_once("not well: ").map_or(message.as_str(), |(_, what)| what);
            found("ended-unhealthy", DECIDED, Some(thing.to_owned()))
        }
        ExitReason::NotStarted { message } => not_started(message),
        ExitReason::Unknown { .. } => return Vec::new(),
        ExitReason::Lost { outcome } => {
            found("keeper-lost", DECIDED, Some(crate::units::outcome_told(*outcome)))
        }
    };
    vec![one]
}

/// Codes that mean the same everywhere: of shells 126, 127, and 128 with a signal's number for that of a child.
fn of_code(code: i32, lines: &Lines<'_>, host: &dyn Host) -> Vec<Finding> {
    match code {
        126 => vec![found("program-not-executable", CHILD - 4, None)],
        127 => vec![found("program-missing", CHILD - 4, None)],
        // A program of its own may use such a code, so the words of a log count more.
        132 | 134 | 135 | 136 | 139 | 153 => vec![of_signal(code - 128, CHILD, host)],
        137 | 143 | 130 | 129
            if lines.last(1).iter().all(|line| !line.to_ascii_lowercase().contains("error")) =>
        {
            vec![Finding { certain: false, ..of_signal(code - 128, CHILD - 4, host) }]
        }
        _ => Vec::new(),
    }
}

fn of_signal(signal: i32, weight: i32, host: &dyn Host) -> Finding {
    let named = Some(crate::units::signal_name(signal));
    match Signal::try_from(signal) {
        Ok(Signal::SIGSEGV) => found("segfault", weight, None),
        Ok(Signal::SIGBUS) => found("bus-error", weight, None),
        Ok(Signal::SIGILL) => {
            let lacks =
                ["avx512f", "avx2", "avx"].into_iter().find(|flag| host.processor_has(flag) == Some(false));
            found("illegal-instruction", weight, lacks.map(|flag| format!("; it has no {flag}")))
        }
        Ok(Signal::SIGABRT) => found("aborted", weight - 12, None),
        Ok(Signal::SIGFPE) => found("arithmetic-error", weight, None),
        Ok(Signal::SIGSYS) => found("forbidden-system-call", weight, None),
        Ok(Signal::SIGXFSZ) => found("file-size-limit", weight, None),
        Ok(Signal::SIGXCPU) => found("cpu-time-limit", weight, None),
        Ok(Signal::SIGPIPE) => found("connection-lost", weight - 8, None),
        Ok(Signal::SIGTRAP) => found("aborted", weight - 12, Some(": SIGTRAP".to_owned())),
        _ if weight == CRASH => found("killed", 60, named),
        _ => found("killed", weight, named),
    }
}

/// A program that is there and cannot be found is one whose interpreter is not there.
fn exec_failed(is_there: bool, errno: i32, message: &str, evidence: &Evidence) -> Finding {
    let lower = message.to_ascii_lowercase();
    let program = || Some(evidence.program.clone()).filter(|program| !program.is_empty());
    if lower.contains("interpreter") || lower.contains("loader") {
        let thing = pattern::path(message).filter(|path| *path != evidence.program);
        return found("interpreter-missing", DECIDED, thing.or_else(program));
    }
    if errno == Errno::ENOEXEC as i32 || lower.contains("exec format") {
        return found("wrong-architecture", DECIDED, program());
    }
    if is_there && lower.contains("no such file") {
        return found("interpreter-missing", DECIDED, None);
    }
    let code = if is_there { "program-not-executable" } else { "program-missing" };
    found(code, DECIDED, program().or_else(|| pattern::path(message)))
}

/// The loader says of every library that it could not open that it could not; why is behind that.
fn missing_library(library: &str, lines: &Lines<'_>) -> Finding {
    let opens = |line: &&str| {
        line.contains("cannot open shared object file: ") && line.contains(&library.to_ascii_lowercase())
    };
    let why = lines.backwards().map(|(_, line)| line).find(opens);
    let is = |texts: &[&str]| why.is_some_and(|why| texts.iter().any(|text| why.contains(text)));
    let code = match () {
        () if is(&["too many open files"]) => "too-many-open-files",
        () if is(&["cannot allocate memory"]) => "out-of-memory",
        () if is(&["permission denied", "operation not permitted"]) => "permission-denied",
        () if is(&["input/output error"]) => "disk-error",
        () => return not_there(library),
    };
    found(code, DECIDED, Some(library.to_owned()))
}

fn not_there(library: &str) -> Finding {
    // With the version that it has not.
    match library.split_once(" (") {
        Some((name, version)) => found("library-too-old", DECIDED, Some(format!("{name} ({version}"))),
        None => found("missing-library", DECIDED, Some(library.to_owned())),
    }
}

fn not_started(message: &str) -> Finding {
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let lower = message.to_ascii_lowercase();
    let code = match () {
        () if lower.contains("is not bound") || lower.contains("cannot be bound") => "slot-not-bound",
        () if lower.contains("no space left") => "disk-full",
        () if lower.contains("read-only file system") => "read-only",
        () if lower.contains("too many open files") => "too-many-open-files",
        () => "not-started",
    };
    let thing = match code {
        "not-started" => Some(first.to_owned()),
        "slot-not-bound" => pattern::quoted(first),
        _ => pattern::path(message),
    };
    found(code, DECIDED, thing.and_then(|thing| pattern::clean(&thing)))
}
