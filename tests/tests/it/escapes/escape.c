// A program that tries to get out. One line for each attempt: its name, `=`, and `done` or the error's name.
// Each attempt runs in a process of its own, so that none is in the way of the next.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, const char *what) {
    printf("%s=%s\n", name, what);
    fflush(stdout);
}

static const char *named(int error) {
    const char *name = strerrorname_np(error);
    return name ? name : "unknown";
}

#define TRY(name, attempt)                                              \
    do {                                                                \
        fflush(stdout);                                                 \
        pid_t child = fork();                                           \
        if (child == 0) {                                               \
            errno = 0;                                                  \
            long got = (long)(attempt);                                 \
            say(name, got < 0 ? named(errno) : "done");                 \
            _exit(0);                                                   \
        }                                                               \
        int ended = 0;                                                  \
        waitpid(child, &ended, 0);                                      \
        if (WIFSIGNALED(ended)) say(name, "killed");                    \
    } while (0)

static long with_path(int (*call)(const char *), const char *prefix, const char *path) {
    char whole[4200];
    snprintf(whole, sizeof whole, "%s%s", prefix, path);
    return call(whole);
}
static int readable(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }
static int writable(const char *path) { return open(path, O_WRONLY | O_CLOEXEC); }

// Something is in it; what is hidden is empty.
static long filled(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t got = read(fd, &byte, 1);
    if (got == 0) errno = ENODATA;
    return got > 0 || (got < 0 && errno == EAGAIN) ? 0 : -1;
}
static long by_link(const char *path) {
    unlink("/tmp/way-out");
    if (symlink(path, "/tmp/way-out") < 0) return -1;
    return readable("/tmp/way-out");
}
static long by_climbing(const char *path) {
    char up[4400] = "";
    for (int depth = 0; depth < 40; depth++) strcat(up, "../");
    strncat(up, path, 4000);
    return readable(up);
}
// Of every process there is: its root, its working folder, its descriptors.
static long by_process(const char *path) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && (entry = readdir(processes))) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        char whole[4400];
        snprintf(whole, sizeof whole, "/proc/%s/root%s", entry->d_name, path);
        int fd = readable(whole);
        if (fd >= 0) return fd;
        for (int number = 0; number < 64; number++) {
            snprintf(whole, sizeof whole, "/proc/%s/fd/%d%s", entry->d_name, number, path);
            fd = readable(whole);
            if (fd >= 0) return fd;
        }
        snprintf(whole, sizeof whole, "/proc/%s/cwd/../../../../../../../../..%s", entry->d_name, path);
        fd = readable(whole);
        if (fd >= 0) return fd;
    }
    errno = ENOENT;
    return -1;
}
static long node(mode_t type, int major, int minor) {
    unlink("/tmp/node");
    return mknod("/tmp/node", type | 0666, makedev(major, minor));
}
static long memory_of(pid_t pid) {
    char bytes[16];
    struct iovec here = {bytes, sizeof bytes}, there = {(void *)environ, sizeof bytes};
    return process_vm_readv(pid, &here, 1, &there, 1, 0);
}
static long abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s", name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}
static long tcp(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, sizeof address);
}
static long typed(void) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    return ioctl(terminal, TIOCSTI, "x");
}
static long as_root(void) {
    // The kernel would have to look at the bit: the file system or the process forbids it.
    int from = open("/proc/self/exe", O_RDONLY), to = open("/tmp/suid", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    char bytes[65536];
    ssize_t got;
    while ((got = read(from, bytes, sizeof bytes)) > 0)
        if (write(to, bytes, got) != got) return -1;
    fchmod(to, 04755);
    close(to);
    uid_t before = geteuid();
    pid_t child = fork();
    if (child == 0) {
        execl("/tmp/suid", "suid", "--who", NULL);
        _exit(99);
    }
    int ended = 0;
    waitpid(child, &ended, 0);
    errno = EACCES;
    return before != 0 && WIFEXITED(ended) && WEXITSTATUS(ended) == 42 ? 0 : -1;
}
static long renamespace(int flags) { return unshare(flags); }
static long joined(const char *which) {
    int fd = readable(which);
    return fd < 0 ? -1 : setns(fd, 0);
}
// The 32-bit way in has its own table of calls.
static long old_way(long number, long first, long second, long third) {
    long got;
    __asm__ volatile("int $0x80" : "=a"(got) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
    if (got >= 0) return got;
    errno = (int)-got;
    return -1;
}
static void status(const char *field) {
    char line[256], name[64];
    FILE *file = fopen("/proc/self/status", "r");
    snprintf(name, sizeof name, "%s:", field);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name))) {
            line[strcspn(line, "\n")] = 0;
            say(field, line + strlen(name) + 1);
        }
}
static void descriptors(void) {
    char list[400] = "";
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) snprintf(list + strlen(list), sizeof list - strlen(list), "%d ", fd);
    say("descriptors", list);
}
static void folder(const char *name, const char *path) {
    char list[4000] = "";
    struct dirent **found;
    int count = scandir(path, &found, NULL, alphasort);
    for (int at = 0; at < count; at++)
        if (found[at]->d_name[0] != '.')
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s ", found[at]->d_name);
    say(name, list);
}

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "--who")) return geteuid() == 0 ? 42 : 0;
    if (count != 5) return 64;
    const char *secret = words[1], *name = words[3], *port = words[4];
    pid_t outside = atoi(words[2]);

    descriptors();
    status("NoNewPrivs");
    status("Seccomp");
    status("CapEff");
    status("CapBnd");
    folder("dev", "/dev");

    TRY("host file", readable(secret));
    TRY("host file, climbing", by_climbing(secret));
    TRY("host file, by a link", by_link(secret));
    TRY("host file, by a process", by_process(secret));
    TRY("host file, root of init", with_path(readable, "/proc/1/root", secret));
    TRY("host file, folder of init", with_path(readable, "/proc/1/cwd/../../../..", secret));
    TRY("host file, by handle", syscall(SYS_open_by_handle_at, AT_FDCWD, "", O_RDONLY));
    TRY("memory of a host process", memory_of(outside));
    TRY("trace a host process", ptrace(PTRACE_SEIZE, outside, 0, 0));
    TRY("kill a host process", kill(outside, SIGKILL));
    TRY("memory of init", memory_of(1));
    TRY("memory of init, by file", writable("/proc/1/mem"));
    TRY("environment of init", readable("/proc/1/environ"));
    TRY("descriptors of init", opendir("/proc/1/fd") ? 0 : -1);
    TRY("trace init", ptrace(PTRACE_SEIZE, 1, 0, 0));
    TRY("overwrite init", writable("/proc/1/exe"));
    TRY("descriptor of init", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0));
    TRY("host name", sethostname("owned", 5));
    TRY("host name, by file", writable("/proc/sys/kernel/hostname"));
    TRY("core pattern", writable("/proc/sys/kernel/core_pattern"));
    TRY("drop caches", writable("/proc/sys/vm/drop_caches"));
    TRY("sysrq", writable("/proc/sysrq-trigger"));
    TRY("interrupts", writable("/proc/irq/default_smp_affinity"));
    TRY("kernel memory", filled("/proc/kcore"));
    TRY("kernel messages", filled("/proc/kmsg"));
    TRY("keys of everybody", filled("/proc/keys"));
    TRY("timers", filled("/proc/timer_list"));
    TRY("kernel messages, by call", syscall(SYS_syslog, 3, "", 0));
    TRY("uevent helper", writable("/sys/kernel/uevent_helper"));
    TRY("control groups", opendir("/sys/fs/cgroup") ? 0 : -1);
    TRY("character device", node(S_IFCHR, 1, 1));
    TRY("block device", node(S_IFBLK, 8, 0));
    TRY("memory device", readable("/dev/mem"));
    TRY("disk", readable("/dev/vda"));
    TRY("fuse", readable("/dev/fuse"));
    TRY("tun", readable("/dev/net/tun"));
    TRY("input", readable("/dev/input/event0"));
    TRY("console", readable("/dev/console"));
    TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    TRY("remount", mount("none", "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("bind", mount("/", "/tmp", NULL, MS_BIND, NULL));
    TRY("unmount", umount2("/proc/sys", MNT_DETACH));
    TRY("new mount", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("open tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("pivot", syscall(SYS_pivot_root, "/tmp", "/tmp"));
    TRY("chroot", chroot("/tmp"));
    TRY("user namespace", renamespace(CLONE_NEWUSER));
    TRY("mount namespace", renamespace(CLONE_NEWNS));
    TRY("net namespace", renamespace(CLONE_NEWNET));
    TRY("time namespace", renamespace(0x80));
    TRY("user namespace, by clone", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    TRY("user namespace, by clone3", syscall(SYS_clone3, &(long[11]){CLONE_NEWUSER, [4] = SIGCHLD}, 88));
    TRY("join mounts of init", joined("/proc/1/ns/mnt"));
    TRY("join own network", joined("/proc/self/ns/net"));
    TRY("type on the terminal", typed());
    TRY("keys", syscall(SYS_keyctl, 0, -3, 1));
    TRY("add key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    TRY("abstract socket", abstract(name));
    TRY("tcp of the host", tcp(port));
    TRY("raw socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    TRY("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("crypto socket", socket(AF_ALG, SOCK_SEQPACKET, 0));
    TRY("bpf", syscall(SYS_bpf, 5, "", 0));
    TRY("perf", syscall(SYS_perf_event_open, "", 0, -1, -1, 0));
    TRY("io_uring", syscall(SYS_io_uring_setup, 1, ""));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
    TRY("module", syscall(SYS_init_module, "", 0, ""));
    TRY("module, by file", syscall(SYS_finit_module, 0, "", 0));
    TRY("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY("fanotify", syscall(SYS_fanotify_init, 0, 0));
    TRY("quota", syscall(SYS_quotactl, 0, 0, 0, 0));
    TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0));
    TRY("swap", swapon("/tmp/x", 0));
    TRY("clock", settimeofday(&(struct timeval){0, 0}, NULL));
    TRY("ports", syscall(SYS_iopl, 3));
    TRY("personality", personality(READ_IMPLIES_EXEC));
    TRY("become root", setuid(0));
    TRY("set-id file", as_root());
    TRY("real-time", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){50}));
    TRY("priority", setpriority(PRIO_PROCESS, 0, -20));
    TRY("write a program", writable("/usr/bin/escape"));
    TRY("new program", open("/usr/bin/new", O_WRONLY | O_CREAT, 0755));
    TRY("mount, 32-bit", old_way(21, 0, 0, 0));
    TRY("unshare, 32-bit", old_way(310, CLONE_NEWUSER, 0, 0));
    TRY("socketcall, 32-bit", old_way(102, 1, 0, 0));
    TRY("mount, x32", syscall(0x40000000 | SYS_mount, 0, 0, 0, 0, 0));
    kill(1, SIGKILL);
    say("end", "reached");
    return 0;
}
