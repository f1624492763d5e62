//! A tool that tries to get out, by every way we know of. Each attempt must fail, as a unit that root started and as an
//! ordinary user's; and nothing that bubblewrap refuses may succeed with us.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;

/// The attempts; see its head.
const PROGRAM: &str = include_str!("escapes/escape.c");

/// What an attempt may end with, where one answer would be too strict: kernels and sandboxes differ in which wall comes
/// first. Every other attempt ends with the one that is given.
const EXPECTED: &[(&str, &[&str])] = &[
    ("host file", &["ENOENT"]),
    ("host file, climbing", &["ENOENT"]),
    ("host file, by a link", &["ENOENT"]),
    ("host file, by a process", &["ENOENT"]),
    ("host file, root of init", &["EACCES"]),
    ("host file, folder of init", &["EACCES"]),
    ("host file, by handle", &["EPERM"]),
    ("memory of a host process", &["ESRCH"]),
    ("trace a host process", &["ESRCH"]),
    ("kill a host process", &["ESRCH"]),
    ("memory of init", &["EPERM"]),
    ("memory of init, by file", &["EACCES"]),
    ("environment of init", &["EACCES"]),
    ("descriptors of init", &["EACCES"]),
    ("trace init", &["EPERM"]),
    ("overwrite init", &["EACCES"]),
    ("descriptor of init", &["EPERM"]),
    ("host name", &["EPERM"]),
    ("host name, by file", &["EACCES", "EROFS"]),
    ("core pattern", &["EACCES", "EROFS"]),
    ("drop caches", &["EACCES", "EROFS"]),
    ("sysrq", &["EACCES", "EROFS", "ENOENT"]),
    ("interrupts", &["EACCES", "EROFS", "ENOENT"]),
    ("kernel memory", &["ENODATA", "ENOENT"]),
    ("kernel messages", &["ENODATA", "ENOENT"]),
    ("keys of everybody", &["ENODATA", "ENOENT"]),
    ("timers", &["ENODATA", "ENOENT"]),
    ("kernel messages, by call", &["EPERM"]),
    ("uevent helper", &["ENOENT"]),
    ("control groups", &["ENOENT"]),
    ("character device", &["EPERM"]),
    ("block device", &["EPERM"]),
    ("memory device", &["ENOENT"]),
    ("disk", &["ENOENT"]),
    ("fuse", &["ENOENT"]),
    ("tun", &["ENOENT"]),
    ("input", &["ENOENT"]),
    ("console", &["ENOENT"]),
    ("mount", &["EPERM"]),
    ("remount", &["EPERM"]),
    ("bind", &["EPERM"]),
    ("unmount", &["EPERM"]),
    ("new mount", &["EPERM"]),
    ("open tree", &["EPERM"]),
    ("pivot", &["EPERM"]),
    ("chroot", &["EPERM"]),
    ("user namespace", &["EPERM"]),
    ("mount namespace", &["EPERM"]),
    ("net namespace", &["EPERM"]),
    ("time namespace", &["EPERM"]),
    ("user namespace, by clone", &["EPERM"]),
    ("user namespace, by clone3", &["ENOSYS"]),
    ("join mounts of init", &["EACCES"]),
    ("join own network", &["EPERM"]),
    ("type on the terminal", &["EPERM"]),
    ("keys", &["EPERM"]),
    ("add key", &["EPERM"]),
    ("abstract socket", &["ECONNREFUSED"]),
    ("tcp of the host", &["ECONNREFUSED"]),
    ("raw socket", &["EPERM"]),
    ("packet socket", &["EAFNOSUPPORT"]),
    ("vsock", &["EAFNOSUPPORT"]),
    ("crypto socket", &["EAFNOSUPPORT"]),
    ("bpf", &["EPERM"]),
    ("perf", &["EPERM"]),
    ("io_uring", &["ENOSYS"]),
    ("userfaultfd", &["EPERM"]),
    ("module", &["EPERM"]),
    ("module, by file", &["EPERM"]),
    ("kexec", &["EPERM"]),
    ("fanotify", &["EPERM"]),
    ("quota", &["EPERM"]),
    ("reboot", &["EPERM"]),
    ("swap", &["EPERM"]),
    ("clock", &["EPERM"]),
    ("ports", &["EPERM"]),
    ("personality", &["EPERM"]),
    ("become root", &["EPERM", "EINVAL"]),
    ("set-id file", &["EACCES"]),
    ("real-time", &["EPERM"]),
    ("priority", &["EACCES", "EPERM"]),
    ("write a program", &["EROFS", "EACCES"]),
    ("new program", &["EROFS"]),
    ("mount, 32-bit", &["EPERM"]),
    ("unshare, 32-bit", &["EPERM"]),
    ("socketcall, 32-bit", &["ENOSYS"]),
    ("mount, x32", &["ENOSYS"]),
];

