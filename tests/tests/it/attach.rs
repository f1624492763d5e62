//! Terminals of units, and who comes to them.

use std::fs;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome, is_root};
use serde_json::Value;

use super::daemon::{Instrument, unit};
use super::rungs::{Rungs, until};

/// A person at a terminal, who has typed `hatchway …`; what they do there is written below it.
const PERSON: &str = r#"import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time
HATCHWAY = os.environ["HATCHWAY"]
class Person:
    def __init__(self, *words, uid=0):
        self.master, self.slave = pty.openpty()
        self.size(33, 101)
        self.before, self.seen = termios.tcgetattr(self.slave), b""
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(self.slave, fd)
            os.closerange(3, 100)
            if uid:
                os.setgroups([]); os.setgid(uid); os.setuid(uid)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(HATCHWAY, [HATCHWAY, *words])
    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    def types(self, text):
        os.write(self.master, text)
    def hears(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 4096)
    def until(self, text):
        end = time.time() + 60
        while text not in self.seen:
            assert time.time() < end, (text, self.seen[-2000:])
            self.hears(1)
        self.seen = self.seen[self.seen.index(text) + len(text):]
    def left(self):
        end = time.time() + 60
        while True:
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 4096)
                continue
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status), termios.tcgetattr(self.slave) == self.before
            assert time.time() < end, self.seen[-2000:]
LEAVES = b"\x1d\x1d\x1d"
"#;

/// A tool that answers what it reads.
const ANSWERS: &str = r#"trap "echo interrupted" INT; trap "echo now \$(stty size)" WINCH; test -t 0 && test -t 1 && test -t 2 && echo at $(tty) $(stty size) $TERM; while :; do read line || continue; case $line in size) stty size;; quit) exit 7;; *) echo got $line;; esac; done"#;

fn with_terminal(bench: &Bench, more: &str) {
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, format!("{text}\n[service]\nterminal = true\n{more}\n")).unwrap();
}

fn detach(rungs: &Rungs, rung: &str, script: &str) -> Outcome {
    let line = format!("$HATCHWAY run acme --rung {rung} --program /usr/bin/dash --detach -- -c '{script}'");
    rungs.shell(rung, &line)
}

/// What a person does, and what is printed of it.
fn does(bench: &Bench, what: &str) -> Outcome {
    bench.put("person.py", format!("{PERSON}{what}"));
    bench.script("exec python3 person.py")
}

fn says(bench: &Bench, word: &str) {
    until("it does not say so", || bench.hatchway(&["logs", "acme"]).stdout.contains(word));
}

fn status(bench: &Bench) -> Value {
    let all: Value = bench.hatchway(&["status", "acme", "--json"]).json();
    all.as_array().unwrap().last().unwrap().clone()
}

fn ended(bench: &Bench) -> Value {
    until("it does not end", || status(bench)["state"] == "ended");
    status(bench)
}

