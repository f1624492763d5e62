//! Why VirtualBox refuses, from what its programs say.
//!
//! Names and numbers are those of VirtualBox 7.2.22's own programs (`VBoxHeadless`, `VBoxVMM.so`, `VBoxRT.so`); where this
//! was not seen here, the report it was seen in is named.

use std::fmt;

use crate::command::{Said, plain};

/// A reason that is known, with something to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel driver is not there: `/dev/vboxdrv` is missing.
    NoDriver,
    /// The kernel driver is there and may not be used.
    DriverRefused,
    /// The kernel driver is of another version.
    DriverVersion,
    /// KVM holds the processor's virtualization: from its loading on, with Linux 6.12 and later.
    HeldByKvm,
    /// KVM was told not to switch the processor's virtualization on, and this version of VirtualBox relies on it.
    OffInKvm,
    /// The processor has no virtualization, or the firmware has switched it off.
    NoVirtualization,
    /// The program that starts guests has not its set-user-id bit, as in an environment of Hatchway's.
    NotPrivileged,
    /// No machine of that name or number is registered.
    NoMachine,
    /// The machine is not running.
    NotRunning,
    /// The machine is running, or another program has it open.
    Busy,
    /// The user's VirtualBox server does not answer.
    NoServer,
}

/// What says a reason. The first line that fits decides, so what is special comes before what is general.
const SIGNS: &[(&str, Reason)] = &[
    ("VERR_VMX_IN_VMX_ROOT_MODE", Reason::HeldByKvm),
    ("VERR_SVM_IN_USE", Reason::HeldByKvm),
    // VirtualBox 7.2.10 with `enable_virt_at_load=0`: VirtualBox/virtualbox#711, #713.
    ("VERR_SVM_HOST_SVME_NOT_ENABLED", Reason::OffInKvm),
    ("VERR_VMX_HOST_VMXE_NOT_ENABLED", Reason::OffInKvm),
    // myspaghetti/macos-virtualbox#191 quotes the message of a host with Linux.
    ("VERR_VM_DRIVER_VERSION_MISMATCH", Reason::DriverVersion),
    ("rc=-1912", Reason::DriverVersion),
    ("Error -1912", Reason::DriverVersion),
    ("kernel modules do not match this version", Reason::DriverVersion),
    ("VERR_VM_DRIVER_NOT_INSTALLED", Reason::NoDriver),
    ("Kernel driver not installed", Reason::NoDriver),
    ("VERR_VM_DRIVER_NOT_ACCESSIBLE", Reason::DriverRefused),
    ("Kernel driver not accessible", Reason::DriverRefused),
    ("kernel driver not accessible", Reason::DriverRefused),
    ("VERR_VMX_NO_VMX", Reason::NoVirtualization),
    ("VERR_SVM_NO_SVM", Reason::NoVirtualization),
    ("VERR_VMX_MSR_ALL_VMX_DISABLED", Reason::NoVirtualization),
    ("VERR_SVM_DISABLED", Reason::NoVirtualization),
    ("VERR_NEM_NOT_AVAILABLE", Reason::NoVirtualization),
    ("Effective UID is not root", Reason::NotPrivileged),
    ("Could not find a registered machine", Reason::NoMachine),
    ("is not currently running", Reason::NotRunning),
    ("VBOX_E_INVALID_OBJECT_STATE", Reason::Busy),
    ("is already locked", Reason::Busy),
    ("Failed to create the VirtualBox object", Reason::NoServer),
];

/// What a warning of Debian's wrapper says on stdout before every answer. It explains a failure only where a guest was to be
/// started.
const NO_DRIVER_WARNING: &str = "The character device /dev/vboxdrv does not exist";
/// What `startvm` says when the new process has ended, whatever the reason: the reason is in that process's own words.
pub(super) const ENDED_AT_START: &str = "has terminated unexpectedly during startup";

impl Reason {
    /// The reason in what was said, if it is a known one.
    #[must_use]
    pub fn of(said: &str) -> Option<Self> {
        SIGNS.iter().find(|(sign, _)| said.contains(sign)).map(|(_, reason)| *reason)
    }

