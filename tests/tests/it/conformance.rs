//! What a program sees of its namespaces, asked the same way inside our sandbox and inside bubblewrap's: where both should
//! agree they must, and where ours is meant to differ it must say exactly what is written here, with the reason.

use std::collections::BTreeMap;
use std::process::Command;

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::host;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;

/// How the answers relate.
pub(super) enum Rule {
    /// The same in both.
    Same,
    /// The same in both, and this.
    Both(&'static str),
    /// The same in both, and this, but that bubblewrap may give root's tool more: it stays root there.
    NotRoot(&'static str),
    /// Ours is this; bubblewrap's is something else.
    Ours(&'static str),
}
use Rule::{Both, NotRoot, Ours, Same};

/// Questions in the shell of the tree, whose programs are the host's.
pub(super) const PROBES: &[(&str, &str, Rule)] = &[
    // Processes
    ("own pid", "sh -c 'echo $$' > /tmp/p; [ \"$(cat /tmp/p)\" -lt 100 ] && echo small", Both("small")),
    ("first process", "ls /proc | grep -cE '^1$'", Both("1")),
    ("parent of the tool", "echo $PPID", Both("1")),
    ("name of the first process", "cat /proc/1/comm", Ours("hatchway-shim")),
    ("threads of the first process", "ls /proc/1/task | wc -l", Both("1")),
    ("environment of the first process", "cat /proc/1/environ 2>&1 > /dev/null | grep -c denied", Ours("1")),
    (
        "orphans are reaped",
        "(sleep 0.1 &); sleep 0.4; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l",
        Both("0"),
    ),
    ("the first process ignores TERM", "kill -TERM 1 2>/dev/null; sleep 0.1; echo alive", Both("alive")),
    ("the first process ignores KILL", "kill -KILL 1 2>/dev/null; sleep 0.1; echo alive", Both("alive")),
    ("exit code of a signal", "sh -c 'kill -USR1 $$'; echo $?", Both("138")),
    ("oom score", "cat /proc/self/oom_score_adj", Same),
    // Names
    ("host name", "uname -n", Both("acme")),
    (
        "host name cannot be set",
        "(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo refused",
        NotRoot("refused"),
    ),
    // IPC
    ("segments of shared memory", "tail -n +2 /proc/sysvipc/shm | wc -l", Both("0")),
    ("message queues", "tail -n +2 /proc/sysvipc/msg | wc -l", Both("0")),
    // Network
    ("interfaces", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ','", Both("lo,")),
    ("loopback is up", "grep -c ' lo$' /proc/net/if_inet6", Same),
    ("routes", "tail -n +2 /proc/net/route | wc -l", Both("0")),
    ("abstract sockets of others", "grep -c @ /proc/net/unix", Both("0")),
    // Control groups
    ("control groups are seen from their own root", "grep -v ':/$' /proc/self/cgroup | wc -l", Both("0")),
    // Mounts
    ("no mount is shared", "grep -c ' shared:' /proc/self/mountinfo", Both("0")),
    ("nothing of the old root", "ls / | grep -E 'oldroot|newroot|lost\\+found' | wc -l", Both("0")),
    ("no mount", "mount -t tmpfs x /mnt 2>/dev/null && echo mounted || echo refused", Both("refused")),
    ("no remount", "mount -o remount,rw /usr 2>/dev/null && echo done || echo refused", Both("refused")),
    (
        "no user namespace",
        "unshare -U cat /dev/null 2>/dev/null && echo made || echo refused",
        Ours("refused"),
    ),
    (
        "root is nosuid and nodev",
        "awk '$5 == \"/\" {print $6}' /proc/self/mountinfo | tail -n 1 | tr , '\\n' | grep -cE '^(nosuid|nodev)$'",
        Both("2"),
    ),
    ("programs cannot be changed", "(echo x > /usr/bin/new) 2>/dev/null || echo refused", Both("refused")),
    (
        "kernel parameters",
        "(echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null || echo refused",
        NotRoot("refused"),
    ),
    ("kernel parameters can be read", "cat /proc/sys/kernel/ostype", Both("Linux")),
    ("sysrq", "(echo h > /proc/sysrq-trigger) 2>/dev/null || echo refused", Both("refused")),
    ("memory of the kernel", "head -c 1 /proc/kcore 2>/dev/null | wc -c", Both("0")),
    ("key rings", "wc -l < /proc/keys", NotRoot("0")),
    // Devices
    (
        "devices",
        "ls /dev | grep -vE '^(core|console)$' | tr '\\n' ','",
        Both("fd,full,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero,"),
    ),
    ("no core in /dev", "ls /dev | grep -cE '^(core|console)$'", Ours("0")),
    ("null swallows", "echo x > /dev/null; wc -c < /dev/null", Both("0")),
    ("zero gives zeros", "head -c 4 /dev/zero | od -An -tx1 | tr -d ' '", Both("00000000")),
    ("random gives", "head -c 16 /dev/urandom | wc -c", Both("16")),
    ("full is full", "(echo x > /dev/full) 2>/dev/null || echo full", Both("full")),
    ("terminals of the host", "ls /dev/pts | tr '\\n' ','", Both("ptmx,")),
    ("a terminal of its own", "script -qec tty /dev/null | tr -d '\\r'", Both("/dev/pts/0")),
    ("shared memory", "echo x > /dev/shm/x && cat /dev/shm/x", Both("x")),
    ("no device node", "mknod /tmp/null c 1 3 2>/dev/null && echo made || echo refused", Both("refused")),
    (
        "links of descriptors",
        "ls -l /dev/fd /dev/stdin | sed 's/.*-> //' | tr '\\n' ','",
        Both("/proc/self/fd,/proc/self/fd/0,"),
    ),
    // Privileges
    ("effective capabilities", "awk '/^CapEff/ {print $2}' /proc/self/status", Both("0000000000000000")),
    ("permitted capabilities", "awk '/^CapPrm/ {print $2}' /proc/self/status", Both("0000000000000000")),
    ("inherited capabilities", "awk '/^CapInh/ {print $2}' /proc/self/status", Both("0000000000000000")),
    ("bounding set", "awk '/^CapBnd/ {print $2}' /proc/self/status", Both("0000000000000000")),
    ("ambient capabilities", "awk '/^CapAmb/ {print $2}' /proc/self/status", Both("0000000000000000")),
    ("no new privileges", "awk '/^NoNewPrivs/ {print $2}' /proc/self/status", Both("1")),
    ("a filter of system calls", "awk '/^Seccomp:/ {print $2}' /proc/self/status", Ours("2")),
    ("descriptors of the caller", "ls /proc/self/fd | tr '\\n' ','", Ours("0,1,2,3,")),
    ("variables of the caller", "env | grep -c HATCHWAY_SECRET", Ours("0")),
    ("file mode mask", "umask", Both("0022")),
];

pub(super) fn script() -> String {
    let sections = PROBES.iter().map(|(name, probe, _)| format!("echo \"## {name}\"\n({probe}\n)\n"));
    sections.collect::<String>()
}

pub(super) fn answers(text: &str) -> BTreeMap<String, String> {
    let sections = text.split("## ").skip(1);
    let answer = |section: &str| {
        let (name, rest) = section.split_once('\n').unwrap_or((section, ""));
        (name.to_owned(), rest.trim().to_owned())
    };
    sections.map(answer).collect()
}

fn compare(bench: Bench, root: bool) {
    let mirror = Mirror::new(vec![host::suite("bookworm")], Key::new(1));
    let (bench, _server) = bench.exact().with_mirror(&mirror);
    let programs = "coreutils, dash, grep, sed, mawk, util-linux, bsdutils";
    let package = Package::new("acme", "1.0").field("Depends", programs).program("usr/bin/probes", script());
    bench.put("acme.deb", package.deb());
    // Both are started with a descriptor and a variable too many, whatever the tests themselves were started with.
    let caller = "exec 7</dev/null; exec env HATCHWAY_SECRET=1";
    let inside = "run -q acme.deb --program /usr/bin/dash -- /usr/bin/probes";
    let ours = bench.script(&format!("{caller} \"$HATCHWAY\" {inside}")).ok();
    let tree = std::fs::read_dir(bench.path("data/store/trees")).unwrap().next().unwrap().unwrap().path();
    // A root of its own below which mount points can be made, as ours is: the tree's folders one by one.
    let theirs = bench.script(&format!(
        "umask 022; cd {tree}; set -- ; for name in *; do case $name in dev|proc|tmp|run|home) continue;; esac; \
         if [ -L $name ]; then set -- \"$@\" --symlink $(readlink $name) /$name; \
         else set -- \"$@\" --ro-bind $PWD/$name /$name; fi; done; \
         {caller} bwrap --unshare-user-try --unshare-ipc --unshare-pid --unshare-net --unshare-uts \
         --unshare-cgroup --hostname acme --die-with-parent --new-session --cap-drop ALL \"$@\" --proc /proc --dev /dev \
         --tmpfs /tmp --remount-ro / /usr/bin/dash /usr/bin/probes",
        tree = tree.display()
    ));
    let theirs = theirs.ok();
    let (our, their) = (answers(&ours.stdout), answers(&theirs.stdout));
    let mut wrong = Vec::new();
    for (name, _, rule) in PROBES {
        let answer =
            |of: &BTreeMap<String, String>| of.get(*name).cloned().unwrap_or_else(|| "nothing".to_owned());
        let (o, t) = (answer(&our), answer(&their));
        let (fits, rule) = match rule {
            Same => (o == t, "the same".to_owned()),
            Both(expected) => (o == *expected && t == *expected, format!("both `{expected}`")),
            NotRoot(expected) => {
                (o == *expected && (t == *expected || root), format!("both `{expected}`, but for root"))
            }
            Ours(expected) => (o == *expected && t != *expected, format!("ours alone `{expected}`")),
        };
        if !fits {
            wrong.push(format!("{name}: ours `{o}`, bubblewrap `{t}`, expected {rule}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{ours}\n{theirs}", wrong.join("\n"));
    // The two tests run at once, so each looks for sleepers of its own.
    endings(&bench, &tree, if bench.is_ordinary() { "1718" } else { "1719" });
}

/// How it ended, and that nothing is left behind.
fn endings(bench: &Bench, tree: &std::path::Path, seconds: &str) {
    for (line, code) in [
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("sleep SECONDS & exit 3", 3),
        ("(sleep SECONDS &) ; exit 0", 0),
    ] {
        let line = &line.replace("SECONDS", seconds);
        let ours = bench.hatchway(&["run", "-q", "acme.deb", "--program", "/usr/bin/dash", "--", "-c", line]);
        let theirs = bench.script(&format!(
            "bwrap --unshare-all --die-with-parent --ro-bind {} / --proc /proc --dev /dev /usr/bin/dash -c '{line}'",
            tree.display()
        ));
        assert_eq!((ours.code, theirs.code), (Some(code), Some(code)), "{line}\n{ours}\n{theirs}");
    }
    let left = Command::new("pgrep")
        .args(["-f", &format!("^sleep {seconds}")])
        .output()
        .expect("install the package `procps`");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "left behind");
}

#[test]
fn an_ordinary_users_namespaces_are_as_bubblewraps() {
    compare(Bench::ordinary(), false);
}

#[test]
fn roots_namespaces_are_as_bubblewraps() {
    // Where an ordinary user runs the tests this is the same as above.
    compare(Bench::new(), is_root());
}