#[test]
fn a_unit_has_a_terminal_of_its_own_on_each_rung() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    with_terminal(bench, "");
    for rung in rungs.names() {
        let outcome = detach(&rungs, rung, ANSWERS).ok();
        assert!(outcome.stderr.contains("`hatchway attach acme` comes to it"), "{rung}\n{outcome}");
        says(bench, "at /dev/pts/0 24 80 xterm-256color");
        assert_eq!(status(bench)["terminal"], true);
        let outcome = does(
            bench,
            r#"p = Person("attach", "acme")
p.until(b"Ctrl-] three times")
p.until(b"at /dev/pts/0 24 80")
p.until(b"now 33 101\r\n")
p.types(b"word\r")
p.until(b"word\r\ngot word\r\n")
p.types(b"wrong\x7f\x7f\x7f\x7f\x7fright\r")
p.until(b"got right\r\n")
p.size(50, 90)
p.until(b"now 50 90\r\n")
p.types(b"size\r")
p.until(b"\r\n50 90\r\n")
p.types(b"\x03")
p.until(b"interrupted\r\n")
p.types(LEAVES)
print(p.left(), b"`acme` runs on" in p.seen)
p = Person("attach", "acme")
# What was said last comes first, and the size has not changed back.
p.until(b"interrupted")
p.types(b"quit\r")
print(p.left(), b"it ended by itself with code 7" in p.seen)
"#,
        )
        .ok();
        assert_eq!(outcome.stdout, "(0, True) True\n(7, True) True\n", "{rung}\n{outcome}");
        let seen = ended(bench);
        assert_eq!((&seen["record"]["code"], &seen["terminal"]), (&7.into(), &true.into()), "{rung}\n{seen}");
        let logs = bench.hatchway(&["logs", "acme", "--stream", "out"]).ok().stdout;
        for line in ["got word", "got right", "now 50 90", "50 90", "quit"] {
            assert!(logs.lines().any(|said| said == line), "{rung}: {line}\n{logs}");
        }
        assert!(bench.hatchway(&["logs", "acme", "--stream", "err"]).ok().stdout.is_empty(), "{rung}");
    }
}

#[test]
fn one_writes_others_watch_and_whatever_becomes_of_them_the_tool_goes_on() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    with_terminal(bench, "");
    drop(detach(&rungs, "fhs", ANSWERS).ok());
    says(bench, "at /dev/pts/0");
    let outcome = does(
        bench,
        r#"a = Person("attach", "acme")
a.types(b"one\r")
a.until(b"got one")
b = Person("attach", "acme")
print("refused", b.left(), b"process %d writes to the terminal of `acme`" % a.pid in b.seen, b"--take" in b.seen)
c = Person("attach", "acme", "--read-only")
c.until(b"got one")
c.types(b"nothing\r")
d = Person("attach", "acme", "--take")
a.until(b"[hatchway: uid %d" % os.geteuid())
a.until(b"process %d writes here now" % d.pid)
a.types(b"nothing\r")
d.types(b"two\r")
for p in (a, c, d):
    p.until(b"got two")
a.types(LEAVES)
c.size(20, 20)
print("left", a.left())
# Killed, and the next one writes.
os.kill(d.pid, signal.SIGKILL)
print("killed", d.left()[0])
end = time.time() + 60
# Who comes before the end of the one before is known is refused, and comes again.
while b"got three" not in c.seen:
    e = Person("attach", "acme")
    e.types(b"three\r")
    while b"got three" not in c.seen and not os.waitid(os.P_PID, e.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        assert time.time() < end, c.seen[-2000:]
        c.hears(0.1)
c.until(b"got three")
e.types(b"size\r")
e.until(b"33 101")
# A signal leaves, and the terminal is as it was.
f = Person("attach", "acme", "--read-only")
f.until(b"got three")
os.kill(f.pid, signal.SIGTERM)
print("signal", f.left())
f = Person("attach", "acme", "--read-only")
f.until(b"got three")
f.types(b"\x03")
print("ctrl-c", f.left())
e.types(b"quit\r")
print("ended", e.left(), c.left())
"#,
    )
    .ok();
    let expected = "refused (125, True) True True\nleft (0, True)\nkilled -9\nsignal (143, True)\nctrl-c (0, True)\nended (7, True) (7, True)\n";
    assert_eq!(outcome.stdout, expected, "{outcome}");
    let logs = bench.hatchway(&["logs", "acme"]).ok().stdout;
    assert!(!logs.contains("nothing") && !logs.contains("20 20"), "{logs}");
}

