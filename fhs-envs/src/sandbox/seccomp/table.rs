//! The system calls a tool may make, as data. What is in no list is answered with `ENOSYS`, "this kernel does not
//! have it", so that a program falls back to an older call instead of giving up.

/// A reason, and the system calls it holds for. A name may exist on one architecture only.
pub(super) type Group = (&'static str, &'static [&'static str]);

/// Allowed with any arguments.
#[rustfmt::skip]
pub(super) const ALLOWED: &[Group] = &[
    ("reading and writing", &[
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek",
        "_llseek", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "copy_file_range", "readahead", "fadvise64",
        "fadvise64_64", "cachestat",
    ]),
    ("descriptors", &[
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64", "flock",
        "pipe", "pipe2", "eventfd", "eventfd2", "memfd_create", "select", "_newselect", "pselect6", "pselect6_time64",
        "poll", "ppoll", "ppoll_time64", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
        "epoll_pwait2", "epoll_ctl_old", "epoll_wait_old", "inotify_init", "inotify_init1", "inotify_add_watch",
        "inotify_rm_watch", "signalfd", "signalfd4", "kcmp",
    ]),
    ("files and folders", &[
        "stat", "lstat", "fstat", "newfstatat", "stat64", "lstat64", "fstat64", "fstatat64", "statx", "oldstat",
        "oldlstat", "oldfstat", "statfs", "fstatfs", "statfs64", "fstatfs64", "ustat", "access", "faccessat",
        "faccessat2", "chdir", "fchdir", "getcwd", "mkdir", "mkdirat", "rmdir", "link", "linkat", "unlink", "unlinkat",
        "rename", "renameat", "renameat2", "symlink", "symlinkat", "readlink", "readlinkat", "chmod", "fchmod",
        "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32", "umask",
        "truncate", "ftruncate", "truncate64", "ftruncate64", "fallocate", "sync", "fsync", "fdatasync", "syncfs",
        "sync_file_range", "getdents", "getdents64", "readdir", "utime", "utimes", "futimesat", "utimensat",
        "utimensat_time64", "file_getattr", "file_setattr", "name_to_handle_at",
    ]),
    ("a pipe or socket may be made by name; for a device node the capability is missing", &["mknod", "mknodat"]),
    ("extended attributes", &[
        "setxattr", "lsetxattr", "fsetxattr", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr",
        "flistxattr", "removexattr", "lremovexattr", "fremovexattr", "setxattrat", "getxattrat", "listxattrat",
        "removexattrat",
    ]),
    ("memory", &[
        "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "process_madvise", "mincore", "msync", "mlock",
        "mlock2", "munlock", "mlockall", "munlockall", "mseal", "remap_file_pages", "membarrier", "pkey_alloc",
        "pkey_free", "pkey_mprotect", "map_shadow_stack",
    ]),
    ("memory on machines with several nodes: reconstruction programs place their buffers", &[
        "mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages", "getcpu",
    ]),
    ("processes; clone has a rule of its own", &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "kill", "tkill",
        "tgkill", "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "process_mrelease", "getpid", "getppid", "gettid",
        "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "prctl", "arch_prctl", "set_tid_address",
        "set_robust_list", "get_robust_list", "rseq", "restart_syscall", "pause",
    ]),
    ("licence guards trace themselves and take a refusal for a debugger; only the tool's own processes are in reach", &[
        "ptrace", "process_vm_readv", "process_vm_writev",
    ]),
    ("threads", &[
        "futex", "futex_time64", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "set_thread_area",
        "get_thread_area",
    ]),
    ("16-bit code in Wine", &["modify_ldt"]),
    ("signals", &[
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigtimedwait_time64",
        "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigsuspend", "sigaltstack", "signal", "sigaction", "sigprocmask",
        "sigreturn", "sigpending", "sigsuspend", "sgetmask", "ssetmask",
    ]),
    ("identity; without capabilities only to what one is already", &[
        "getuid", "getgid", "geteuid", "getegid", "getresuid", "getresgid", "getgroups", "setuid", "setgid", "setreuid",
        "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "getuid32", "getgid32", "geteuid32",
        "getegid32", "getresuid32", "getresgid32", "getgroups32", "setuid32", "setgid32", "setreuid32", "setregid32",
        "setresuid32", "setresgid32", "setgroups32", "setfsuid32", "setfsgid32", "capget", "capset",
    ]),
    ("limits and priorities; the kernel checks who may raise them", &[
        "getrlimit", "setrlimit", "ugetrlimit", "prlimit64", "getrusage", "times", "sysinfo", "uname", "olduname",
        "oldolduname", "getpriority", "setpriority", "nice", "ioprio_get", "ioprio_set",
    ]),
    ("real-time acquisition", &[
        "sched_yield", "sched_setparam", "sched_getparam", "sched_setscheduler", "sched_getscheduler", "sched_setattr",
        "sched_getattr", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "sched_rr_get_interval_time64", "sched_setaffinity", "sched_getaffinity",
    ]),
    ("time; adjtimex only reads without a capability", &[
        "time", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64",
        "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "alarm", "getitimer", "setitimer", "timer_create",
        "timer_settime", "timer_settime64", "timer_gettime", "timer_gettime64", "timer_getoverrun", "timer_delete",
        "timerfd_create", "timerfd_settime", "timerfd_settime64", "timerfd_gettime", "timerfd_gettime64", "adjtimex",
        "clock_adjtime", "clock_adjtime64",
    ]),
    ("sockets; socket and socketpair have a rule of their own", &[
        "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
        "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "shutdown",
    ]),
    ("System V IPC and POSIX message queues; the namespace is the tool's own", &[
        "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl", "semtimedop", "semtimedop_time64", "msgget",
        "msgsnd", "msgrcv", "msgctl", "ipc", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedsend_time64",
        "mq_timedreceive", "mq_timedreceive_time64", "mq_notify", "mq_getsetattr",
    ]),
    ("the older asynchronous I/O", &[
        "io_setup", "io_destroy", "io_getevents", "io_submit", "io_cancel", "io_pgetevents", "io_pgetevents_time64",
    ]),
    ("randomness", &["getrandom"]),
    ("programs that confine themselves further", &[
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "lsm_get_self_attr",
        "lsm_list_modules",
    ]),
    ("made by the kernel's own tracing, never by a program", &["uprobe", "uretprobe"]),
];

/// Refused by name with `EPERM`: calls that exist everywhere, where "no such call" would be a lie that some program
/// takes for a broken kernel.
#[rustfmt::skip]
pub(super) const REFUSED: &[Group] = &[
    ("mounts and roots", &[
        "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen",
        "fsconfig", "fsmount", "fspick", "mount_setattr",
    ]),
    ("entering namespaces; clone and unshare have a rule of their own", &["setns"]),
    ("programs in the kernel", &[
        "bpf", "perf_event_open", "init_module", "finit_module", "delete_module", "create_module", "kexec_load",
        "kexec_file_load", "userfaultfd",
    ]),
    ("keys belong to a user, not to a namespace: a tool would see those of everybody with its uid", &[
        "add_key", "request_key", "keyctl",
    ]),
    ("the machine's state", &[
        "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "stime", "clock_settime",
        "clock_settime64", "sethostname", "setdomainname", "syslog", "vhangup", "iopl", "ioperm", "vm86", "vm86old",
        "lsm_set_self_attr",
    ]),
    ("files by number instead of by path", &["open_by_handle_at"]),
    ("watching everybody's files", &["fanotify_init", "fanotify_mark"]),
];

/// Allowed depending on an argument.
pub(super) const CHECKED: &[(&str, Check)] = &[
    ("clone", Check::NoFlag { argument: 0, mask: NEW_NAMESPACES }),
    // CLONE_NEWTIME shares its bit with the exit signal in clone, so it is a flag of unshare only.
    ("unshare", Check::NoFlag { argument: 0, mask: NEW_NAMESPACES | 0x80 }),
    // TIOCSTI types on the terminal, TIOCLINUX selects and pastes on a console.
    ("ioctl", Check::NoneOf { argument: 1, values: &[0x5412, 0x541c] }),
    // What kernels report, 32-bit mode, a version without the 3, no address randomisation, a question.
    (
        "personality",
        Check::OneOf { argument: 0, values: &[0, 8, 0x2_0000, 0x4_0000, 0xffff_ffff], otherwise: EPERM },
    ),
    ("socket", Check::OneOf { argument: 0, values: FAMILIES, otherwise: EAFNOSUPPORT }),
    ("socketpair", Check::OneOf { argument: 0, values: FAMILIES, otherwise: EAFNOSUPPORT }),
];

/// Refused on top to programs of the host that serve a tool: they parse what it sends, and need none of these.
#[rustfmt::skip]
pub(super) const COMPANION_REFUSED: &[Group] = &[
    ("looking into other processes", &["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"]),
    ("old doors of the kernel", &["modify_ldt", "uprobe", "uretprobe"]),
    ("device nodes and files by number", &["mknod", "mknodat", "name_to_handle_at"]),
    ("asynchronous I/O and message queues", &[
        "io_setup", "io_submit", "io_pgetevents", "mq_open", "msgget", "semget",
    ]),
];

/// Families of sockets of theirs: Unix.
pub(super) const COMPANION_LOCAL: &[u32] = &[1];

/// And of those that have to reach a server by name: Unix, IPv4, IPv6.
pub(super) const COMPANION_NETWORK: &[u32] = &[1, 2, 10];

/// Unix, IPv4, IPv6, netlink (interface lists, device events), CAN (instruments). Each of the others has had holes
/// and none of them a use here.
const FAMILIES: &[u32] = &[1, 2, 10, 16, 29];

/// Mount, cgroup, UTS, IPC, user, PID and network namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

pub(super) const EPERM: u16 = 1;
pub(super) const ENOSYS: u16 = 38;
pub(super) const EAFNOSUPPORT: u16 = 97;

/// A condition on the lower half of one argument. The kernel looks at 32 bits of each of these, and so do we: a
/// program cannot get past a comparison by setting bits in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// `EPERM` if any bit of the mask is set.
    NoFlag { argument: u32, mask: u32 },
    /// `EPERM` for these values.
    NoneOf { argument: u32, values: &'static [u32] },
    /// The given error for any other value.
    OneOf { argument: u32, values: &'static [u32], otherwise: u16 },
}
