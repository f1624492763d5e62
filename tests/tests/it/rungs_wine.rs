//! The suite of `rungs`, asked of a Windows program under Wine: the same rows by the same names. Where a Windows program differs,
//! [`DIFFERS`] says how and why.
//!
//! A tree with Wine takes most of a minute, and its tool runs once at a time: so one tree serves all rows, one after the other.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::package::sha256;
use hatchway_tests::{tar, windows};
use serde_json::Value;

use super::rungs::until;
use super::wine::ASKS;

/// What a Windows program gives otherwise than a tool of Linux's does in `rungs`, and why that is so.
const DIFFERS: &[(&str, &str, &str)] = &[
    ("exit 256", "1", "the low byte, as everywhere; but Wine lets no failure become 0"),
    (
        "reason of an end by force",
        "{\"exit\":{\"code\":137}}",
        "`TerminateProcess` gives a code, and there is no signal",
    ),
    ("access violation", "5", "the low byte of 0xC0000005: Wine ends the program itself, and no signal does"),
    ("reason of an access violation", "{\"exit\":{\"code\":5}}", "as above"),
    ("folder", "Z:\\home\\tool", "a path of Linux's is below drive Z:"),
    ("a temporary folder of the system's", "kept", "`%TEMP%` lies on drive C:, which is the tool's state"),
    ("USR1", "passed over", "Windows has no such signal, and Wine has it for its own threads"),
    (
        "TERM to a tool that has a handler",
        "143",
        "Windows has no TERM: Wine leaves it to the kernel, which ends the tool",
    ),
    ("TERM to a deaf tool", "143, forced false", "as above: no Windows program can be deaf to it"),
];

