//! The inner half's side of who comes to the unit: programs beside the tool, with all that holds for the tool, and what the unit
//! uses.
use crate::channel::Channel;
use crate::spawn::{Spawned, Streams, spawn};
use crate::terminal;
use hatchway_wire::Process;
use hatchway_wire::attend::Report;
use hatchway_wire::control::{Condition, ControlOrder, ControlReport, Exec, Stats};
use hatchway_wire::ready::Watched;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::WaitStatus;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Ticks a second in which the kernel counts for programs, whatever its own clock (`USER_HZ`, include/asm-generic/param.h).
const TICKS: u64 = 100;
/// Bytes of a text for a person.
const TEXT_MAX: usize = 4096;
/// Bytes of a page of amd64.
const PAGE: u64 = 4096;

/// Programs that were started for somebody.
#[derive(Debug)]
pub(crate) struct Visits<'a> {
    process: &'a Process,
    since: Instant,
    /// By who wanted them.
    running: BTreeMap<u32, Pid>,
    /// Who wants to know how the tool is, and what they were told last.
    watchers: BTreeMap<u32, Option<Watched>>,
    /// How the tool is, where somebody looks.
    pub(crate) condition: Option<Condition>,
}

impl<'a> Visits<'a> {
    pub(crate) fn new(process: &'a Process) -> Self {
        let (running, watchers) = (BTreeMap::new(), BTreeMap::new());
        Self { process, since: Instant::now(), running, watchers, condition: None }
    }

    /// Does what somebody wants.
    pub(crate) fn obey(
        &mut self,
        id: u32,
        order: ControlOrder,
        fds: Vec<OwnedFd>,
        channel: &Channel,
    ) -> io::Result<()> {
        match order {
            ControlOrder::Exec(_) if self.running.contains_key(&id) => {}
            ControlOrder::Exec(exec) => self.start(id, &exec, fds, channel)?,
            ControlOrder::Signal { signal } => self.signal(id, signal),
            // Who has no descriptor of the terminal is not spoken to here.
            ControlOrder::Resize(_) => {}
            ControlOrder::Stats => tell(channel, id, ControlReport::Stats(self.stats()), None)?,
            ControlOrder::Watch => drop(self.watchers.entry(id).or_default()),
        }
        Ok(())
    }

    /// Nobody waits any more for what they began.
    pub(crate) fn forget(&mut self, id: u32) {
        self.watchers.remove(&id);
        self.signal(id, Signal::SIGKILL as i32);
    }

    /// Whether somebody wants to know how the tool is.
    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Tells those who do not know it yet how the tool is.
    pub(crate) fn tell(&mut self, now: &Watched, channel: &Channel) -> io::Result<()> {
        for (id, told) in &mut self.watchers {
            if told.as_ref() != Some(now) {
                *told = Some(now.clone());
                tell(channel, *id, ControlReport::Watched(now.clone()), None)?;
            }
        }
        Ok(())
    }

    fn signal(&self, id: u32, number: i32) {
        if let (Some(pid), Ok(signal)) = (self.running.get(&id), Signal::try_from(number)) {
            // The only failure is that nobody is there any more.
            killpg(*pid, signal).ok();
        }
    }

    /// Takes note of a process that has changed; the one who wanted it is told its end.
    pub(crate) fn collected(&mut self, pid: i32, status: WaitStatus, channel: &Channel) -> io::Result<()> {
        let whose = self.running.iter().find(|(_, own)| own.as_raw() == pid).map(|(id, _)| *id);
        if let (Some(id), Some(outcome)) = (whose, crate::reaper::outcome(status)) {
            self.running.remove(&id);
            tell(channel, id, ControlReport::Ended { outcome }, None)?;
        }
        Ok(())
    }

