//! One suite for all rungs: the same tool, asked the same things, on each of them. Where a rung differs, it says here how and
//! why. Rows that other engines are asked, too, are functions of their own.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, Outcome, is_root};
use hatchway_tests::engine::Engine;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;
use hatchway_tests::podman::Podman;
use hatchway_tests::server::Server;
use hatchway_tests::{compile, host, kernel};
use serde_json::Value;

use super::conformance::{PROBES, answers, script};
use super::rungs_channels::CLIENT;
use super::units_ready::HERALD;

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// What root's engine shows otherwise than the fhs rung, and why that is so.
/// `*` is any other answer.
pub(super) const CONTAINER_DIFFERS: Differs<'_> = &[
    (
        "parent of the tool",
        "*",
        "PID 1 is the shim's outer half here; its inner half, which starts the tool, comes after it",
    ),
    (
        "root is nosuid and nodev",
        "0",
        "the engine's root; no new privileges and its own list of devices say the same",
    ),
    (
        "devices",
        "fd,full,mqueue,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero,",
        "engines mount POSIX message queues, of the container's own namespace",
    ),
];

/// What a guest shows otherwise.
const VM_DIFFERS: Differs<'_> = &[];

/// The beginning of a script that has a terminal, starts `WORDS -c INSIDE` at it, and waits for what is said.
pub(super) const PTY: &str = r#"import os, pty, select, termios, time, fcntl, struct
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    words = os.environ["WORDS"].split()
    os.execvp(words[0], words + ["-c", os.environ["INSIDE"]])
seen = b""
def until(text):
    global seen
    end = time.time() + 60
    while text not in seen:
        assert time.time() < end and select.select([master], [], [], 60)[0], seen
        seen += os.read(master, 4096)
"#;

/// A tool that asks, and the rungs it is asked on.
pub(super) struct Rungs {
    // The engines end before their folders go.
    engine: Option<Engine>,
    pub(super) podman: Option<Podman>,
    pub(super) bench: Bench,
    _server: Server,
}

impl Rungs {
    pub(super) fn new(more: &str) -> Self {
        let mut rungs = Self::without_engine(Bench::new().exact(), more);
        // Only root starts engines here; where an ordinary user runs the tests there is the fhs rung alone, and CI must not.
        assert!(is_root() || std::env::var_os("CI").is_none(), "the container rung is asked only as root");
        rungs.engine = is_root().then(|| Engine::start(&rungs.bench.path("engine"), None));
        rungs
    }

    /// With root's Podman instead of docker. What it is not asked for, docker's rows ask.
    pub(super) fn with_podman(more: &str) -> Self {
        assert!(is_root(), "hatchway refuses a Podman of an ordinary user's: run the tests as root");
        let mut rungs = Self::without_engine(Bench::new().exact(), more);
        rungs.podman = Some(Podman::start(&rungs.bench.path("podman")));
        rungs
    }

    pub(super) fn without_engine(bench: Bench, more: &str) -> Self {
        let mut suite = host::suite("bookworm");
        for package in kernel::packages() {
            suite = suite.with(package);
        }
        let mirror = Mirror::new(vec![suite], Key::new(1));
        // What another machine would find out: here a guest under KVM may not be heard.
        bench.configure("vm-accel = \"tcg\"\n");
        let (bench, server) = bench.with_mirror(&mirror);
        let programs = "coreutils, dash, grep, sed, mawk, util-linux, bsdutils, procps";
        let package = Package::new("acme", "1.0")
            .field("Depends", &programs.replace(", procps", ""))
            .program("usr/bin/probes", script())
            .program("usr/bin/client", compile::program(CLIENT))
            .program("usr/lib/acme/herald", compile::program(HERALD))
            .file("usr/bin/text", "no program\n");
        bench.put("acme.deb", package.deb());
        drop(bench.hatchway(&["new", "-q", "acme.deb"]).ok());
        let recipe = bench.path("work/recipes/acme/recipe.toml");
        let text = fs::read_to_string(&recipe).unwrap();
        let text = if text.contains("[run]\n") {
            text.replace("[run]\n", &format!("[run]\n{more}\n"))
        } else {
            format!("{text}\n[run]\n{more}\n")
        };
        fs::write(&recipe, text).unwrap();
        drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
        Self { engine: None, podman: None, bench, _server: server }
    }

    /// As `DOCKER_HOST` has docker's engine, where there is one.
    pub(super) fn engine_host(&self) -> Option<String> {
        Some(self.engine.as_ref()?.host())
    }

