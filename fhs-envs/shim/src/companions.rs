//! Programs of the host that serve this run only: a display server, a filter of messages. Whoever became the shim
//! started them, so they are its children.
use crate::reaper::outcome;
use hatchway_wire::{Companion, Outcome};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::time::{Duration, Instant};

/// How long they may take to end when asked to.
const END_MAX: Duration = Duration::from_secs(2);

/// Ends them; the result is what a person should know about those that ended before.
pub(crate) fn end(companions: &[Companion]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut left = Vec::new();
    for companion in companions {
        let Some(pid) = Pid::from_raw(companion.pid) else { continue };
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => {
                // Waiting has just shown that the number is still our child's.
                kill_process(pid, Signal::TERM).ok();
                left.push(pid);
            }
            Ok(Some((_, status))) => {
                let how = outcome(status).map_or(-1, Outcome::code);
                notes.push(format!("{} ended before the tool, with code {how}", companion.role));
            }
            // Not our child: nothing to end.
            Err(_) => {}
        }
    }
    let deadline = Instant::now() + END_MAX;
    for pid in left {
        while matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            if Instant::now() >= deadline {
                kill_process(pid, Signal::KILL).ok();
                waitpid(Some(pid), WaitOptions::empty()).ok();
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    notes
}