/// A Windows program that does as it is told.
const TOOL: &str = r#"
#include <winsock2.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
static int begin(const char *verb) {
    char own[MAX_PATH], line[MAX_PATH + 32];
    STARTUPINFOA how = {sizeof how};
    PROCESS_INFORMATION it;
    GetModuleFileNameA(0, own, sizeof own);
    snprintf(line, sizeof line, "\"%s\" %s", own, verb);
    return CreateProcessA(0, line, 0, 0, FALSE, 0, 0, 0, &how, &it);
}
static int say(const char *text) { return puts(text) < 0 || fflush(stdout); }
static SOCKET of(const char *port, struct sockaddr_in *at) {
    WSADATA data;
    WSAStartup(0x202, &data);
    at->sin_family = AF_INET;
    at->sin_port = htons(atoi(port));
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return socket(AF_INET, SOCK_STREAM, 0);
}
static int asks(const char *port, const char *word) {
    struct sockaddr_in at = {0};
    char answer[99];
    SOCKET s = of(port, &at);
    if (connect(s, (void *)&at, sizeof at)) return say("refused");
    send(s, word, strlen(word), 0);
    int got = recv(s, answer, sizeof answer - 1, 0);
    answer[got < 0 ? 0 : got] = 0;
    return say(answer);
}
static int itself(const char *port) {
    struct sockaddr_in at = {0};
    SOCKET s = of(port, &at);
    if (bind(s, (void *)&at, sizeof at) || listen(s, 1)) return say("refused");
    return say(connect(of(port, &at), (void *)&at, sizeof at) ? "refused" : "connected");
}
static BOOL WINAPI heard(DWORD event) {
    if (event != CTRL_C_EVENT) return FALSE;
    return !say("interrupted");
}
static int console(void) {
    char word[99];
    CONSOLE_SCREEN_BUFFER_INFO is;
    INPUT_RECORD first;
    DWORD waiting;
    if (!GetConsoleScreenBufferInfo(GetStdHandle(STD_OUTPUT_HANDLE), &is)) return 90;
    SetConsoleCtrlHandler(heard, TRUE);
    printf("size_%d_%d\n", is.srWindow.Bottom - is.srWindow.Top + 1, is.srWindow.Right - is.srWindow.Left + 1);
    // Wine takes the terminal over when the console is first looked at: an Enter before that is a line feed.
    if (!PeekConsoleInputA(GetStdHandle(STD_INPUT_HANDLE), &first, 1, &waiting)) return 91;
    say("ready");
    do { *word = 0; clearerr(stdin); fgets(word, sizeof word, stdin); } while (*word < ' ');
    printf("got_%s", word);
    say("");
    fgets(word, sizeof word, stdin);
    return 5;
}
static int memory(void) {
    size_t block = 16 << 20;
    for (int got = 0; got < 256; got++) {
        char *at = VirtualAlloc(0, block, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        if (!at) return say("refused");
        memset(at, 1, block);
    }
    return say("4 GiB");
}
static int copy(void) {
    static char block[65536];
    int size;
    _setmode(0, _O_BINARY); _setmode(1, _O_BINARY); _setmode(2, _O_BINARY);
    while ((size = read(0, block, sizeof block)) > 0) if (write(1, block, size) != size) return 93;
    return write(2, "to the other\n", 13) != 13;
}
static int add(const char *path) {
    FILE *file = fopen(path, "ab");
    if (!file) return printf("no %s\n", path) < 0;
    fputs("x", file);
    fseek(file, 0, SEEK_END);
    printf("%ld\n", ftell(file));
    return fclose(file) != 0;
}
static int show(const char *path) {
    char text[99];
    FILE *file = fopen(path, "r");
    if (!file) return printf("no %s\n", path), 96;
    while (fgets(text, sizeof text, file)) fputs(text, stdout);
    return fclose(file) != 0;
}
/* Each wait is one word with Wine's server. */
static int ticks(void) {
    HANDLE never = CreateEventA(0, TRUE, FALSE, 0);
    say("ready");
    while (WaitForSingleObject(never, 100) == WAIT_TIMEOUT) if (say("tick")) return 97;
    return 98;
}
static int environment(int count, char **words) {
    char folder[MAX_PATH];
    for (int i = 2; i < count; i++) printf("%s=%s\n", words[i], getenv(words[i]) ? getenv(words[i]) : "");
    return GetCurrentDirectoryA(sizeof folder, folder) ? say(folder) : 95;
}
int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "", *word = count > 2 ? words[2] : "";
    if (!strcmp(verb, "exit")) return atoi(word);
    if (!strcmp(verb, "crash")) *(volatile int *)0 = 1;
    if (!strcmp(verb, "terminate")) TerminateProcess(GetCurrentProcess(), atoi(word));
    if (!strcmp(verb, "leave")) return begin("ticks") ? atoi(word) : 92;
    if (!strcmp(verb, "copy")) return copy();
    if (!strcmp(verb, "more")) { while (puts("more") >= 0); return 94; }
    if (!strcmp(verb, "ticks")) return ticks();
    if (!strcmp(verb, "env")) return environment(count, words);
    if (!strcmp(verb, "add")) { for (int i = 2; i < count; i++) if (add(words[i])) return 1; return 0; }
    if (!strcmp(verb, "show")) return show(word);
    if (!strcmp(verb, "ask")) return asks(word, words[3]);
    if (!strcmp(verb, "itself")) return itself("1725");
    if (!strcmp(verb, "console")) return console();
    if (!strcmp(verb, "memory")) return memory();
    if (!strcmp(verb, "tasks")) {
        int begun = 0;
        while (begun < atoi(word) && begin("ticks")) begun++;
        return say(begun == atoi(word) ? "all" : "refused");
    }
    for (int i = 1; i < count; i++) printf("<%s>", words[i]);
    return say("");
}
"#;

const RECIPE: &str = r#"
[environment]
base = "debian:bookworm"
[[file]]
name = "licence"
at = "/etc/acme/licence.dat"
[run]
runner = "wine"
program = "/opt/acme/tool.exe"
env = { ACME = "a b", ROWS = "PLACE" }
"#;

struct Rows {
    bench: Bench,
    recipe: String,
    differed: RefCell<BTreeSet<&'static str>>,
}