    /// By one that can be killed alone.
    pub(super) fn replace_engine(&mut self) {
        drop(self.engine.take());
        self.engine = Some(Engine::start_alone(&self.bench.path("other"), &[]));
    }

    pub(super) fn kill_and_start_engine(&mut self) {
        self.engine.as_mut().unwrap().kill_and_start();
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        match (&self.engine, &self.podman) {
            (_, Some(_)) => vec!["container"],
            (Some(_), None) => vec!["fhs", "container", "vm"],
            (None, None) => vec!["fhs", "vm"],
        }
    }

    /// As `DOCKER_HOST` has it.
    fn host(&self) -> String {
        let podman = self.podman.as_ref().map(Podman::host);
        podman.or_else(|| self.engine.as_ref().map(Engine::host)).unwrap_or_default()
    }

    /// What the engine's client says; nothing where there is no engine.
    pub(super) fn engine_says(&self, arguments: &[&str]) -> Option<String> {
        let podman = self.podman.as_ref().map(|podman| podman.says(arguments));
        podman.or_else(|| self.engine.as_ref().map(|engine| engine.says(arguments)))
    }

    /// A line of the test's shell in which `$RUN` runs the tool's shell.
    pub(super) fn shell(&self, rung: &str, line: &str) -> Outcome {
        self.bench.script(&format!("{}\n{line}", self.prefix(rung)))
    }

    pub(super) fn prefix(&self, rung: &str) -> String {
        let host = self.host();
        format!(
            "export DOCKER_HOST={host}; RUN=\"$HATCHWAY run -q acme --rung {rung} --program /usr/bin/dash --\""
        )
    }

    /// The record of the last run.
    pub(super) fn record(&self) -> Value {
        let newest = "cat \"$(ls -td \"$HATCHWAY_DATA_DIR\"/run/units/acme/* | head -n 1)/exit.json\"";
        self.bench.script(newest).ok().json()
    }

    /// Nothing of a run is left but its record.
    pub(super) fn nothing_is_left(&self) {
        let left = self
            .bench
            .script("ls \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/ | grep -v -e : -e '^$' | sort -u")
            .stdout;
        assert_eq!(left, "exit.json\n", "left in the folders of runs");
        until("a container is left", || {
            self.engine_says(&["ps", "--all", "--quiet"]).is_none_or(|ids| ids.is_empty())
        });
        if let Some(podman) = &self.podman {
            assert_eq!(podman.mounted(), [""; 0], "left mounted");
        }
    }
}

pub(super) fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A time to sleep that no other test sleeps.
pub(super) fn odd_seconds() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("1723.{}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn sleeps(seconds: &str) -> bool {
    let found = Command::new("pgrep").args(["-f", &format!("^sleep {seconds}$")]).output().unwrap();
    !found.stdout.is_empty()
}

#[test]
fn a_tool_sees_the_same_on_each_rung() {
    same_answers(&Rungs::new(""), &[("container", CONTAINER_DIFFERS), ("vm", VM_DIFFERS)]);
}