#[test]
fn who_does_not_read_holds_nobody_up_and_no_byte_of_the_log_is_lost() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    with_terminal(bench, "logs = { size = \"64M\" }");
    let script = "echo up; read x; seq 400000; echo all said; read y; exit 7";
    drop(detach(&rungs, "fhs", script).ok());
    says(bench, "up");
    let outcome = does(
        bench,
        r#"slow = subprocess.Popen([HATCHWAY, "attach", "acme", "--read-only"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
shown = slow.stdout.read(4)
p = Person("attach", "acme")
p.types(b"go\r")
def log():
    return subprocess.run([HATCHWAY, "logs", "acme", "-n", "1"], stdout=subprocess.PIPE).stdout
end = time.time() + 60
while log() != b"all said\n":
    assert time.time() < end, log()
recorder = subprocess.run(["pgrep", "-f", "hatchway-shim --unit " + os.environ["HATCHWAY_DATA_DIR"]], stdout=subprocess.PIPE)
resident = re.search(r"VmRSS:\s+(\d+) kB", open("/proc/%d/status" % int(recorder.stdout)).read())
print(int(resident.group(1)) < 3 << 10)
# Only now, and to the end of what it is told.
while b"]\r\n" not in shown[-200:]:
    shown += os.read(slow.stdout.fileno(), 65536)
p.types(b"quit\r")
print(p.left()[0])
shown += slow.stdout.read()
print(slow.wait())
notices = re.compile(rb"\r\n\[hatchway: (\d+) bytes are not shown here; `hatchway logs acme` has them\]\r\n")
lost = [int(count) for count in notices.findall(shown)]
print(sum(lost) > 0, len(notices.sub(b"", shown)) + sum(lost))
"#,
    )
    .ok();
    let seen = ended(bench);
    let logged = &seen["record"]["logged"];
    assert_eq!(logged["dropped"], 0, "{seen}");
    assert_eq!(outcome.stdout, format!("True\n7\n7\nTrue {}\n", logged["out"]), "{outcome}");
    let logs = bench.hatchway(&["logs", "acme"]).ok().stdout;
    let numbers: Vec<&str> = logs.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!((numbers.len(), numbers.last()), (400_000, Some(&"400000")));
}

#[test]
fn a_pipe_is_typed_and_what_comes_of_it_is_shown() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    // Nothing of it that runs, and then nothing to come to.
    let unknown = bench.hatchway(&["attach", "acme"]);
    assert!(unknown.code == Some(125) && unknown.stderr.contains("no run of `acme` is known"), "{unknown}");
    drop(detach(&rungs, "fhs", "sleep 600").ok());
    let none = bench.hatchway(&["attach", "acme"]);
    assert_eq!(none.code, Some(125), "{none}");
    for line in ["`acme` has no terminal", "`hatchway logs acme -f`", "`terminal = true` in [service]"] {
        assert!(none.stderr.contains(line), "{none}");
    }
    drop(bench.hatchway(&["kill", "-q", "acme"]).ok());
    let gone = bench.hatchway(&["attach", "acme"]);
    assert!(gone.code == Some(125) && gone.stderr.contains("`acme` does not run"), "{gone}");

    with_terminal(bench, "");
    let foreground = bench.script(
        "$HATCHWAY run -q acme --program /usr/bin/sleep -- 600 & run=$!; \
         until $HATCHWAY stats -q acme > /dev/null 2>&1; do sleep 0.1; done; \
         $HATCHWAY attach acme; echo $?; kill $run; wait $run",
    );
    assert!(foreground.stdout == "125\n" && foreground.stderr.contains("foreground"), "{foreground}");

    drop(detach(&rungs, "fhs", ANSWERS).ok());
    says(bench, "at /dev/pts/0");
    let one = bench.script("printf 'one\\n' | $HATCHWAY attach acme").ok();
    assert!(one.stdout == "one\r\ngot one\r\n" && one.stderr.contains("`acme` runs on"), "{one}");
    assert_eq!(status(bench)["state"], "running");
    // Keys that leave are for people.
    // It stays open until the tool has ended: who reads its end leaves, and may do so before.
    let stays = "for i in $(seq 600); do $HATCHWAY status -q acme > /dev/null || break; sleep 0.1; done";
    let two = bench
        .script(&format!("{{ printf '\\035\\035\\035two\\nquit\\n'; {stays}; }} | $HATCHWAY attach acme"));
    assert_eq!(two.code, Some(7), "{two}");
    assert!(two.stdout.contains("two\r\n") && two.stderr.contains("ended by itself with code 7"), "{two}");
    // What a tool says last at its terminal is there, and why it has not started is told.
    drop(detach(&rungs, "fhs", "seq 20000; echo last words; exit 3"));
    let seen = ended(bench);
    let logs = bench.hatchway(&["logs", "acme", "-n", "2"]).ok().stdout;
    assert_eq!((logs.as_str(), &seen["record"]["code"]), ("20000\nlast words\n", &3.into()));
    let wrong = bench.hatchway(&["run", "-q", "acme", "--detach", "--share", "/nowhere"]);
    assert_eq!(wrong.code, Some(125), "{wrong}");
    assert!(ended(bench)["why"].as_str().unwrap().starts_with("it was not started: error: "));
}