impl Rows {
    fn new() -> Self {
        let bench = Bench::new().exact().with_hosts_archive();
        // What another machine would find out: here a guest under KVM may not be heard.
        fs::write(bench.path("config/hatchway/hatchway.toml"), "vm-accel = \"tcg\"\n").unwrap();
        let programs = tar::zip(&[
            ("tool.exe", &windows::program(TOOL, &["-lws2_32"])),
            ("asks.exe", &windows::program(ASKS, &[])),
            ("text.exe", b"no program\n"),
        ]);
        let folder = bench.path("work/recipes/acme");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("acme.zip"), &programs).unwrap();
        let place = bench.path("").display().to_string();
        let artifact = format!(
            "schema = 1\n[package]\nname = \"acme\"\n[[artifact]]\nfile = \"acme.zip\"\nsha256 = \"{}\"\nunpack = \"/opt/acme\"\n",
            sha256(&programs)
        );
        let recipe = artifact + &RECIPE.replace("PLACE", &place);
        bench.put("recipes/acme/recipe.toml", &recipe);
        drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
        drop(bench.hatchway(&["build", "-q", "acme"]).ok());
        Self { bench, recipe, differed: RefCell::default() }
    }

    /// The answer of `rungs`, unless [`DIFFERS`] has another.
    fn is(&self, question: &'static str, as_in_rungs: &str, answer: &str) {
        let other = DIFFERS.iter().find(|(differs, ..)| *differs == question);
        let expected = other.map_or(as_in_rungs, |(_, expected, _)| expected);
        assert_eq!(answer, expected, "{question}");
        assert!(other.is_none() || expected != as_in_rungs, "{question}: there is no difference");
        self.differed.borrow_mut().insert(question);
    }

    fn run(&self, words: &[&str]) -> Outcome {
        self.bench.hatchway(&[&["run", "-q", "acme", "--"], words].concat())
    }

    /// A line of the test's shell in which `$RUN` runs the tool.
    fn shell(&self, line: &str) -> Outcome {
        self.bench.script(&format!("RUN=\"$HATCHWAY run -q acme --\"\n{line}"))
    }

    /// The recipe with this in its `[run]`: nothing that is in the tree.
    fn with(&self, more: &str) {
        self.bench.put("recipes/acme/recipe.toml", format!("{}{more}\n", self.recipe));
    }

    fn newest(&self) -> PathBuf {
        let runs =
            fs::read_dir(self.bench.path("data/run/units/acme")).unwrap().map(|run| run.unwrap().path());
        // Named after the moment of its start.
        runs.max().unwrap()
    }

    /// The record of the last run.
    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.newest().join("exit.json")).unwrap()).unwrap()
    }

    /// The bench's processes: the program itself, the shim, Wine's and the tool, which have something of it in their environment.
    fn processes(&self) -> Vec<(u32, String)> {
        let mark = self.bench.path("").display().to_string();
        let of = |entry: fs::DirEntry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let own = fs::read(entry.path().join("environ")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
            String::from_utf8_lossy(&own).contains(&mark).then_some((pid, name))
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
    }

    /// Nothing of a run is left but its record.
    fn nothing_is_left(&self) {
        until("processes are left", || self.processes().is_empty());
        let left = self
            .bench
            .script("ls \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/ | grep -v -e : -e '^$' | sort -u")
            .stdout;
        assert_eq!(left, "exit.json\n", "left in the folders of runs");
    }
}

/// One tree, all rows.
#[test]
fn a_windows_program_is_asked_the_same() {
    let rows = Rows::new();
    exit_codes_are_the_tools_and_each_has_its_reason(&rows);
    streams_are_the_callers_own(&rows);
    a_terminal_is_the_tools_and_the_callers_is_as_it_was(&rows);
    a_tool_that_is_stopped_goes_on_when_the_caller_is_told(&rows);
    environment_and_folder_are_the_same(&rows);
    state_is_kept_and_the_rest_is_thrown_away(&rows);
    files_and_shares_are_shown(&rows);
    networks_are_what_the_recipe_says(&rows);
    channels_are_carried_both_ways(&rows);
    a_tool_that_takes_too_much_is_told_apart(&rows);
    signals_arrive_and_the_end_comes_within_the_grace_time(&rows);
    nothing_outlives_a_killed_caller(&rows);
    what_helps_the_tool_can_be_killed(&rows);
    let differed = rows.differed.borrow();
    let unasked: Vec<_> = DIFFERS.iter().filter(|(question, ..)| !differed.contains(question)).collect();
    assert!(unasked.is_empty(), "{unasked:?}");
    other_rungs(&rows);
}