    /// The next command.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoDriver => {
                "install it for the running kernel and load it: on Debian `apt-get install virtualbox-dkms linux-headers-amd64`, \
                 with Oracle's packages `/sbin/vboxconfig`; then `modprobe vboxdrv`. With Secure Boot the module has to be signed. \
                 Or run the guest with QEMU: `driver = \"qemu\"`"
            }
            Self::DriverRefused => {
                "`ls -l /dev/vboxdrv` says who may use it; VirtualBox's own programs do by their set-user-id bit, which a \
                 reinstallation gives back"
            }
            Self::DriverVersion => {
                "program and kernel driver come from one source: remove what another one left, build the driver again (`dpkg-reconfigure \
                 virtualbox-dkms` or `/sbin/vboxconfig`), then `modprobe -r vboxnetadp vboxnetflt vboxdrv; modprobe vboxdrv`"
            }
            Self::HeldByKvm => {
                "`modprobe -r kvm_intel kvm_amd kvm` gives it back until the next start. For good, with VirtualBox before 7.2.10: \
                 `options kvm enable_virt_at_load=0` in a file of /etc/modprobe.d, or `kvm.enable_virt_at_load=0` for the kernel; later \
                 ones share with KVM. Or run the guest with QEMU: `driver = \"qemu\"`"
            }
            Self::OffInKvm => {
                "remove `enable_virt_at_load=0` from /etc/modprobe.d and the kernel's command line (`grep -r enable_virt_at_load \
                 /etc/modprobe.d /proc/cmdline`): VirtualBox 7.2.10 and later want it as it comes; then restart, or `modprobe -r kvm_amd \
                 kvm_intel kvm` and load them again"
            }
            Self::NoVirtualization => {
                "switch VT-x or AMD-V on in the firmware's setup; `grep -c -E 'vmx|svm' /proc/cpuinfo` says 0 where there is none. QEMU \
                 runs the guest without it, slowly: `driver = \"qemu\"`"
            }
            Self::NotPrivileged => {
                "guests are started by a VirtualBox that is installed on this machine; one inside an environment can do everything else"
            }
            Self::NoMachine => "`VBoxManage list vms` shows those of this user",
            Self::NotRunning => "`VBoxManage list runningvms` shows those of this user that run",
            Self::Busy => {
                "end the guest first, and close VirtualBox's window of it: `VBoxManage list runningvms`"
            }
            Self::NoServer => {
                "`pkill -u $USER VBoxSVC` ends a server that hangs; the next call starts another. Its log is VBoxSVC.log below \
                 ~/.config/VirtualBox"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDriver => "the kernel driver `vboxdrv` is not loaded",
            Self::DriverRefused => "the kernel driver `vboxdrv` is there, and may not be used",
            Self::DriverVersion => "the kernel driver `vboxdrv` is of another version than VirtualBox",
            Self::HeldByKvm => "KVM holds the processor's virtualization",
            Self::OffInKvm => {
                "KVM was told to leave the processor's virtualization off, which VirtualBox needs on"
            }
            Self::NoVirtualization => "the processor has no virtualization, or the firmware has it off",
            Self::NotPrivileged => "VirtualBox's program that starts guests has not the privilege it needs",
            Self::NoMachine => "there is no such machine",
            Self::NotRunning => "the machine is not running",
            Self::Busy => "the machine is in use",
            Self::NoServer => "VirtualBox's server does not answer",
        })
    }
}

/// A refusal: the known reason, and VirtualBox's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for, as `VBoxManage` names it.
    pub call: String,
    /// Why, if it is known.
    pub reason: Option<Reason>,
    /// The first line of what VirtualBox says is wrong.
    pub said: String,
}

