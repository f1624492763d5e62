//! Installing a system call filter.
use crate::check;
use std::io;

/// The longest program the kernel takes.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Puts a filter on this thread and everything it starts, for good. The kernel checks the program and refuses a
/// malformed one; it also refuses one from a process that could still gain privilege (`no_new_privs` not set).
/// Each instruction is code, jump if true, jump if false, constant.
pub fn install(program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points at `len` initialised instructions in `filter`; both outlive the call, which copies
    // them. Whatever the program says, the worst it can do is end this process or fail its system calls.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(done).map(drop)
}