/// What must hold of the process itself.
const STATE: &[(&str, &str)] = &[
    ("descriptors", "0 1 2 "),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("dev", "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "),
    // Whoever kills PID 1 of the sandbox from inside ends nothing.
    ("end", "reached"),
];

/// What a tool could be after on the host: a file, a process, sockets.
struct Prey {
    secret: PathBuf,
    process: std::process::Child,
    name: String,
    port: String,
    _sockets: (UnixListener, std::net::TcpListener),
}

impl Prey {
    fn on(bench: &Bench) -> Self {
        let name = format!("hatchway-prey-{}", bench.path("").file_name().unwrap().to_string_lossy());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            secret: bench.put("secret", "a secret of the host"),
            process: Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap(),
            name,
            port: tcp.local_addr().unwrap().port().to_string(),
            _sockets: (UnixListener::bind_addr(&address).unwrap(), tcp),
        }
    }

    fn arguments(&self) -> [String; 4] {
        let secret = self.secret.display().to_string();
        [secret, self.process.id().to_string(), self.name.clone(), self.port.clone()]
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        let still_there = self.process.try_wait().is_ok_and(|ended| ended.is_none());
        self.process.kill().ok();
        self.process.wait().ok();
        assert!(still_there || std::thread::panicking(), "the tool ended a process of the host");
    }
}

fn outcomes(text: &str) -> BTreeMap<String, String> {
    let split = |line: &str| line.split_once('=').map(|(name, what)| (name.to_owned(), what.to_owned()));
    text.lines().filter_map(split).collect()
}

fn package() -> Package {
    Package::new("escape", "1.0")
        .field("Depends", "libc6 (>= 2.14)")
        .program("usr/bin/escape", compile::program(PROGRAM))
}

/// Runs the attempts and compares each with what it must end with.
fn all_fail(bench: Bench) -> (Bench, BTreeMap<String, String>) {
    let (bench, _server) = bench.with_mirror(&Mirror::runnable());
    let prey = Prey::on(&bench);
    bench.put("escape.deb", package().deb());
    let arguments = prey.arguments();
    let mut words = vec!["run", "-q", "./escape.deb", "--"];
    words.extend(arguments.iter().map(String::as_str));
    let outcome = bench.hatchway(&words).ok();
    let got = outcomes(&outcome.stdout);
    let mut wrong = Vec::new();
    for (name, allowed) in EXPECTED {
        let what = got.get(*name).map_or("nothing", String::as_str);
        if !allowed.contains(&what) {
            wrong.push(format!("{name}: {what} instead of {}", allowed.join(" or ")));
        }
    }
    for (name, expected) in STATE {
        let what = got.get(*name).map_or("nothing", String::as_str);
        if what != *expected {
            wrong.push(format!("{name}: `{what}` instead of `{expected}`"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{outcome}", wrong.join("\n"));
    assert_eq!(got.len(), EXPECTED.len() + STATE.len(), "an attempt is not in the table:\n{outcome}");
    (bench, got)
}

#[test]
fn no_attempt_of_an_ordinary_users_tool_gets_out() {
    drop(all_fail(Bench::ordinary()));
}

#[test]
fn no_attempt_of_roots_tool_gets_out() {
    // Root starts it where root runs the tests; otherwise this is the same as above.
    drop(all_fail(Bench::new()));
}

#[test]
fn what_bubblewrap_refuses_we_refuse() {
    let (bench, ours) = all_fail(Bench::new());
    let prey = Prey::on(&bench);
    let tree = std::fs::read_dir(bench.path("data/store/trees")).unwrap().next().unwrap().unwrap().path();
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--unshare-all", "--new-session", "--die-with-parent", "--ro-bind"]).arg(tree).arg("/");
    bwrap.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", "/usr/bin/escape"]);
    bwrap.args(prey.arguments()).stdin(Stdio::null());
    let output = bwrap.output().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("bwrap is missing (Debian: apt-get install bubblewrap)"),
        _ => panic!("{error}"),
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = outcomes(&String::from_utf8_lossy(&output.stdout));
    let refused = |outcome: &String| outcome != "done" && outcome != "killed";
    let attempts = EXPECTED.iter().map(|(name, _)| *name);
    let both = attempts.clone().filter(|name| theirs.get(*name).is_some_and(refused));
    let weaker: Vec<&str> = both.clone().filter(|name| !ours.get(*name).is_some_and(refused)).collect();
    assert!(weaker.is_empty(), "bubblewrap refuses what we allow: {weaker:?}");
    // The oracle is one: it refuses most of them, and it is no copy of ours.
    assert!(both.count() > EXPECTED.len() / 2, "{theirs:?}");
    assert!(attempts.clone().any(|name| theirs.get(name).is_some_and(|what| what == "done")), "{theirs:?}");
}