fn exit_codes_are_the_tools_and_each_has_its_reason(rows: &Rows) {
    let reason = || rows.record()["reason"].to_string();
    let code = |outcome: &Outcome| outcome.code.unwrap_or(-1).to_string();
    for (number, expected) in [("0", "0"), ("7", "7"), ("255", "255")] {
        assert_eq!(code(&rows.run(&["exit", number])), expected);
        assert_eq!(reason(), format!("{{\"exit\":{{\"code\":{expected}}}}}"));
    }
    rows.is("exit 256", "0", &code(&rows.run(&["exit", "256"])));
    rows.is("end by force", "137", &code(&rows.run(&["terminate", "137"])));
    rows.is("reason of an end by force", r#"{"signal":{"core":false,"signal":9}}"#, &reason());
    rows.is("access violation", "139", &code(&rows.run(&["crash"])));
    rows.is("reason of an access violation", r#"{"signal":{"core":false,"signal":11}}"#, &reason());
    // With a process of its own that stays.
    rows.is("a process stays", "3", &code(&rows.run(&["leave", "3"])));
    rows.nothing_is_left();
    let none = "/opt/acme/none.exe";
    for (program, expected) in [("/usr/bin/none", 127), (none, 127), ("/opt/acme/text.exe", 126)] {
        let outcome = rows.bench.hatchway(&["run", "-q", "acme", "--program", program]);
        assert_eq!(outcome.code, Some(expected), "{program}\n{outcome}");
        assert!(outcome.stderr.contains("error: `"), "{outcome}");
    }
}

fn streams_are_the_callers_own(rows: &Rows) {
    let line =
        "head -c 3000000 /dev/urandom > big; $RUN copy < big 2> other | cmp - big && grep -v ^warning: other";
    assert_eq!(rows.shell(line).ok().stdout, "to the other\n");
    let outcome = rows.shell("printf 'a\\nb' | $RUN copy 2> /dev/null | cat").ok();
    assert_eq!(outcome.stdout, "a\nb");
    let outcome = rows.shell("$RUN more | head -n 1; echo end").ok();
    assert_eq!(outcome.stdout, "more\r\nend\n", "{outcome}");
    let outcome = rows.shell("echo one > file; $RUN two >> file; cat file").ok();
    assert_eq!(outcome.stdout, "one\n<two>\r\n", "{outcome}");
}

fn a_terminal_is_the_tools_and_the_callers_is_as_it_was(rows: &Rows) {
    let script = r#"
import os, pty, re, select, termios, time, fcntl, struct
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.execv(os.environ["HATCHWAY"], ["hatchway", "run", "-q", "acme", "--", "console"])
seen = b""
def text():
    return re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]", b"", seen).replace(b"\r", b"").decode()
def until(word):
    global seen
    end = time.time() + 60
    while word not in text():
        assert time.time() < end and select.select([master], [], [], 60)[0], text()
        seen += os.read(master, 4096)
until("ready")
os.write(master, b"\x03")
until("interrupted")
os.write(master, b"word\r")
until("got_word")
os.write(master, b"\r")
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), termios.tcgetattr(slave) == before)
# A console is drawn: what is in one line here may be told apart by escapes alone.
print([word for word in ("size_33_101", "interrupted", "got_word") if word in text()])
"#;
    rows.bench.put("terminal.py", script);
    let outcome = rows.shell("TERM=xterm python3 terminal.py").ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "5 True", "{outcome}");
    assert_eq!(lines[1], "['size_33_101', 'interrupted', 'got_word']", "{outcome}");
}

