//! What executes a guest's instructions: KVM where it works, software emulation otherwise.
//!
//! That `/dev/kvm` is there and can be opened says little: on some hosts that are guests themselves, a guest under KVM does
//! not get as far as its first message. So a start under KVM that is not heard is tried again in software, and the machine is
//! remembered as one where KVM does not work until it is started again.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DEVICE: &str = "/dev/kvm";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What executes instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// QEMU, in software.
    Tcg,
}

impl Accel {
    /// The model of the processor that the guest sees.
    #[must_use]
    pub fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// What is known before a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What to try.
    pub accel: Accel,
    /// Why not KVM, for a person.
    pub why: Option<String>,
    /// A group by which the device can be opened.
    pub group: Option<u32>,
}

/// Where it is remembered that KVM does not work.
#[must_use]
pub fn memory(folder: &Path) -> PathBuf {
    folder.join("kvm-does-not-work")
}

/// Chooses for a QEMU of this user; `memory` is where it is remembered that KVM does not work.
#[must_use]
pub fn choose(uid: u32, gid: u32, memory: &Path) -> Choice {
    let tcg = |why: String| Choice { accel: Accel::Tcg, why: Some(why), group: None };
    let boot = boot_id();
    if !boot.is_empty() && fs::read_to_string(memory).is_ok_and(|known| known.trim() == boot) {
        return tcg("a guest under KVM was not heard since this machine was started".into());
    }
    if !has_flags(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
        return tcg("this machine's processor shows neither `vmx` nor `svm`".into());
    }
    let Ok(device) = fs::metadata(DEVICE) else { return tcg(format!("there is no `{DEVICE}`")) };
    let mode = device.permissions().mode();
    let both = |shift: u32| mode >> shift & 0o6 == 0o6;
    if device.uid() == uid && both(6) || both(0) || device.gid() == gid && both(3) {
        return Choice { accel: Accel::Kvm, why: None, group: None };
    }
    // Only root can put a program into a group it is not in; for others the kernel has the last word.
    let member = rustix::process::getgroups().is_ok_and(|all| all.iter().any(|g| g.as_raw() == device.gid()));
    if both(3) && (member || rustix::process::geteuid().is_root()) {
        let group = rustix::process::geteuid().is_root().then_some(device.gid());
        return Choice { accel: Accel::Kvm, why: None, group };
    }
    tcg(format!("user {uid} may not open `{DEVICE}` (mode {:o}, group {})", mode & 0o777, device.gid()))
}

/// Remembers that KVM does not work on this machine as it runs now.
///
/// # Errors
/// When it cannot be written; then the next start waits as long again.
pub fn remember_failure(memory: &Path) -> std::io::Result<()> {
    fs::write(memory, boot_id() + "\n")
}

/// Whether the processor can run guests. Without these flags KVM is an emulation of its own, which does not run every guest.
fn has_flags(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"))
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_can_run_guests_says_so() {
        assert!(has_flags("processor : 0\nflags\t\t: fpu vme svm nx\n"));
        assert!(!has_flags("processor : 0\nflags\t\t: fpu vme nx\nbugs : svmx\n"));
    }

    #[test]
    fn a_failure_is_remembered_until_the_machine_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(folder.path());
        remember_failure(&memory).unwrap();
        let choice = choose(0, 0, &memory);
        assert_eq!(choice.accel, Accel::Tcg);
        assert!(choice.why.unwrap().contains("not heard"));
        fs::write(&memory, "another boot\n").unwrap();
        assert!(!choose(0, 0, &memory).why.unwrap_or_default().contains("not heard"));
    }
}