#[test]
fn a_recipe_that_contradicts_itself_is_refused() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    with_terminal(&rungs.bench, "logs = { full = \"block\" }");
    let wrong = rungs.bench.hatchway(&["recipe", "check", "recipes/acme/recipe.toml"]);
    assert!(wrong.code != Some(0) && wrong.stderr.contains("waits for nobody"), "{wrong}");
}

#[test]
fn whoever_keeps_it_is_killed_and_who_is_attached_is_told() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    with_terminal(bench, "");
    drop(detach(&rungs, "fhs", ANSWERS).ok());
    says(bench, "at /dev/pts/0");
    let outcome = does(
        bench,
        r#"p = Person("attach", "acme")
p.until(b"at /dev/pts/0")
recorder = "hatchway-shim --unit " + os.environ["HATCHWAY_DATA_DIR"]
found = subprocess.run(["pgrep", "-f", recorder], stdout=subprocess.PIPE)
os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
print(p.left())
"#,
    )
    .ok();
    // By the signal that comes first: its terminal is gone, and what it is told to end by.
    assert!(["(129, True)\n", "(143, True)\n"].contains(&outcome.stdout.as_str()), "{outcome}");
    until("the tool stays", || matches!(status(bench)["state"].as_str(), Some("lost" | "ended")));
}

/// A unit with a terminal, under a daemon.
fn instrument(more: &str) -> Instrument {
    let mut instrument = Instrument::new(&(unit("console", ANSWERS, "") + more));
    let recipe = instrument.bench().path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, format!("{text}terminal = true\n")).unwrap();
    instrument.begin();
    instrument.reaches("console", "ready");
    until("it does not say so", || {
        instrument.bench().hatchway(&["logs", "console"]).stdout.contains("at /dev/pts/0")
    });
    instrument
}

#[test]
fn a_daemon_that_is_killed_takes_nobody_from_a_terminal() {
    let mut instrument = instrument("");
    let script = format!(
        "{PERSON}{}",
        r#"p = Person("attach", "console")
p.types(b"one\r")
p.until(b"got one")
open("attached", "w").close()
end = time.time() + 60
while not os.path.exists("killed"):
    assert time.time() < end
    time.sleep(0.02)
p.types(b"two\r")
p.until(b"got two")
p.types(LEAVES)
print(p.left())
"#
    );
    instrument.bench().put("person.py", script);
    let mut person = instrument.bench().shell("exec python3 person.py > person.out 2>&1").spawn().unwrap();
    let attached = instrument.bench().path("work/attached");
    until("nobody attaches", || attached.exists());
    instrument.kill();
    instrument.bench().put("killed", "");
    assert!(person.wait().unwrap().success(), "{}", instrument.bench().read("person.out"));
    assert_eq!(instrument.bench().read("person.out"), "(0, True)\n");
}

