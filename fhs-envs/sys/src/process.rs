//! Starting processes, and what they inherit.
use crate::check;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Which side of a fork the caller is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The one that was there before; with the new process's id.
    Parent(Pid),
    /// The new one.
    Child,
}

/// An error unless this is the only thread. The kernel refuses to "unshare" a thread from a group of several and
/// does nothing at all for a group of one, so this needs no `/proc`.
fn only_thread() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_THREAD)
        .map_err(|_| io::Error::other("this process has several threads, it cannot be forked safely"))
}

/// Forks. Refuses in a process with several threads, whose locks the child would inherit in any state.
pub fn fork() -> io::Result<Fork> {
    only_thread()?;
    // SAFETY: there is one thread (checked above, and only this thread could start another), so no lock is held
    // by a thread that does not exist in the child, and the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
    }
}

/// Forks into new namespaces. Only `CLONE_NEW*` flags are accepted; the child's end is announced by `SIGCHLD`.
pub fn fork_into(namespaces: CloneFlags) -> io::Result<Fork> {
    let allowed = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    if !allowed.contains(namespaces) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    only_thread()?;
    let flags = libc::c_long::from(namespaces.bits()) & 0xffff_ffff | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: neither CLONE_VM nor CLONE_FILES nor CLONE_SETTLS can be among the flags (checked above), so with a
    // null stack this is fork(2): the child goes on with a copy of this memory on a copy of this stack. There is
    // one thread, so no lock is held by a thread missing in the child. glibc's fork handlers do not run and its
    // cached thread id is the parent's; both matter to thread functions only, and a child with one thread calls none.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    match i32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Ok(Fork::Parent(Pid::from_raw(pid))),
        Err(_) => Err(io::Error::other("process id out of range")),
    }
}

/// Forks a process that has nothing of this one's but `kept`, `message` and the standard streams, does `run` and ends with its
/// code. It never comes back to what called this.
pub fn fork_apart(kept: OwnedFd, message: &[u8], run: fn(OwnedFd, &[u8]) -> u8) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let code = match close_others(&kept) {
                Ok(()) => run(kept, message),
                Err(_) => 1,
            };
            end_at_once(code)
        }
    }
}

/// Only for a child that does not go on with what the parent did: the owners of what is closed are never used again.
fn close_others(kept: &OwnedFd) -> io::Result<()> {
    let number = libc::c_uint::try_from(kept.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    for (first, last) in [(3, number.saturating_sub(1)), (number.max(2) + 1, libc::c_uint::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: it closes descriptors and takes no pointer. Their owners are frames of the parent's, to which `fork_apart` never
        // returns and whose values it cannot reach: `run` is a function without captures. `kept` is in neither range, nor are the
        // standard streams, which nobody owns.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// Gives every signal its default action again, as a program expects to start.
pub fn reset_signal_actions() {
    for number in 1..=64 {
        reset_signal_action(number);
    }
}

/// Gives one signal its default action again, which a parent may have had ignored. By system call: the C library keeps
/// signals 32 and 33 to itself and refuses to reset them.
pub fn reset_signal_action(number: i32) {
    /// `struct sigaction` as the kernel has it, on a 64-bit machine.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let default = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: `default` is an initialised struct of the kernel's layout and outlives the call, which only reads it; the
    // old action is not asked for; the mask is 8 bytes as said; SIG_DFL runs no code of this process. The calls for
    // SIGKILL, SIGSTOP and numbers that are no signal fail, which is of no consequence.
    let _done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            &raw const default,
            std::ptr::null::<Action>(),
            size_of::<u64>(),
        )
    };
}

/// Takes every capability out of the bounding set whose bit is not in `keep`. What is in the set is asked for
/// bit by bit: a container's root may lack some, and a newer kernel may have some without a name here.
pub fn drop_bounding_set(keep: u64) -> io::Result<()> {
    for capability in 0_u64..64 {
        // SAFETY: reads one bit by number; takes no pointer.
        let present = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if present < 0 {
            return Ok(()); // past the last capability this kernel has
        }
        if present == 1 && keep & (1 << capability) == 0 {
            // SAFETY: drops one bit by number; takes no pointer.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            check(done)?;
        }
    }
    Ok(())
}

/// Becomes another program, which has `given` open under this number. Where that fails, the number is again what it was. Refuses in a
/// process with several threads, of which another could meet the wrong file under the number meanwhile.
pub fn execve_with(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    (given, number): (BorrowedFd<'_>, RawFd),
) -> io::Result<Infallible> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    only_thread()?;
    // SAFETY: F_DUPFD_CLOEXEC takes numbers, makes a new descriptor and changes none; it fails with EBADF where nothing is open.
    let was = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let place = |from: RawFd, flags: libc::c_int| {
        // SAFETY: dup3 takes numbers. What it closes has a copy, `was`, or was not open; until execve, or until the copy is back, no code
        // runs but this function's, since there is one thread: so no owner of the number meets another file.
        check(unsafe { libc::dup3(from, number, flags) })
    };
    let given = given.as_raw_fd();
    if given == number {
        // It is where it is to be, and must only stay.
        crate::descriptors::set_close_on_exec(number, false)?;
    } else {
        place(given, 0)?;
    }
    let failed = nix::unistd::execve(program, arguments, environment);
    if given == number {
        crate::descriptors::set_close_on_exec(number, true)?;
    } else if was >= 0 {
        place(was, libc::O_CLOEXEC)?;
    } else {
        // SAFETY: nothing was open under the number, so what is there is the copy of `given` made above, which has no owner.
        check(unsafe { libc::close(number) })?;
    }
    if was >= 0 {
        // SAFETY: `was` was made above and has no owner.
        check(unsafe { libc::close(was) })?;
    }
    Ok(failed?)
}

/// Ends this process now. For a forked copy that must not run what its parent has planned for its end.
pub fn end_at_once(code: u8) -> ! {
    // SAFETY: `_exit` takes a number, runs nothing of this process and does not return.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// Has the kernel end a command's process when the thread that starts it ends; across `execve` that is the process
/// itself. Second line for programs that somebody else ends in order.
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let end_with_parent = || {
        // SAFETY: sets one number of the calling process; takes no pointer.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) }).map(drop)
    };
    // SAFETY: between fork and execve the closure makes one system call and allocates nothing; its error is a number.
    unsafe { command.pre_exec(end_with_parent) };
}

/// Has a command's process start with no signal blocked, as a program expects to: one that is blocked here stays so across
/// `execve`, and a server would never hear that it is to end.
pub fn start_unblocked(command: &mut std::process::Command) {
    use nix::sys::signal::SigSet;
    use std::os::unix::process::CommandExt;
    let unblock = || SigSet::empty().thread_set_mask().map_err(io::Error::from);
    // SAFETY: between fork and execve the closure makes one system call and allocates nothing; its error is a number.
    unsafe { command.pre_exec(unblock) };
}

/// Has a command's process lead a session of its own, with its standard input as the controlling terminal, as a login has it.
pub fn start_at_terminal(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let take = || {
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes a number, 0 for a terminal that is nobody else's; standard input is what the command was given.
        check(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) }).map(drop)
    };
    // SAFETY: between fork and execve the closure makes two system calls and allocates nothing; its errors are numbers.
    unsafe { command.pre_exec(take) };
}
