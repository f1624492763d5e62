//! What the kernel has said, from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Now};

/// A record is no longer than this, or reading it fails.
const RECORD_MAX: usize = 8192;
/// Records that are read at most.
const RECORDS_MAX: usize = 200_000;
/// Syslog's number for a warning; what is more serious has a smaller one.
const WARNING: u8 = 4;
/// Words of messages that matter for an instrument whatever their priority: what comes and goes, and what is killed.
const NOTABLE: &[&str] = &[
    "usb ",
    "ttyUSB",
    "ttyACM",
    "oom",
    "Out of memory",
    "segfault",
    "trap ",
    "I/O error",
    "Link is",
    "link is",
    "remount",
    "nvidia",
    "NVRM",
    "apparmor",
    "seccomp",
    "hung",
    "thermal",
    "throttled",
];

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// `CLOCK_REALTIME`, in nanoseconds: the kernel's own clock, set by what both say now. Time that the machine has slept is not in it.
    pub realtime_ns: i64,
    /// Syslog's: 0 emergency to 7 debug.
    pub priority: u8,
    /// What it says.
    pub text: String,
}

impl Message {
    /// Whether somebody who looks after an instrument wants to see it.
    #[must_use]
    pub(crate) fn is_notable(&self) -> bool {
        self.priority <= WARNING || NOTABLE.iter().any(|word| self.text.contains(word))
    }
}

/// All that the kernel still has, oldest first.
///
/// # Errors
/// This process may not read them (`kernel.dmesg_restrict`), or there are none here.
pub(crate) fn read() -> io::Result<Vec<Message>> {
    let boot = boot_ns();
    let mut file = open(Path::new("/dev/kmsg"))?;
    let mut buffer = vec![0; RECORD_MAX];
    let mut all = Vec::new();
    while all.len() < RECORDS_MAX {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend(parse(&buffer[..count], boot)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came next was overwritten meanwhile; the next read goes on after it.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

/// When the kernel's clock was at zero.
fn boot_ns() -> i64 {
    let monotonic = i64::try_from(Now::get().monotonic.as_nanos()).unwrap_or(i64::MAX);
    clock::now_ns().saturating_sub(monotonic)
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, and lines of further facts that begin with a blank.
fn parse(record: &[u8], boot_ns: i64) -> Option<Message> {
    let text = String::from_utf8_lossy(record);
    let (head, rest) = text.split_once(';')?;
    let mut head = head.split(',');
    let prefix: u32 = head.next()?.parse().ok()?;
    let us: i64 = head.nth(1)?.parse().ok()?;
    // Of user programs that write here nothing is the kernel's.
    if prefix >> 3 != 0 {
        return None;
    }
    let priority = u8::try_from(prefix & 7).ok()?;
    let text = rest.lines().next().unwrap_or_default().to_owned();
    Some(Message { realtime_ns: boot_ns.saturating_add(us.saturating_mul(1000)), priority, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_the_kernel_writes_it() {
        let record =
            b"6,339,5140900,-;usb 1-2: USB disconnect, device number 5\n SUBSYSTEM=usb\n DEVICE=c189:4\n";
        let message = parse(record, 1_000).unwrap();
        let text = "usb 1-2: USB disconnect, device number 5".to_owned();
        assert_eq!(message, Message { realtime_ns: 5_140_901_000, priority: 6, text });
        assert!(message.is_notable());
        assert!(!parse(b"6,1,2,-;NET: Registered PF_INET protocol family\n", 0).unwrap().is_notable());
        // A program of the system has written it.
        assert_eq!(parse(b"30,1,2,-;systemd[1]: hello\n", 0), None);
        assert_eq!(parse(b"nonsense", 0), None);
    }
}