/// A run in the background; it has begun, and its output is in `out`.
fn started(rows: &Rows, words: &str) -> Child {
    drop(fs::remove_file(rows.bench.path("work/out")));
    let line = format!("exec $HATCHWAY run -q acme -- {words} > out 2> err < /dev/null");
    let child = rows.bench.shell(&line).stdin(Stdio::null()).spawn().unwrap();
    until("it does not begin", || {
        fs::read_to_string(rows.bench.path("work/out")).is_ok_and(|text| text.contains("tick"))
    });
    child
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// The process of this name in the sandbox of the run.
fn process(rows: &Rows, named: &str) -> u32 {
    let all = rows.processes();
    let found = all.iter().find(|(_, name)| name == named);
    found.unwrap_or_else(|| panic!("no `{named}` among {all:?}")).0
}

fn said(rows: &Rows) -> usize {
    rows.bench.read("out").len()
}

fn a_tool_that_is_stopped_goes_on_when_the_caller_is_told(rows: &Rows) {
    let mut child = started(rows, "ticks");
    signal("-STOP", process(rows, "tool.exe"));
    // What is on its way arrives.
    std::thread::sleep(Duration::from_millis(500));
    let before = said(rows);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(said(rows), before, "it is not stopped");
    signal("-CONT", child.id());
    until("it does not go on", || said(rows) > before);
    signal("-TERM", child.id());
    child.wait().unwrap();
    rows.nothing_is_left();
}

fn environment_and_folder_are_the_same(rows: &Rows) {
    let outcome = rows.shell("HATCHWAY_SECRET=1 TERM=vt100 $RUN env ACME TERM HATCHWAY_SECRET USERNAME").ok();
    let (variables, folder) = outcome.stdout.trim_end().rsplit_once("\r\n").unwrap();
    assert_eq!(variables, "ACME=a b\r\nTERM=vt100\r\nHATCHWAY_SECRET=\r\nUSERNAME=tool");
    rows.is("folder", "/home/tool", folder);
}

fn state_is_kept_and_the_rest_is_thrown_away(rows: &Rows) {
    let add = |path: &str| rows.run(&["add", path]).ok().stdout.trim_end().to_owned();
    assert_eq!((add("C:\\kept"), add("C:\\kept")), ("1".into(), "2".into()));
    let places = ["Z:\\tmp\\x", "Z:\\var\\log\\x", "Z:\\home\\tool\\x", "Z:\\dev\\shm\\x"];
    for _ in 0..2 {
        let outcome = rows.run(&[&["add"], &places[..]].concat()).ok();
        assert_eq!(outcome.stdout, "1\r\n".repeat(places.len()), "{outcome}");
    }
    let temporary = "C:\\windows\\temp\\x";
    let (first, second) = (add(temporary), add(temporary));
    rows.is(
        "a temporary folder of the system's",
        "thrown away",
        if first == second { "thrown away" } else { "kept" },
    );
    assert_eq!(add("Z:\\usr\\bin\\x"), "no Z:\\usr\\bin\\x");
}

fn files_and_shares_are_shown(rows: &Rows) {
    let line = "mkdir -p both reads; chmod 777 both reads; echo key > key; echo there > reads/file; \
                run=\"$HATCHWAY run -q acme --bind licence=key --share both --share reads:ro --\"; \
                work=$(echo Z:$PWD | tr / '\\\\'); $run show 'Z:\\etc\\acme\\licence.dat'; $run show \"$work\\\\reads\\\\file\"; \
                $run add \"$work\\\\both\\\\file\" \"$work\\\\reads\\\\x\" | sed 's/no .*reads.*/refused/'; cat both/file";
    assert_eq!(rows.shell(line).ok().stdout, "key\r\nthere\r\n1\r\nrefused\nx");
}

fn networks_are_what_the_recipe_says(rows: &Rows) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // Answers with what it heard and a word more.
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&[&heard[..], b" back"].concat()).unwrap();
    });
    for (network, own, hosts) in [
        ("none", "refused", "refused"),
        ("loopback", "connected", "refused"),
        ("host", "connected", "word back"),
    ] {
        rows.with(&format!("network = \"{network}\""));
        assert_eq!(rows.run(&["itself"]).ok().stdout.trim_end(), own, "{network}");
        assert_eq!(rows.run(&["ask", &port, "word"]).ok().stdout.trim_end(), hosts, "{network}");
    }
    answers.join().unwrap();
    rows.with("");
}

/// On the fhs rung and in a guest: a serial line is a COM port, and a port is a port.
fn channels_are_carried_both_ways(rows: &Rows) {
    rows.with(
        "[[channel]]\nname = \"valve\"\nkind = \"serial\"\n[[channel]]\nname = \"console\"\nkind = \"tcp\"\nat = \"127.0.0.1:5025\"",
    );
    // Says how many bytes a command has, and a byte that is no text.
    let server = |answer: fn(&[u8]) -> Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut heard = Vec::new();
                let mut byte = [0];
                while !matches!(heard.last(), Some(b'\r' | b'd')) && stream.read_exact(&mut byte).is_ok() {
                    heard.extend(byte);
                }
                stream.write_all(&answer(&heard)).ok();
                // Hung up by the other side.
                stream.read_exact(&mut byte).ok();
            }
        });
        at
    };
    let valve =
        server(|heard| format!("{}", heard.len()).into_bytes().into_iter().chain(*b"f\xff\r").collect());
    let console = server(|heard| [heard, b" back"].concat());
    let bind = format!("--bind valve=tcp:{valve} --bind console=tcp:{console}");
    for rung in ["fhs", "vm"] {
        let run = format!("\"$HATCHWAY\" run -q acme --rung {rung} {bind}");
        let outcome = rows.bench.script(&format!("{run} --program /opt/acme/asks.exe")).ok();
        assert_eq!(outcome.stdout, "36 66 ff 0d \r\n", "{rung}\n{outcome}");
        let outcome = rows.bench.script(&format!("{run} -- ask 5025 word")).ok();
        assert_eq!(outcome.stdout.trim_end(), "word back", "{rung}\n{outcome}");
    }
    rows.with("");
}

