//! Why a unit has ended, in a line.

use hatchway_wire::{ExitReason, Outcome};
use nix::sys::signal::Signal;

/// A line for a person.
#[must_use]
pub fn told(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Exit { code: 0 } => "it ended by itself, well".to_owned(),
        ExitReason::Exit { code } => format!("it ended by itself with code {code}"),
        ExitReason::Signal { signal, core } => {
            let dump = if *core { ", and the kernel wrote a core dump" } else { "" };
            format!("{} ended it, which Hatchway did not send{dump}", name(*signal))
        }
        ExitReason::Requested { signal, forced: false, outcome } => {
            format!("it was asked to end ({}) and did: {}", name(*signal), outcome_told(*outcome))
        }
        ExitReason::Requested { signal, forced: true, .. } => {
            format!("it was asked to end ({}), did not within its grace time, and was killed", name(*signal))
        }
        ExitReason::ExecFailed { message, .. } => format!("its program could not be started: {message}"),
        ExitReason::MissingLibrary { library } => format!("the library {library} is not there"),
        ExitReason::SandboxFailed { operation, message, .. } => {
            format!("its sandbox could not be made: cannot {operation}: {message}")
        }
        ExitReason::Oom { kills } => {
            let many = if *kills == 1 { "process" } else { "processes" };
            format!("the kernel killed it for want of memory ({kills} {many})")
        }
        ExitReason::Engine { message, .. } => format!("the engine ended it: {message}"),
        ExitReason::Unhealthy { message, forced, .. } => {
            let how = if *forced { "did not within its grace time, and was killed" } else { "did" };
            format!("it was not well, was asked to end and {how}: {message}")
        }
        ExitReason::Seccomp => "it made a system call that its filter forbids".to_owned(),
        ExitReason::LogFull { .. } => "its log was full, and its recipe ends it then".to_owned(),
        ExitReason::NotStarted { message } => {
            format!("it was not started: {}", message.lines().next().unwrap_or_default())
        }
        ExitReason::Unknown { word } => format!("a newer version says why: `{word}`"),
        ExitReason::Lost { outcome } => {
            format!("what looked after it was gone without a word: {}", outcome_told(*outcome))
        }
    }
}

/// What to do next, a line each.
#[must_use]
pub fn next(tool: &str, reason: &ExitReason) -> Vec<String> {
    let one = match reason {
        ExitReason::Exit { code: 0 } | ExitReason::Requested { forced: false, .. } => return Vec::new(),
        ExitReason::Exit { .. } => format!("`hatchway logs {tool} -n 50` shows what it said before"),
        ExitReason::Signal { core: true, .. } => {
            "the core dump is where `cat /proc/sys/kernel/core_pattern` says".to_owned()
        }
        ExitReason::Signal { signal: 9, .. } => {
            "somebody on this machine killed it, or the kernel for want of memory: `dmesg | grep -i -e oom -e killed`".to_owned()
        }
        ExitReason::Signal { .. } => {
            format!("`hatchway logs {tool} -n 50` shows what it said before; the vendor wants that and the signal")
        }
        ExitReason::Requested { .. } => {
            "`stop = { grace = \"…\" }` in [service] of the recipe gives it more time to end".to_owned()
        }
        ExitReason::ExecFailed { .. } => {
            format!("`hatchway shell {tool}` and look whether its program and interpreter are there")
        }
        ExitReason::MissingLibrary { library } => {
            let name = library.split(' ').next().unwrap_or(library);
            format!("`apt-file search {name}` names a package; put it into `packages` in [environment], then `hatchway lock {tool}`")
        }
        ExitReason::SandboxFailed { .. } => "`hatchway doctor` says what this machine lacks".to_owned(),
        ExitReason::Oom { .. } => "`limits.memory` in [run] of the recipe is what it may take".to_owned(),
        ExitReason::Engine { .. } => {
            "`journalctl --unit docker --since -10min` on the machine says what the engine did".to_owned()
        }
        ExitReason::Unhealthy { .. } => {
            format!("`hatchway logs {tool} -n 50` shows what it said before; `health` in [service] of the recipe is the check")
        }
        ExitReason::Seccomp => {
            "`dmesg | grep SECCOMP` names the system call, where the kernel's log of it is on; tell the maintainers of the recipe".to_owned()
        }
        ExitReason::LogFull { .. } => {
            "`logs = { size = \"…\" }` in [service] of the recipe, or `full = \"drop-oldest\"`".to_owned()
        }
        ExitReason::NotStarted { message } => {
            let hints = message.lines().filter_map(|line| line.strip_prefix("hint: "));
            return hints.map(str::to_owned).collect();
        }
        ExitReason::Unknown { .. } => "the version of Hatchway that ran it explains it: `hatchway why`".to_owned(),
        ExitReason::Lost { .. } => "what looks after it was killed: `dmesg | grep -i -e oom -e killed`".to_owned(),
    };
    vec![one]
}

/// How a process that ran came to its end, for a person.
pub(crate) fn outcome_told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exit { code } => format!("code {code}"),
        Outcome::Signal { signal, .. } => name(signal),
    }
}

/// `SIGTERM`, or the number of one without a name.
pub(crate) fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_by_names() {
        let killed = ExitReason::Signal { signal: 11, core: false };
        assert_eq!(told(&killed), "SIGSEGV ended it, which Hatchway did not send");
        let asked = ExitReason::Requested { signal: 15, forced: false, outcome: Outcome::Exit { code: 3 } };
        assert_eq!(told(&asked), "it was asked to end (SIGTERM) and did: code 3");
        let real_time = ExitReason::Signal { signal: 40, core: false };
        assert!(told(&real_time).starts_with("signal 40"));
    }
}