/// A request to attach by hand, as this user: the status, and what comes after the head until it has this in it.
fn upgraded(socket: &Path, uid: u32, (path, send, wanted): (&str, &str, &str)) -> String {
    let script = format!(
        "import os, socket, sys\nuid = {uid}\nif uid:\n    os.setgroups([]); os.setgid(uid); os.setuid(uid)\n\
         s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])\n\
         s.sendall(b'GET {path} HTTP/1.1\\r\\nhost: x\\r\\nconnection: upgrade\\r\\nupgrade: hatchway-attach\\r\\n\\r\\n')\n\
         seen = b''\nwhile b'\\r\\n\\r\\n' not in seen:\n    seen += s.recv(4096)\n\
         status = seen.split()[1].decode()\n\
         if status == '101':\n    s.sendall(b{send:?})\n    while b{wanted:?} not in seen:\n        piece = s.recv(4096)\n        assert piece, seen\n        seen += piece\n\
         print(status)"
    );
    let output = Command::new("python3").args(["-c", &script]).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn over_the_api_the_role_decides_who_watches_and_who_writes() {
    assert!(is_root(), "roles of others are asked as root");
    let roles =
        "[roles]\nviewer = [\"user:bin\"]\noperator = [\"user:nobody\"]\nservice = [\"user:daemon\"]\n";
    let mut instrument = instrument(roles);
    let socket = instrument.bench().path("data/run/api.sock");
    let (daemon, bin, nobody) = (1, 2, 65_534);
    let attach = "/v1/units/console/attach";
    let writes = format!("{attach}?write=true&rows=40&cols=70");
    let watch = (attach, "", "at /dev/pts/0");
    assert_eq!(upgraded(&socket, nobody, watch), "101");
    let head = format!("{attach}?write=true");
    let (status, problem) = instrument.ask("HEAD", &head, "");
    assert_eq!(status, 400, "only a GET is upgraded: {problem}");
    for (uid, path, status) in [
        (bin, attach, "403"),
        (12_345, attach, "403"),
        (nobody, writes.as_str(), "403"),
        (daemon, "/v1/units/none/attach", "404"),
        (daemon, "/v1/units/console/attach?write=maybe", "400"),
        (daemon, "/v1/units/console/attach?take=true", "400"),
    ] {
        assert_eq!(upgraded(&socket, uid, (path, "", "")), status, "{uid} {path}");
    }
    let (status, problem) = instrument.ask("GET", attach, "");
    assert_eq!((status, problem["code"].as_str()), (400, Some("bad-request")), "{problem}");
    // Who has gone is no longer there to be taken over; their size stays.
    assert_eq!(upgraded(&socket, daemon, (&writes, "one\r", "got one")), "101");
    let asked: Vec<Value> =
        instrument.events(&["console"]).into_iter().filter(|event| event["kind"] == "asked").collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((&asked[0]["text"], &asked[0]["by"]), (&"attach".into(), &"uid 1 (daemon)".into()));
    // The command line of somebody who has no way to the folder.
    let outcome = does(
        instrument.bench(),
        r#"p = Person("attach", "console", uid=1)
p.until(b"now 33 101\r\n")
p.types(b"two\r")
p.until(b"got two")
p.size(20, 50)
p.until(b"now 20 50")
q = Person("attach", "console", uid=1)
print(q.left()[0], b"uid 1 (daemon) writes to the terminal" in q.seen)
w = Person("attach", "console", "--read-only", uid=65534)
w.until(b"got two")
n = Person("attach", "console", uid=65534)
print(n.left()[0], b"this takes the role `service`" in n.seen)
t = Person("attach", "console", "--take", uid=1)
p.until(b"writes here now")
p.types(LEAVES)
print(p.left())
t.types(b"quit\r")
print(t.left()[0] in (7, 125), w.left()[0] in (7, 125))
"#,
    )
    .ok();
    assert_eq!(outcome.stdout, "125 True\n125 True\n(0, True)\nTrue True\n", "{outcome}");
    instrument.kill();
}