/// Where there is a control group of version 2 the unit as a whole is limited; else each process, or the unit's user.
fn a_tool_that_takes_too_much_is_told_apart(rows: &Rows) {
    rows.with("limits = { memory = \"1G\", tasks = 80 }");
    let outcome = rows.run(&["memory"]);
    let record = rows.record();
    if record["notes"].to_string().contains("no control group of version 2") {
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "refused\r\n"), "{outcome}");
    } else {
        assert_eq!(outcome.code, Some(137), "{outcome}");
        assert!(record["reason"]["oom"]["kills"].as_u64() >= Some(1), "{record}");
    }
    let outcome = rows.run(&["tasks", "60"]);
    // Those that began say so, too.
    assert!(outcome.stdout.contains("refused\r\n"), "{outcome}");
    rows.with("");
    rows.nothing_is_left();
}

fn signals_arrive_and_the_end_comes_within_the_grace_time(rows: &Rows) {
    let mut child = started(rows, "ticks");
    signal("-USR1", child.id());
    let before = said(rows);
    until("it does not go on", || said(rows) > before + 20);
    rows.is("USR1", "heard", "passed over");
    signal("-TERM", child.id());
    let code = child.wait().unwrap().code().unwrap_or(-1);
    rows.nothing_is_left();
    rows.is("TERM to a tool that has a handler", "9", &code.to_string());
    let record = rows.record();
    let forced = format!("{code}, forced {}", record["reason"]["requested"]["forced"]);
    rows.is("TERM to a deaf tool", "137, forced true", &forced);
}

fn nothing_outlives_a_killed_caller(rows: &Rows) {
    let mut child = started(rows, "ticks");
    signal("-KILL", child.id());
    child.wait().unwrap();
    until("the tool outlives its caller", || rows.processes().is_empty());
    // The next run removes what that one could not.
    assert_eq!(rows.run(&["exit", "0"]).code, Some(0));
    rows.nothing_is_left();
}

/// Each of the processes that stand between the caller and the tool, killed. The tool ends in all cases but the last, in which
/// nobody needs what was killed, and the next run begins as if nothing had been.
fn what_helps_the_tool_can_be_killed(rows: &Rows) {
    for (helper, code) in [("hatchway-shim", 125), ("wineserver64", 137), ("tool.exe", 137)] {
        let mut child = started(rows, "ticks");
        let pid = if helper == "hatchway-shim" { inner(&child) } else { process(rows, helper) };
        signal("-KILL", pid);
        let ended = child.wait().unwrap().code();
        let record = rows.record();
        assert_eq!(ended, Some(code), "{helper}: {record}\n{}", rows.bench.read("err"));
        let told = record["notes"].to_string().contains("`wineserver` was ended by SIGKILL");
        assert_eq!(told, helper == "wineserver64", "{record}");
        rows.nothing_is_left();
    }
    let mut child = started(rows, "ticks");
    // Nothing says that it is there before the tool is.
    until("it has no services", || rows.processes().iter().any(|(_, name)| name == "services.exe"));
    signal("-KILL", process(rows, "services.exe"));
    let before = said(rows);
    until("it does not go on", || said(rows) > before + 20);
    signal("-TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    rows.nothing_is_left();
    assert_eq!(rows.run(&["add", "C:\\kept"]).ok().stdout, "3\r\n");
}

/// The shim inside the sandbox, which is the child of the one outside.
fn inner(child: &Child) -> u32 {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

/// The same prefix in a guest and back. Not in a container: this engine's storage copies a tree with Wine once for each layer.
fn other_rungs(rows: &Rows) {
    let run = "RUN=\"$HATCHWAY run -q acme --rung vm --\"";
    let outcome = rows.bench.script(&format!("{run}; $RUN exit 7"));
    assert_eq!(outcome.code, Some(7), "{outcome}");
    let outcome = rows.bench.script(&format!("{run}; $RUN add 'C:\\kept'")).ok();
    assert_eq!(outcome.stdout, "4\r\n", "{outcome}");
    assert_eq!(rows.run(&["add", "C:\\kept"]).ok().stdout, "5\r\n");
    rows.nothing_is_left();
}
