//! A tool that takes what it can get: processes, memory, room in memory and descriptors. What this host enforces is tried
//! here, as root's unit and as an ordinary user's; what only control groups of version 2 enforce, `cargo xtask guest limits`
//! tries in a guest.

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;

use super::machine::Machine;

const GREEDY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
static const char *last(void) { return strerrorname_np(errno); }
static void forks(void) {
    int children = 0;
    // Each child does the same, so that their number doubles until it may not.
    for (int n = 0; n < 4096; n++) {
        pid_t child = fork();
        if (child < 0) { printf("forks: %s after %s\n", last(), children < 64 ? "few" : "many"); return; }
        if (!child) { for (int i = 0; i < 64; i++) fork(); pause(); _exit(0); }
        children++;
    }
    printf("forks: no end\n");
}
static void memory(void) {
    size_t got = 0, step = 16 << 20;
    for (; got < (size_t)4 << 30; got += step) {
        char *part = mmap(0, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (part == MAP_FAILED) { printf("memory: %s after %s\n", last(), got < (size_t)256 << 20 ? "little" : "much"); return; }
    }
    printf("memory: no end\n");
}
static void room(const char *name, const char *path, long long size) {
    int file = open(path, O_RDWR | O_CREAT, 0600);
    int done = file < 0 ? -1 : posix_fallocate(file, 0, size);
    printf("%s: %s\n", name, file < 0 ? last() : done ? strerrorname_np(done) : "no end");
    if (file >= 0) { close(file); unlink(path); }
}
static void descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    unsigned long count = 3;
    while (dup(0) >= 0) count++;
    printf("descriptors: %s %s\n", last(), count <= limit.rlim_max ? "within the limit" : "beyond the limit");
}
int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    memory();
    room("shm", "/dev/shm/x", 2 << 20);
    room("tmp", "/tmp/x", 2LL << 30);
    room("var tmp", "/var/tmp/x", 2LL << 30);
    room("run", "/run/x", 2LL << 30);
    room("home", "x", 2LL << 30);
    room("library", "/usr/lib/x", 1);
    descriptors();
    forks();
    return 0;
}
"#;

#[test]
fn a_greedy_tool_comes_to_its_limits_and_the_host_goes_on() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let machine = Machine::of(bench, &Mirror::runnable(), compile::program(GREEDY));
        machine.asks("limits = { memory = \"256M\", tasks = 40 }\nshm = \"1M\"", "");
        let outcome = machine.run(&[]);
        let by_group = machine.run(&["--explain"]).stdout.contains("enter the control group");
        let expected = "shm: ENOSPC\ntmp: ENOSPC\nvar tmp: ENOSPC\nrun: ENOSPC\nhome: ENOSPC\nlibrary: EROFS\n\
                        descriptors: EMFILE within the limit\nforks: EAGAIN after few\n";
        // A control group counts what is used, not what is asked for.
        let memory = if by_group { "memory: no end\n" } else { "memory: ENOMEM after little\n" };
        assert_eq!(outcome.stdout, format!("{memory}{expected}"), "{outcome}");
        // All of them ended with the first: the next run has its whole number again.
        let next = machine.run(&[]);
        assert!(next.stdout.ends_with("forks: EAGAIN after few\n"), "{next}");
    }
}