/// What is asked, which answer is expected instead of the fhs rung's, and why.
pub(super) type Differs<'a> = &'a [(&'a str, &'a str, &'a str)];

pub(super) fn same_answers(rungs: &Rungs, others: &[(&str, Differs<'_>)]) {
    let ask = |rung: &str| {
        let outcome = rungs.shell(rung, "exec 7</dev/null; HATCHWAY_SECRET=1 $RUN /usr/bin/probes").ok();
        answers(&outcome.stdout)
    };
    let fhs = ask("fhs");
    for (rung, differs) in others {
        if !rungs.names().contains(rung) {
            continue;
        }
        let other = ask(rung);
        let mut wrong = Vec::new();
        for (name, ..) in PROBES {
            let answer = |of: &BTreeMap<String, String>| {
                of.get(*name).cloned().unwrap_or_else(|| "nothing".to_owned())
            };
            let (own, theirs) = (answer(&fhs), answer(&other));
            let expected = differs.iter().find(|(differs, ..)| differs == name);
            let fits = match expected {
                Some((_, expected, _)) => (*expected == "*" || theirs == *expected) && theirs != own,
                None => theirs == own,
            };
            if !fits {
                wrong.push(format!("{name}: fhs `{own}`, {rung} `{theirs}`"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    rungs.nothing_is_left();
}

#[test]
fn exit_codes_are_the_tools_and_each_has_its_reason() {
    exit_codes(&Rungs::new(""));
}

pub(super) fn exit_codes(rungs: &Rungs) {
    let seconds = odd_seconds();
    for rung in rungs.names() {
        for (line, code, reason) in [
            ("exit 0", 0, r#"{"exit":{"code":0}}"#),
            ("exit 7", 7, r#"{"exit":{"code":7}}"#),
            ("exit 255", 255, r#"{"exit":{"code":255}}"#),
            ("kill -KILL $$", 137, r#"{"signal":{"core":false,"signal":9}}"#),
            ("kill -SEGV $$", 139, r#"{"signal":{"core":false,"signal":11}}"#),
            (&format!("sleep {seconds} & exit 3"), 3, r#"{"exit":{"code":3}}"#),
        ] {
            let outcome = rungs.shell(rung, &format!("$RUN -c '{line}'"));
            assert_eq!(outcome.code, Some(code), "{rung}: {line}\n{outcome}");
            let record = rungs.record();
            assert_eq!(record["reason"].to_string(), reason, "{rung}: {line}\n{record}");
            assert_eq!(record["code"], code);
            assert!(record["exit_file"].as_str().unwrap().ends_with("/exit.json"), "{record}");
        }
        for (program, code) in [("/usr/bin/none", 127), ("/usr/bin/text", 126)] {
            let line = format!("$HATCHWAY run -q acme --rung {rung} --program {program}");
            let outcome = rungs.shell(rung, &line);
            assert_eq!(outcome.code, Some(code), "{rung}: {program}\n{outcome}");
            assert!(outcome.stderr.starts_with("error: "), "{outcome}");
        }
        assert!(!sleeps(&seconds), "{rung}: left behind");
    }
    rungs.nothing_is_left();
}

#[test]
fn streams_are_the_callers_own() {
    streams(&Rungs::new(""));
}

pub(super) fn streams(rungs: &Rungs) {
    for rung in rungs.names() {
        let line = "head -c 3000000 /dev/urandom > big; $RUN -c 'cat; echo to the other >&2' < big 2> other | cmp - big && cat other";
        let outcome = rungs.shell(rung, line).ok();
        assert_eq!(outcome.stdout, "to the other\n", "{rung}\n{outcome}");
        // The end of what is read, a reader that goes away, and a file that is written on.
        let outcome = rungs.shell(rung, "printf 'a\\nb\\n' | $RUN -c 'read x; echo $x; cat' | cat").ok();
        assert_eq!(outcome.stdout, "a\nb\n", "{rung}\n{outcome}");
        let outcome = rungs.shell(rung, "$RUN -c 'while echo more; do :; done' | head -n 1; echo end").ok();
        assert_eq!(outcome.stdout, "more\nend\n", "{rung}\n{outcome}");
        let outcome = rungs.shell(rung, "echo one > file; $RUN -c 'echo two' >> file; cat file").ok();
        assert_eq!(outcome.stdout, "one\ntwo\n", "{rung}\n{outcome}");
    }
    if rungs.names().contains(&"vm") {
        // A reader that goes away while the port is full: what waits before it is never delivered, and is not waited for.
        let line = "(timeout 120 $RUN -c 'cat /dev/zero'; echo $? >&2) | (sleep 2; head -c 1) | wc -c";
        let outcome = rungs.shell("vm", line).ok();
        assert_eq!((outcome.stdout.trim(), outcome.stderr.trim()), ("1", "141"), "{outcome}");
        // A reader that rests.
        let outcome = rungs.shell("vm", "$RUN -c 'head -c 3000000 /dev/zero' | (sleep 15; wc -c)").ok();
        assert_eq!(outcome.stdout, "3000000\n", "{outcome}");
    }
    rungs.nothing_is_left();
}

#[test]
fn a_terminal_is_the_tools_and_the_callers_is_as_it_was() {
    terminal(&Rungs::new(""));
}

pub(super) fn terminal(rungs: &Rungs) {
    for rung in rungs.names() {
        // A size of the caller's, keys that arrive, Ctrl-C for the tool alone, and settings that are as before.
        let inside = r#"tty; stty size; trap "echo interrupted" INT; echo ready; while test -z "$x"; do read x; done; echo got $x; read y; exit 5"#;
        let script = format!(
            "{PTY}{}",
            r#"until(b"ready")
os.write(master, b"\x03")
until(b"interrupted")
os.write(master, b"word\n")
until(b"got word")
os.write(master, b"\n")
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), termios.tcgetattr(slave) == before)
lines = seen.decode().replace("\r", "").replace("^C", "").split("\n")
print([line for line in lines if line.startswith(("/dev/", "33", "interrupted", "got"))])
"#
        );
        rungs.bench.put("terminal.py", script);
        let outcome =
            rungs.shell(rung, &format!("WORDS=\"$RUN\" INSIDE='{inside}' python3 terminal.py")).ok();
        assert_eq!(
            outcome.stdout, "5 True\n['/dev/pts/0', '33 101', 'interrupted', 'got word']\n",
            "{rung}\n{outcome}"
        );
    }
    rungs.nothing_is_left();
}

#[test]
fn a_tool_that_is_stopped_goes_on_when_the_caller_is_told() {
    stopped_and_told_to_go_on(&Rungs::new(""));
}

pub(super) fn stopped_and_told_to_go_on(rungs: &Rungs) {
    for rung in rungs.names() {
        // A detached tool that somebody stops is stopped alone: it goes on when the caller is told to.
        // It says that it is ready before it is stopped, and who is told before that was told in vain: so it is told again.
        let line = "rm -f out; $RUN -c 'echo ready; kill -STOP $$; echo went on' > out < /dev/null & \
                    for i in $(seq 600); do grep -q ready out 2> /dev/null && break; sleep 0.1; done; \
                    for i in $(seq 120); do kill -CONT $! 2> /dev/null; sleep 0.5; grep -q 'went on' out && break; done; \
                    wait $!; cat out";
        let outcome = rungs.shell(rung, line).ok();
        assert_eq!(outcome.stdout, "ready\nwent on\n", "{rung}\n{outcome}");
    }
    rungs.nothing_is_left();
}

#[test]
fn environment_and_folder_are_the_same() {
    let rungs = Rungs::new("env = { ACME = \"a b\", LC_ALL = \"C\" }");
    let ask = |rung: &str| {
        rungs.shell(rung, "TERM=vt100 $RUN -c 'env | sort; pwd; id; umask; cat /etc/passwd /etc/machine-id /etc/hostname'").ok().stdout
    };
    let fhs = ask("fhs");
    assert!(fhs.contains("ACME=a b\n") && fhs.contains("LC_ALL=C\n"), "{fhs}");
    for rung in rungs.names() {
        assert_eq!(ask(rung), fhs, "{rung}");
    }
}

#[test]
fn state_is_kept_and_the_rest_is_thrown_away() {
    state(&Rungs::new("state = [\"/var/lib/acme\"]"));
}

pub(super) fn state(rungs: &Rungs) {
    let places = "/var/lib/acme/kept /var/lib/other /tmp/x $HOME/x /var/log/x /run/x /dev/shm/x";
    let mut runs = 0;
    // The same state on each rung.
    for rung in rungs.names() {
        let line = format!(
            "$RUN -c 'for f in {places}; do echo x >> $f || echo no $f; done; wc -l < /var/lib/acme/kept; cat /tmp/x /var/log/x'"
        );
        for _ in 0..2 {
            runs += 1;
            let outcome = rungs.shell(rung, &line).ok();
            assert_eq!(outcome.stdout, format!("{runs}\nx\nx\n"), "{rung}\n{outcome}");
        }
        let refused = rungs.shell(rung, "$RUN -c 'echo x > /usr/bin/x'");
        assert!(refused.code != Some(0), "{rung}\n{refused}");
    }
    rungs.nothing_is_left();
}

#[test]
fn files_and_shares_are_shown() {
    let rungs = Rungs::new("");
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text + "\n[[file]]\nname = \"licence\"\nat = \"/etc/acme/licence.dat\"\n").unwrap();
    drop(rungs.bench.hatchway(&["lock", "-q", "acme"]).ok());
    for rung in rungs.names().into_iter().filter(|rung| *rung != "vm") {
        let line = format!(
            "mkdir -p both reads; chmod 777 both reads; echo key > key; echo there > reads/file; \
             $HATCHWAY run -q acme --rung {rung} --bind licence=key --share both --share reads:ro --program /usr/bin/dash -- \
             -c \"cat /etc/acme/licence.dat $PWD/reads/file; echo {rung} > $PWD/both/file; echo x > $PWD/reads/x || echo refused\" 2>/dev/null; cat both/file"
        );
        let outcome = rungs.shell(rung, &line);
        assert_eq!(outcome.stdout, format!("key\nthere\nrefused\n{rung}\n"), "{rung}\n{outcome}");
    }
    // A guest has a copy of a file, and no folder of the host.
    let run = "$HATCHWAY run -q acme --rung vm --bind licence=key --program /usr/bin/dash";
    let line = format!(
        "{run} -- -c 'cat /etc/acme/licence.dat; echo x > /etc/acme/licence.dat || echo refused' 2> /dev/null"
    );
    assert_eq!(rungs.shell("vm", &line).ok().stdout, "key\nrefused\n");
    let refused = rungs.shell("vm", &format!("{run} --share both -- -c true"));
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("a guest has no part in it"), "{refused}");
    rungs.nothing_is_left();
}

#[test]
fn networks_are_what_the_recipe_says() {
    const ASK: &str = "$RUN -c 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d \" \" | sort | tr \"\\n\" \",\"; \
                       grep -c . /proc/net/if_inet6'; cat /dev/null";
    for (network, check) in [("none", "lo,0"), ("loopback", "lo,1"), ("host", "")] {
        let rungs = Rungs::new(&format!("network = \"{network}\""));
        let host = rungs
            .bench
            .script("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort | tr '\\n' ','")
            .stdout;
        for rung in rungs.names() {
            let outcome = rungs.shell(rung, ASK).ok();
            let seen: String = outcome.stdout.split_whitespace().collect();
            if network == "host" && rung == "vm" {
                // A card of the guest's own, by which it reaches what the host does.
                assert!(seen.starts_with("eth0,lo,"), "{seen}");
            } else if network == "host" {
                assert!(seen.starts_with(&host), "{rung}: {seen} instead of {host}");
            } else {
                assert_eq!(seen, check, "{rung}: {network}\n{outcome}");
            }
        }
        rungs.nothing_is_left();
    }
}

#[test]
fn what_only_one_rung_gives_is_refused_on_others() {
    let rungs = Rungs::new("network = { allow = [\"udp:127.0.0.1:5025\"] }");
    for rung in rungs.names().into_iter().skip(1) {
        let refused = rungs.shell(rung, "$RUN -c true");
        assert_eq!(refused.code, Some(125), "{refused}");
        let why = if rung == "vm" { "a guest has no part in it" } else { "only the fhs rung gives it" };
        assert!(refused.stderr.contains(why), "{refused}");
        assert!(refused.stderr.contains("hint: "), "{refused}");
    }
}

#[test]
fn a_plan_says_what_the_engine_is_asked_for() {
    let rungs = Rungs::new("state = [\"/var/lib/acme\"]\nlimits = { memory = \"64M\" }");
    let line = "$HATCHWAY run -q acme --rung container --program /usr/bin/dash --explain";
    let plan = rungs.bench.script(line).ok();
    for text in [
        "ask the engine for a network of its own\n",
        "` at `/var/lib/acme`\n",
        "ask the engine for at most 67108864 bytes of memory in all\n",
        "use the container's own `/`\n",
        "drop every capability\n",
    ] {
        assert!(plan.stdout.contains(text), "{text}\n{plan}");
    }
    let json = rungs.bench.script(&format!("{line} --json")).ok().json();
    assert!(json["engine"].as_array().is_some_and(|lines| lines.len() > 5), "{json}");
    assert_eq!(
        rungs
            .bench
            .script("ls \"$HATCHWAY_DATA_DIR\"/run/units 2>&1; ls \"$HATCHWAY_DATA_DIR\"/state 2>&1")
            .stdout
            .matches("acme")
            .count(),
        0
    );
}

#[test]
fn inspection_says_what_each_rung_costs() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::runnable());
    bench.put("acme.deb", Package::new("acme", "1.0").program("usr/bin/acme", "#!/bin/sh\n").deb());
    let said = bench.hatchway(&["inspect", "--rungs", "acme.deb"]).ok().stdout;
    assert!(said.starts_with("fhs (as planned)\n  starts in 10 ms\n"), "{said}");
    for text in ["\ncontainer\n", "\nvm\n", "  without the GPU\n", "(USB)", "  latency: streams pass QEMU"] {
        assert!(said.contains(text), "{text}\n{said}");
    }
    let json = bench.hatchway(&["inspect", "--rungs", "--json", "acme.deb"]).ok().json();
    assert_eq!((json[2]["rung"].as_str(), json[0]["loses"].as_array().map(Vec::len)), (Some("vm"), Some(0)));
}

#[test]
fn an_engine_that_is_not_there_or_not_to_be_had_is_told_with_the_next_command() {
    let rungs = Rungs::new("");
    let line = "DOCKER_HOST=unix:///nowhere/docker.sock $HATCHWAY run -q acme --rung container --program /usr/bin/dash -- -c true";
    let refused = rungs.bench.script(line);
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("no container engine answers at `/nowhere/docker.sock`"), "{refused}");
    assert!(refused.stderr.contains("hint: "), "{refused}");
    assert!(
        rungs.bench.script("ls \"$HATCHWAY_DATA_DIR\"/run/units/acme/").stdout.is_empty(),
        "something is left"
    );
    removed_image(&rungs);
}

/// An image that somebody removes is loaded again.
pub(super) fn removed_image(rungs: &Rungs) {
    if rungs.names().contains(&"container") {
        drop(rungs.shell("container", "$RUN -c true").ok());
        let images = rungs.engine_says(&["images", "--quiet"]).unwrap_or_default();
        rungs.engine_says(&["rmi", "--force", &images]);
        drop(rungs.shell("container", "$RUN -c true").ok());
    }
}

#[test]
fn a_recipe_that_names_the_rung_runs_there() {
    let rungs = Rungs::new("rung = \"container\"");
    let Some(engine) = &rungs.engine else { return };
    let line = format!(
        "DOCKER_HOST={} $HATCHWAY run -q acme --program /usr/bin/dash -- -c 'ls -d /.dockerenv'",
        engine.host()
    );
    assert_eq!(rungs.bench.script(&line).ok().stdout, "/.dockerenv\n");
    let shell = format!("DOCKER_HOST={} $HATCHWAY shell -q acme -- -c 'ls -d /.dockerenv'", engine.host());
    assert_eq!(rungs.bench.script(&shell).ok().stdout, "/.dockerenv\n");
}

#[test]
fn a_shell_is_on_the_recipes_rung_also_in_a_guest() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "rung = \"vm\"");
    // By words behind `--`, and by what it reads. A guest's kernel is told that it is one.
    let look = "grep -c -e --guest /proc/cmdline; cat /proc/1/comm; exit 7";
    for line in [
        format!("$HATCHWAY shell -q acme -- -c '{look}'"),
        format!("echo '{look}' | $HATCHWAY shell -q acme"),
    ] {
        let outcome = rungs.bench.script(&line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(7), "1\nhatchway-shim\n"), "{outcome}");
    }
    let refused = rungs.bench.script("$HATCHWAY shell -q acme -- -c 'cat /nowhere'");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused}");
    assert!(refused.stderr.contains("/nowhere: No such file or directory"), "{refused}");
    rungs.nothing_is_left();
}

#[test]
fn an_engine_that_is_killed_and_comes_back_ends_the_tool_only_where_it_says_so() {
    for lasting in [true, false] {
        let mut rungs = Rungs::new("");
        let Some(engine) = rungs.engine.take() else { return };
        drop(engine);
        let folder = rungs.bench.path("other");
        let options: &[&str] = if lasting { &["--live-restore"] } else { &[] };
        rungs.engine = Some(Engine::start_alone(&folder, options));
        let inside = "echo ready; while ! test -e /var/tmp/end; do read line; echo heard $line; test \"$line\" && exit 6; sleep 0.1; done";
        let mut command = rungs
            .bench
            .shell(&format!("{}; exec $RUN -c '{inside}' > out 2> err", rungs.prefix("container")));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        until("it does not begin", || {
            fs::read_to_string(rungs.bench.path("work/out")).is_ok_and(|text| text.contains("ready"))
        });
        rungs.engine.as_mut().unwrap().kill_and_start();
        if lasting {
            // It did not notice, and is heard.
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"word\n").unwrap_or_else(|error| {
                panic!("{error}: {} {} {}", rungs.bench.read("err"), rungs.bench.read("out"), rungs.record())
            });
            assert_eq!(child.wait().unwrap().code(), Some(6), "{}", rungs.bench.read("err"));
            assert!(rungs.bench.read("out").contains("heard word"), "{}", rungs.bench.read("out"));
        } else {
            child.wait().unwrap();
            assert!(rungs.record()["reason"]["engine"].is_object(), "{}", rungs.record());
        }
        rungs.nothing_is_left();
    }
}
