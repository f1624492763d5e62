//! Questions to the kernel that change nothing.
use crate::check;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// From linux/landlock.h: the call answers with the version instead of making a rule set.
const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
/// From linux/kvm.h: `_IO(KVMIO, 0x00)` and `_IO(KVMIO, 0x01)`.
const KVM_GET_API_VERSION: libc::Ioctl = 0xAE00;
const KVM_CREATE_VM: libc::Ioctl = 0xAE01;

/// The version of Landlock's interface; an error where the kernel lacks it or it is switched off.
pub fn landlock_version() -> io::Result<i64> {
    // SAFETY: with this flag the kernel wants a null pointer of size 0, reads no memory and makes no descriptor.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    check(version)
}

/// Whether filters may have this action, by its number in linux/seccomp.h.
pub fn seccomp_action(action: u32) -> io::Result<()> {
    // SAFETY: the kernel reads one `u32` behind the pointer, which outlives the call, and changes nothing.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    check(done).map(drop)
}

/// Asks an open `/dev/kvm` for its version and makes an empty machine, which goes away at once.
pub fn kvm(device: &File) -> io::Result<i64> {
    // SAFETY: this request takes no argument and answers with a number; a device that is no KVM refuses it.
    let version = check(unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, 0) })?;
    // SAFETY: the argument is the type of machine, 0 for the usual one; the answer is a new descriptor.
    let machine = check(unsafe { libc::ioctl(device.as_raw_fd(), KVM_CREATE_VM, 0) })?;
    let number = i32::try_from(machine).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_questions_are_refused_without_harm() {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        assert!(kvm(&null).is_err());
        assert!(seccomp_action(0x1234_5678).is_err());
        // SECCOMP_RET_KILL_PROCESS is as old as the question.
        seccomp_action(0x8000_0000).unwrap();
    }
}