impl Refusal {
    /// From what a call gave that failed.
    pub(super) fn new(call: &str, said: &Said) -> Self {
        let reason = Reason::of(&said.stderr).or_else(|| Reason::of(&said.stdout)).or_else(|| {
            let unexplained = said.stderr.contains(ENDED_AT_START);
            (unexplained && said.stdout.contains(NO_DRIVER_WARNING)).then_some(Reason::NoDriver)
        });
        Self { call: call.to_owned(), reason, said: error_line(said) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualBox refuses `{}`: ", self.call)?;
        match self.reason {
            Some(reason) => write!(f, "{reason} (it says: {})", self.said),
            None => f.write_str(&self.said),
        }
    }
}

/// The line that says what is wrong: those of `VBoxManage: error:`, or whatever was said last.
fn error_line(said: &Said) -> String {
    let marked = said.stderr.lines().find_map(|line| line.split_once(": error: ").map(|(_, what)| what));
    let last = || said.stderr.lines().chain(said.stdout.lines()).rev().find(|line| !line.trim().is_empty());
    match marked.or_else(last) {
        Some(line) => plain(line),
        None => {
            format!("nothing, and ends with {}", said.code.map_or("a signal".into(), |code| code.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stdout: &str, stderr: &str) -> Said {
        Said { code: Some(1), stdout: stdout.into(), stderr: stderr.into() }
    }

    /// Printed by VirtualBox 7.2.22 of Debian in an environment of Hatchway's.
    const WARNING: &str = "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install the virtualbox-dkms package\n";
    const ENDED: &str = "VBoxManage: error: The virtual machine 'g3' has terminated unexpectedly during startup with exit code 1 (0x1)\n\
        VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component MachineWrap, interface IMachine\n";

    #[test]
    fn a_missing_driver_is_found_in_the_wrappers_warning() {
        let refusal = Refusal::new("startvm", &said(WARNING, ENDED));
        assert_eq!(refusal.reason, Some(Reason::NoDriver));
        let text = refusal.to_string();
        assert!(
            text.contains("`vboxdrv` is not loaded (it says: The virtual machine 'g3' has terminated"),
            "{text}"
        );
        // The same warning before another failure is no reason for that one.
        let other = "VBoxManage: error: Invalid virtual CPU count: 999 (must be in range [1, 64])\n";
        let refusal = Refusal::new("modifyvm", &said(WARNING, other));
        assert_eq!(
            (refusal.reason, refusal.said.as_str()),
            (None, "Invalid virtual CPU count: 999 (must be in range [1, 64])")
        );
        assert_eq!(Refusal::new("startvm", &said("", ENDED)).reason, None);
    }

    #[test]
    fn reasons_are_known_by_their_words() {
        let cases = [
            // Seen here.
            (
                "VBoxHeadless: Error -1908 in suplibOsInit!\nVBoxHeadless: Kernel driver not installed\n",
                Reason::NoDriver,
            ),
            (
                "VBoxHeadless: Error -10 in SUPR3HardenedMain!\nVBoxHeadless: Effective UID is not root (euid=5 …)",
                Reason::NotPrivileged,
            ),
            ("VBoxManage: error: Could not find a registered machine named 'x'\n", Reason::NoMachine),
            ("VBoxManage: error: Machine '1-2' is not currently running.\n", Reason::NotRunning),
            // Seen by others: NixOS/nixpkgs#363887, VirtualBox/virtualbox#81, #711, jencryzthers/VboxInsideDocker#15.
            (
                "VirtualBox can't operate in VMX root mode. Please disable the KVM kernel extension (VERR_VMX_IN_VMX_ROOT_MODE).",
                Reason::HeldByKvm,
            ),
            ("VirtualBox can't enable the AMD-V extension. (VERR_SVM_IN_USE)", Reason::HeldByKvm),
            (
                "VBoxManage: error: Host API has not enabled SVME bit in EFER MSR. (VERR_SVM_HOST_SVME_NOT_ENABLED)",
                Reason::OffInKvm,
            ),
            (
                "RTR3InitEx failed with rc=-1912 (rc=-1912)\nThe VirtualBox kernel modules do not match this version",
                Reason::DriverVersion,
            ),
            (
                "VBoxHeadless: Error -1909 in suplibOsInit!\nVBoxHeadless: Kernel driver not accessible\n",
                Reason::DriverRefused,
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(Reason::of(text), Some(reason), "{text}");
            assert!(!reason.hint().is_empty() && !reason.to_string().is_empty());
        }
        assert_eq!(Reason::of("VBoxManage: error: something new"), None);
    }

    #[test]
    fn a_program_that_says_nothing_is_quoted_so() {
        assert_eq!(Refusal::new("list", &said("\n", "")).said, "nothing, and ends with 1");
        let killed = Said { code: None, ..said("", "") };
        assert_eq!(Refusal::new("list", &killed).said, "nothing, and ends with a signal");
    }
}