    fn start(&mut self, id: u32, exec: &Exec, fds: Vec<OwnedFd>, channel: &Channel) -> io::Result<()> {
        let failed = |message: String| ControlReport::Failed { found: false, message, hint: None };
        let process = self.process_of(exec);
        let streams = match exec.terminal {
            Some(window) => {
                let opened = terminal::open_for(window);
                let Ok((master, slave)) = opened else {
                    return tell(channel, id, failed("cannot make a terminal".to_owned()), None);
                };
                tell(channel, id, ControlReport::Terminal, Some(&master))?;
                Streams::Session(slave)
            }
            None => match <[OwnedFd; 3]>::try_from(fds) {
                Ok(fds) => Streams::Given(fds),
                Err(_) => {
                    return tell(channel, id, failed("three standard streams are needed".to_owned()), None);
                }
            },
        };
        let report = match spawn(&process, &streams) {
            // It could not become the program, and has said why.
            Ok(Spawned::Child) => hatchway_sys::process::end_at_once(1),
            Ok(Spawned::Running(pid)) => {
                self.running.insert(id, pid);
                ControlReport::Started { pid: pid.as_raw() }
            }
            Ok(Spawned::Failed(Report::ExecFailed { found, message, hint, .. })) => {
                ControlReport::Failed { found, message, hint }
            }
            Ok(Spawned::Failed(_)) => failed("it did not start".to_owned()),
            Err(failure) => failed(format!("cannot {}: {}", failure.operation, failure.source)),
        };
        tell(channel, id, report, None)
    }

    /// The tool's own, with another program.
    fn process_of(&self, exec: &Exec) -> Process {
        let mut process =
            Process { program: exec.program.clone(), args: exec.args.clone(), ..self.process.clone() };
        for (name, value) in &exec.env {
            process.env.retain(|(own, _)| own != name);
            process.env.push((name.clone(), value.clone()));
        }
        process
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats {
            uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            health: self.condition,
            ..Stats::default()
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers =
            entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
        let mut ticks = 0;
        for entry in numbers {
            // One that has ended meanwhile is not counted.
            let Some(seen) = fs::read(entry.path().join("stat"))
                .ok()
                .and_then(|text| read_stat(&String::from_utf8_lossy(&text)))
            else {
                continue;
            };
            stats.processes += 1;
            stats.threads += seen.threads;
            stats.resident_bytes += seen.resident_pages * PAGE;
            // Those that this process has waited for are its children's.
            ticks += seen.ticks;
        }
        stats.cpu_us = ticks.saturating_mul(1_000_000) / TICKS;
        stats
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    ticks: u64,
    threads: u64,
    resident_pages: u64,
}

/// proc_pid_stat(5): 14 to 17 are times of the process and of the children it has waited for, 20 threads, 24 resident pages. The
/// name, which is the second, may hold anything.
fn read_stat(text: &str) -> Option<Seen> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<u64> = rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 4).copied();
    let ticks = (14..=17).map(field).sum::<Option<u64>>()?;
    Some(Seen { ticks, threads: field(20)?, resident_pages: field(24)? })
}

fn tell(channel: &Channel, id: u32, report: ControlReport, fd: Option<&OwnedFd>) -> io::Result<()> {
    let report = match report {
        ControlReport::Failed { found, message, hint } => {
            ControlReport::Failed { found, message: short(message), hint: hint.map(short) }
        }
        report => report,
    };
    channel.send(&Report::Control { id, report }, fd.map(AsFd::as_fd))
}

/// What names a program may be as long as the name.
fn short(text: String) -> String {
    if text.len() <= TEXT_MAX { text } else { text.chars().take(TEXT_MAX / 4).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name_is() {
        let line =
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 5 0 100 1000 250 18446744073709551615";
        assert_eq!(read_stat(line), Some(Seen { ticks: 110, threads: 5, resident_pages: 250 }));
        assert_eq!(read_stat("7 (a) S 1"), None);
        let own = read_stat(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(own.threads >= 1 && own.resident_pages > 10, "{own:?}");
    }
}
