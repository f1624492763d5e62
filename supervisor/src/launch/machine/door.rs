//! Who comes to a guest from a disk image that is kept as a unit: they hear that it runs and what it uses on this machine. Nothing of
//! Hatchway is in it that could start a program.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use hatchway_wire::control::{ControlOrder, ControlReport, SOCKET, Stats};
use hatchway_wire::ready::{Readiness, Watched};
use rustix::event::{PollFd, PollFlags};

use crate::launch::packets::{Listener, Packets, Received};

/// Who may be there at a time.
const CLIENTS_MAX: usize = 16;
/// Orders of one that are heard in a turn.
const ORDERS_MAX: usize = 16;

/// The socket, and who is there.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    clients: Vec<Packets>,
    /// What runs the guest on this machine; the driver does not always say.
    process: Option<u32>,
    began: Instant,
}

impl Door {
    /// In the run's folder, once the guest has started: who is answered from then on.
    pub(super) fn new(folder: &Path, process: Option<u32>) -> io::Result<Self> {
        let listener = Listener::new(folder, SOCKET)?;
        Ok(Self { listener, clients: Vec::new(), process, began: Instant::now() })
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let all = self.clients.iter().map(AsFd::as_fd).chain([self.listener.as_fd()]);
        all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
    }

    /// Answers without waiting.
    pub(super) fn turn(&mut self) {
        while let Ok(Some(connection)) = self.listener.next() {
            if self.clients.len() < CLIENTS_MAX {
                self.clients.push(connection);
            }
        }
        let (process, began) = (self.process, self.began);
        self.clients.retain(|client| serve(client, process, began));
    }
}

/// Whether they stay.
fn serve(client: &Packets, process: Option<u32>, began: Instant) -> bool {
    for _ in 0..ORDERS_MAX {
        match client.receive::<ControlOrder>() {
            // Who does not read is not waited for.
            Ok(Received::Message(order, _)) if client.offer(&answer(&order, process, began), &[]).is_ok() => {
            }
            Ok(Received::Nothing) => return true,
            Ok(Received::Message(..) | Received::End) | Err(_) => return false,
        }
    }
    true
}

fn answer(order: &ControlOrder, process: Option<u32>, began: Instant) -> ControlReport {
    match order {
        ControlOrder::Watch => {
            ControlReport::Watched(Watched { ready: Readiness::Ready, health: None, status: None })
        }
        ControlOrder::Stats => {
            let uptime_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let used = process.and_then(|pid| used(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?));
            ControlReport::Stats(Stats { uptime_ms, ..used.unwrap_or_default() })
        }
        ControlOrder::Exec(_) | ControlOrder::Signal { .. } | ControlOrder::Resize(_) => ControlReport::Failed {
            found: true,
            message: "nothing of Hatchway is in a guest from a disk image that could start a program".to_owned(),
            hint: Some("its screen and its serial lines are in the folder `machine` of its run: `hatchway show` says where".to_owned()),
        },
    }
}

/// What the guest costs this machine, out of its process's line (proc_pid_stat(5)): fields 14 and 15 are ticks of processor time, 20
/// threads, 24 pages of memory. The name before them may have anything in it but its end.
fn used(stat: &str) -> Option<Stats> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first of these is the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)?.saturating_add(number(15)?);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Some(Stats {
        processes: 1,
        threads: number(20)?,
        cpu_us: ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1),
        resident_bytes: number(24)?.saturating_mul(page),
        uptime_ms: 0,
        health: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_in_its_line() {
        let line = "77 (qemu) x) S 1 77 77 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 5 0 1234 99999 2048 18446744073709551615 1";
        let stats = used(line).unwrap();
        assert_eq!((stats.processes, stats.threads), (1, 5));
        assert_eq!(stats.cpu_us, 200 * 1_000_000 / rustix::param::clock_ticks_per_second());
        assert_eq!(stats.resident_bytes, 2048 * rustix::param::page_size() as u64);
        assert_eq!((used(""), used("1 (x) S 1")), (None, None));
        assert!(used(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap().resident_bytes > 0);
    }
}
