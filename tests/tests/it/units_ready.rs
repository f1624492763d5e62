//! When a unit counts as ready: each way to say so, units that are late, and tools that say it in bad faith.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use serde_json::Value;

use super::rungs::{Rungs, until};

/// A vendor's program that says in several ways that it is ready, well or ill.
pub(super) const HERALD: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int serve(int fd, struct sockaddr *at, socklen_t length) {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, at, length) || listen(fd, 5)) { perror("listen"); return 5; }
    for (;;) close(accept(fd, 0, 0));
}

static struct sockaddr_un named(const char *path) {
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    strncpy(at.sun_path, path ? path : "", sizeof at.sun_path - 1);
    return at;
}

int main(int count, char **words) {
    const char *verb = words[1];
    if (!strcmp(verb, "tcp")) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((unsigned short) atoi(words[2])) };
        inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
        return serve(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *) &at, sizeof at);
    }
    if (!strcmp(verb, "tcp6")) {
        struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons((unsigned short) atoi(words[2])) };
        inet_pton(AF_INET6, "::1", &at.sin6_addr);
        return serve(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *) &at, sizeof at);
    }
    if (!strcmp(verb, "unix")) {
        struct sockaddr_un at = named(words[2]);
        return serve(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *) &at, sizeof at);
    }
    struct sockaddr_un at = named(getenv("NOTIFY_SOCKET"));
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (connect(fd, (struct sockaddr *) &at, sizeof at)) { perror("connect"); return 6; }
    if (!strcmp(verb, "notify")) {
        for (int i = 2; i < count; i++) if (send(fd, words[i], strlen(words[i]), 0) < 0) { perror("send"); return 7; }
        return 0;
    }
    /* As sd_notify_barrier(3): the other side has read everything once it has closed the descriptor. */
    if (!strcmp(verb, "barrier")) {
        int ends[2];
        char text[] = "BARRIER=1", space[CMSG_SPACE(sizeof(int))], byte;
        if (pipe(ends)) return 8;
        struct iovec part = { text, strlen(text) };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET; head->cmsg_type = SCM_RIGHTS; head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &ends[1], sizeof(int));
        if (sendmsg(fd, &message, 0) < 0) { perror("sendmsg"); return 9; }
        close(ends[1]);
        return read(ends[0], &byte, 1) == 0 ? (puts("passed"), 0) : 10;
    }
    /* Everything that no program should say, without a pause. */
    static char noise[100000];
    for (unsigned long turn = 0;; turn++) {
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char) (turn * 31 + i * 7 + i / 3);
        size_t length = turn % 3 == 0 ? sizeof noise : turn % 3 == 1 ? turn % 4000 : 0;
        if (turn % 5 == 0) memcpy(noise, "READY=1\n", 8), length = 60000;
        if (turn % 5 == 1) length = (size_t) sprintf(noise, "STATUS=%lu \033[2J%0300lu\n\nREADY=\n=1\nMAINPID=1", turn, turn) + 1;
        send(fd, noise, length, 0);
    }
}
"#;

/// Until a test lets it go on.
const WAIT: &str = "until test -e /tmp/go; do sleep 0.05; done";
const STAY: &str = "while :; do sleep 0.1; done";

/// A kind, as a recipe has it; what the tool then does, without a quotation mark; and what is said to have been seen.
const KINDS: [(&str, &str, &str); 8] = [
    (
        "notify = true",
        "/usr/lib/acme/herald notify STATUS=calibrated READY=1",
        "`READY=1` at its notify socket",
    ),
    ("fd = 3", "echo >&3", "a line at its descriptor 3"),
    ("tcp = 5025", "/usr/lib/acme/herald tcp 5025 &", "a connection to its port 5025"),
    ("tcp = 5026", "/usr/lib/acme/herald tcp6 5026 &", "a connection to its port 5026"),
    (
        "unix = \"/tmp/x.sock\"",
        "/usr/lib/acme/herald unix /tmp/x.sock &",
        "a connection to its socket `/tmp/x.sock`",
    ),
    (
        "log = \"listening on\"",
        "printf \"now liste\"; printf \"ning on 5025\"",
        "`listening on` in what it says",
    ),
    ("file = \"/tmp/x.pid\"", "echo $$ > /tmp/x.pid", "the file `/tmp/x.pid`, written since its start"),
    (
        "command = [\"dash\", \"-c\", \"test -e /tmp/up\"]",
        "touch /tmp/up",
        "code 0 of `dash -c test -e /tmp/up`",
    ),
];

fn wants(bench: &Bench, service: &str) {
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let own = text.split("\n[service]\n").next().unwrap();
    fs::write(&recipe, format!("{own}\n[service]\n{service}\n")).unwrap();
}

fn detach(rungs: &Rungs, rung: &str, options: &str, script: &str) -> Outcome {
    let line = format!(
        "$HATCHWAY run acme --rung {rung} --program /usr/bin/dash --detach {options} -- -c '{script}'"
    );
    rungs.shell(rung, &line)
}

fn status(bench: &Bench) -> Value {
    let all: Value = bench.hatchway(&["status", "acme", "--json"]).json();
    all.as_array().unwrap().last().unwrap().clone()
}

fn becomes(bench: &Bench, stage: &str) -> Value {
    let kind = bench.read("recipes/acme/recipe.toml").lines().last().unwrap_or_default().to_owned();
    until(&format!("it does not become {stage}: {kind}"), || status(bench)["ready"] == stage);
    status(bench)
}

fn inside(bench: &Bench, script: &str) -> String {
    bench.script(&format!("$HATCHWAY exec acme -- dash -c '{script}' < /dev/null")).ok().stdout
}

fn folder(bench: &Bench) -> PathBuf {
    let run = status(bench)["run"].as_str().unwrap().to_owned();
    bench.path("data/run/units/acme").join(run)
}

fn record(bench: &Bench) -> Value {
    serde_json::from_str(&fs::read_to_string(folder(bench).join("ready.json")).unwrap()).unwrap()
}

fn stop(bench: &Bench) {
    drop(bench.hatchway(&["stop", "-q", "acme"]).ok());
}

/// It is not ready, then the tool says so, and it is.
fn becomes_ready(rungs: &Rungs, rung: &str, (kind, says, how): (&str, &str, &str)) {
    let bench = &rungs.bench;
    wants(bench, &format!("ready = {{ {kind} }}"));
    drop(detach(rungs, rung, "-q --no-wait", &format!("{WAIT}; {says}\n{STAY}")).ok());
    let seen = status(bench);
    assert_eq!(
        (seen["state"].as_str(), seen["ready"].as_str()),
        (Some("running"), Some("starting")),
        "{seen}"
    );
    let told = bench.hatchway(&["why", "acme"]).ok().stdout;
    assert!(told.contains("  runs, starting"), "{rung}: {kind}\n{told}");
    assert!(!folder(bench).join("ready.json").exists());
    inside(bench, "touch /tmp/go");
    let seen = becomes(bench, "ready");
    assert_eq!(seen["ready_how"], how, "{rung}: {kind}");
    let record = record(bench);
    assert_eq!((record["how"].as_str(), record.get("late")), (Some(how), None), "{record}");
    assert!(record["stamp"]["realtime_ns"].as_i64() > Some(0) && record["version"] == 1, "{record}");
    let told = bench.hatchway(&["status", "acme"]).ok().stdout;
    assert!(told.contains("  runs, ready"), "{rung}: {kind}\n{told}");
    stop(bench);
    // What it was stays to be known.
    let seen = status(bench);
    assert_eq!((seen["state"].as_str(), seen["ready"].as_str()), (Some("ended"), Some("ready")), "{seen}");
}

#[test]
fn a_unit_is_ready_when_its_recipe_says_so() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    for kind in KINDS {
        becomes_ready(&rungs, "fhs", kind);
        // Who starts it waits for that.
        let (_, says, _) = kind;
        let outcome = detach(&rungs, "fhs", "", &format!("sleep 0.3; {says}\n{STAY}")).ok();
        assert!(outcome.stderr.contains("`acme` is ready; `hatchway logs acme`"), "{kind:?}\n{outcome}");
        assert_eq!(status(&rungs.bench)["ready"], "ready");
        stop(&rungs.bench);
    }
}

#[test]
fn a_unit_is_ready_in_a_container_and_in_a_guest_as_well() {
    let rungs = Rungs::new("");
    for rung in rungs.names().into_iter().filter(|rung| *rung != "fhs") {
        // A guest takes its time to start.
        let all: Vec<_> =
            KINDS.into_iter().filter(|(kind, ..)| rung != "vm" || !kind.contains("5026")).collect();
        for kind in all {
            becomes_ready(&rungs, rung, kind);
        }
    }
}

#[test]
fn without_a_wish_a_unit_is_ready_when_its_tool_has_started() {
    let rungs = Rungs::new("");
    for rung in rungs.names() {
        let outcome = detach(&rungs, rung, "", STAY).ok();
        assert!(outcome.stderr.contains("`acme` runs; `hatchway logs acme`"), "{rung}\n{outcome}");
        let seen = status(&rungs.bench);
        assert_eq!(
            (seen["ready"].as_str(), seen["ready_how"].as_str()),
            (Some("ready"), Some("its tool has started"))
        );
        let told = rungs.bench.hatchway(&["status", "acme"]).ok().stdout;
        assert!(told.ends_with("\n  runs\n"), "{told}");
        stop(&rungs.bench);
    }
}

#[test]
fn one_that_is_late_says_what_was_looked_for_and_may_become_ready() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    let cases = [
        (
            "tcp = 5025",
            "/usr/lib/acme/herald tcp 5025",
            "looked for a connection to its port 5025: connection refused",
        ),
        (
            "unix = \"/tmp/s\"",
            "/usr/lib/acme/herald unix /tmp/s",
            "looked for a connection to its socket `/tmp/s`: no such file or directory",
        ),
        (
            "file = \"/tmp/f\"",
            "touch /tmp/f",
            "looked for the file `/tmp/f`, written since its start: no such file or directory",
        ),
        ("command = [\"dash\", \"-c\", \"test -e /tmp/go || exit 3\"]", ":", ": exit code 3"),
        ("command = [\"/opt/none\"]", "", "looked for code 0 of `/opt/none`: `/opt/none` is not in the tree"),
        ("notify = true", "/usr/lib/acme/herald notify READY=1", "looked for `READY=1` at its notify socket"),
        ("fd = 9", "echo >&9", "looked for a line at its descriptor 9"),
        ("log = \"it is up\"", "echo it is up", "looked for `it is up` in what it says"),
    ];
    for (kind, says, why) in cases {
        wants(bench, &format!("ready = {{ {kind}, within = \"2s\" }}"));
        let script = if says.is_empty() { STAY.to_owned() } else { format!("{WAIT}; {says}\n{STAY}") };
        let outcome = detach(&rungs, "fhs", "-q", &script).ok();
        assert!(
            outcome.stderr.starts_with("warning: `acme` is not ready after ") && outcome.stderr.contains(why),
            "{kind}\n{outcome}"
        );
        let seen = status(bench);
        assert_eq!(
            (seen["state"].as_str(), seen["ready"].as_str()),
            (Some("running"), Some("late")),
            "{seen}"
        );
        assert!(seen["ready_after_ms"].as_u64() >= Some(2000), "{seen}");
        let told = bench.hatchway(&["why", "acme"]).ok().stdout;
        assert!(told.contains("  runs, not ready after ") && told.contains(why), "{told}");
        assert_eq!(record(bench)["late"], true);
        if !says.is_empty() {
            inside(bench, "touch /tmp/go");
            becomes(bench, "ready");
            assert_eq!(record(bench).get("late"), None);
        }
        stop(bench);
    }
}

#[test]
fn a_closed_descriptor_is_no_word() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    wants(&rungs.bench, "ready = { fd = 4, within = \"24h\" }");
    // It is not waited for until the time is over: nothing can come any more. What is no line is no word, either.
    for script in ["exec 4>&-", "printf nothing >&4; exec 4>&-", "exec 4< /dev/null"] {
        let outcome = detach(&rungs, "fhs", "-q", &format!("{script}; {STAY}")).ok();
        let why = "looked for a line at its descriptor 4: it has closed it without a line";
        assert!(outcome.stderr.contains(why), "{script}\n{outcome}");
        assert_eq!(status(&rungs.bench)["ready"], "late");
        stop(&rungs.bench);
    }
    // One that ends before it is ready has ended.
    let outcome = detach(&rungs, "fhs", "", "exit 3");
    assert!(outcome.code == Some(3) && outcome.stderr.contains("has ended already"), "{outcome}");
    // After its word a tool may write there, and is not killed for it.
    let outcome =
        detach(&rungs, "fhs", "", &format!("echo ready >&4; {WAIT}; echo more >&4; echo wrote; {STAY}")).ok();
    assert!(outcome.stderr.contains("`acme` is ready"), "{outcome}");
    inside(&rungs.bench, "touch /tmp/go");
    until("it does not write", || rungs.bench.hatchway(&["logs", "acme"]).stdout.contains("wrote"));
    stop(&rungs.bench);
}

#[test]
fn a_file_of_an_earlier_run_is_no_word() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "state = [\"/var/lib/acme\"]");
    let bench = &rungs.bench;
    wants(bench, "ready = { file = \"/var/lib/acme/pid\", within = \"500ms\" }");
    let script = format!("{WAIT}; touch /var/lib/acme/pid; {STAY}");
    for earlier in [false, true] {
        let outcome = detach(&rungs, "fhs", "-q", &script).ok();
        let why = if earlier { ": it is older" } else { ": no such file or directory" };
        assert!(outcome.stderr.contains(why), "{outcome}");
        inside(bench, "touch /tmp/go");
        becomes(bench, "ready");
        stop(bench);
    }
}

#[test]
fn only_the_tool_has_a_notify_socket_and_its_words_are_bounded() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    wants(
        bench,
        "ready = { notify = true }\nhealth = { command = [\"dash\", \"-c\", \"test -z \\\"$NOTIFY_SOCKET\\\"\"], every = \"100ms\" }",
    );
    let long = "x".repeat(1000);
    let script = format!(
        "/usr/lib/acme/herald notify STATUS={long} MAINPID=1; {WAIT}; /usr/lib/acme/herald notify \"STATUS=two words\" READY=1; /usr/lib/acme/herald barrier; {STAY}"
    );
    drop(detach(&rungs, "fhs", "-q --no-wait", &script).ok());
    until("its status is not told", || status(bench)["status"].is_string());
    assert_eq!(status(bench)["status"], "x".repeat(256));
    // Who comes beside it, and its check, have none.
    assert_eq!(inside(bench, "echo \"<$NOTIFY_SOCKET>\""), "<>\n");
    until("its check has none", || status(bench)["health"] == "healthy");
    assert_eq!(status(bench)["ready"], "starting");
    inside(bench, "touch /tmp/go");
    becomes(bench, "ready");
    until("its status is not told", || status(bench)["status"] == "two words");
    let told = bench.hatchway(&["status", "acme"]).ok().stdout;
    assert!(told.contains("\n    it says: two words\n"), "{told}");
    // The descriptor that came with a message was closed.
    until("nobody reads", || bench.hatchway(&["logs", "acme"]).stdout.contains("passed"));
    stop(bench);
}

#[test]
fn a_tool_that_floods_its_notify_socket_holds_nobody_up() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    wants(bench, "ready = { notify = true, within = \"1s\" }");
    let script = format!(
        "/usr/lib/acme/herald flood & /usr/lib/acme/herald flood & {WAIT}; /usr/lib/acme/herald notify READY=1; {STAY}"
    );
    let outcome = detach(&rungs, "fhs", "-q", &script).ok();
    // Too long, or cut in two: none of it is the word.
    assert!(outcome.stderr.contains("is not ready after"), "{outcome}");
    until("nothing of it is told", || status(bench)["status"].is_string());
    let said = status(bench)["status"].as_str().unwrap().to_owned();
    assert!(said.len() <= 256 && !said.contains('\u{1b}') && said.contains("[2J000"), "{said}");
    // Its shim rests between: the flood costs the tool its time, and nobody else.
    let ticks = || {
        let line = "sed \"s/.*) //\" /proc/1/stat | cut -d\" \" -f12,13";
        let all = inside(bench, line);
        all.split_whitespace().map(|number| number.parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = ticks();
    for _ in 0..10 {
        assert_eq!(bench.hatchway(&["status", "acme"]).code, Some(0));
    }
    assert!(ticks() - before < 100, "PID 1 has used {} ticks", ticks() - before);
    inside(bench, "touch /tmp/go");
    becomes(bench, "ready");
    stop(bench);
    assert_eq!(status(bench)["state"], "ended");
    // The same at a descriptor, without a line's end.
    wants(bench, "ready = { fd = 3, within = \"1s\" }");
    let outcome =
        detach(&rungs, "fhs", "-q", &format!("tr \"\\\\000\" x < /dev/zero >&3 & {WAIT}; echo >&3; {STAY}"))
            .ok();
    assert!(outcome.stderr.contains("is not ready after"), "{outcome}");
    inside(bench, "touch /tmp/go");
    becomes(bench, "ready");
    stop(bench);
}

#[test]
fn in_the_foreground_nothing_is_waited_for_and_nothing_is_missing() {
    let rungs = Rungs::new("");
    for rung in rungs.names().into_iter().filter(|rung| *rung != "vm") {
        for (kind, says) in [
            ("notify = true", "/usr/lib/acme/herald notify READY=1 && echo told"),
            ("fd = 7", "echo >&7 && echo told"),
            // Nobody connects to it.
            ("tcp = 5025, within = \"100ms\"", "sleep 1; echo told"),
        ] {
            wants(&rungs.bench, &format!("ready = {{ {kind} }}"));
            let outcome = rungs.shell(rung, &format!("$RUN -c '{says}'")).ok();
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("told\n", ""), "{rung}: {kind}");
        }
    }
    // Whatever is open under the number in what becomes the tool: why it did not is told.
    for number in 3..=9 {
        wants(&rungs.bench, &format!("ready = {{ fd = {number} }}"));
        let outcome = rungs.shell("fhs", "$HATCHWAY run -q acme --program /usr/bin/none");
        assert!(
            outcome.code == Some(127) && outcome.stderr.contains("`/usr/bin/none` is not in the tree"),
            "{outcome}"
        );
        let outcome = rungs
            .shell("fhs", &format!("$RUN -c 'echo ready >&{number}; ls /proc/self/fd | tr \"\\n\" \" \"'"))
            .ok();
        // The last is that of `ls`; nothing else has come along.
        let last = if number == 3 { 4 } else { 3 };
        let mut all = [0, 1, 2, number, last];
        all.sort_unstable();
        let all: Vec<String> = all.iter().map(i32::to_string).collect();
        assert_eq!(outcome.stdout.trim(), all.join(" "), "{outcome}");
    }
    rungs.nothing_is_left();
}

/// Connects to a socket of packets in a run's folder, asks to be told, and prints the answers until one has this word.
const WATCHER: &str = r#"import os, socket, sys
name, order, word = sys.argv[1:]
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(name)
link.send(order.encode())
if word == "-":
    # So many answers find no room.
    try:
        for turn in range(2000):
            link.send(order.encode())
    except OSError:
        pass
    print("asked", flush=True)
    sys.stdin.read()
while True:
    try:
        text = link.recv(65536).decode()
    except ConnectionResetError:
        text = ""
    print(text, flush=True)
    if not text or word in text:
        break
"#;

#[test]
fn who_watches_a_unit_is_told_each_change() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    bench.put("watch.py", WATCHER);
    let check = "test ! -e /tmp/sick";
    wants(
        bench,
        &format!(
            "ready = {{ tcp = 5025 }}\nhealth = {{ command = [\"dash\", \"-c\", \"{check}\"], every = \"100ms\", failures = 1 }}"
        ),
    );
    drop(detach(&rungs, "fhs", "-q --no-wait", &format!("{WAIT}; /usr/lib/acme/herald tcp 5025")).ok());
    let at = folder(bench);
    let watch = |socket: &str, word: &str, between: &str| {
        let line = format!(
            "rm -f said; timeout 60 python3 watch.py {}/{socket} '\"watch\"' '{word}' > said & until test -s said; do sleep 0.05; done; {between}; wait $!; cat said",
            at.display()
        );
        bench.script(&line).ok().stdout
    };
    let go = "$HATCHWAY exec acme -- touch /tmp/go < /dev/null";
    let said = watch("unit", "\"ready\":\"ready\"", go);
    assert!(said.starts_with("{\"state\":{\"ready\":\"starting\""), "{said}");
    assert!(said.lines().last().unwrap().contains("a connection to its port 5025"), "{said}");
    let said = watch("control", "\"unhealthy\"", "$HATCHWAY exec acme -- touch /tmp/sick < /dev/null");
    assert!(said.starts_with("{\"watched\":{\"ready\":\"ready\""), "{said}");
    let said = watch("unit", "\"healthy\"", "$HATCHWAY exec acme -- rm /tmp/sick < /dev/null");
    assert!(
        said.starts_with("{\"state\":{\"ready\":\"ready\"") && said.contains("\"health\":\"unhealthy\""),
        "{said}"
    );
    // What no version knows is refused, and the unit goes on.
    let refused = bench
        .script(&format!("timeout 60 python3 watch.py {}/unit '\"dance\"' 'does not know'", at.display()));
    assert!(refused.stdout.contains("this recorder does not know the order"), "{refused}");
    let ended =
        bench.script(&format!("timeout 60 python3 watch.py {}/control '\"dance\"' x", at.display())).ok();
    assert_eq!(ended.stdout, "\n", "{ended}");
    assert_eq!(status(bench)["state"], "running");
    stop(bench);
}

#[test]
fn who_watches_and_does_not_read_is_left() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    bench.put("watch.py", WATCHER);
    wants(bench, "ready = { notify = true }");
    // Changes without end, each a message.
    let script = format!(
        "i=0; while test ! -e /tmp/go; do i=$((i + 1)); /usr/lib/acme/herald notify STATUS=$i; done; /usr/lib/acme/herald notify READY=1; {STAY}"
    );
    drop(detach(&rungs, "fhs", "-q --no-wait", &script).ok());
    let at = folder(bench);
    let line = |socket: &str, order: &str| {
        let name = at.join(socket);
        format!("exec timeout 100 python3 watch.py {} '\"{order}\"' - > {socket}.said", name.display())
    };
    let deaf = [("unit", "watch"), ("control", "stats")].map(|(socket, order)| {
        (socket, bench.shell(&line(socket, order)).stdin(std::process::Stdio::piped()).spawn().unwrap())
    });
    for socket in ["unit", "control"] {
        until("it does not ask", || {
            fs::read_to_string(bench.path(&format!("work/{socket}.said"))).is_ok_and(|said| said == "asked\n")
        });
    }
    let count = || status(bench)["status"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let begun = count();
    until("nothing goes on", || count() > begun + 20);
    for (socket, mut child) in deaf {
        drop(child.stdin.take());
        // It finds what had room, and the end.
        assert!(child.wait().unwrap().success(), "{socket}");
        let said = bench.read(&format!("{socket}.said"));
        assert!(
            said.ends_with("}\n\n") && said.lines().count() < 2000,
            "{socket}: {} lines",
            said.lines().count()
        );
    }
    inside(bench, "touch /tmp/go");
    becomes(bench, "ready");
    stop(bench);
}

/// A unit that another version has begun: its `unit.json` knows nothing of `ready`.
#[test]
fn a_unit_of_an_older_version_is_kept() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    // The recipe's wish is for the shim, which nobody asks: what is told is that the tool has started.
    wants(bench, "ready = { tcp = 5025 }");
    let run = "1796000000000-1";
    let at = bench.path("data/run/units/acme").join(run);
    fs::create_dir_all(&at).unwrap();
    let hatchway = bench.script("printf %s \"$HATCHWAY\"").ok().stdout;
    let recipe = bench.path("work/recipes/acme/recipe.toml").display().to_string();
    let words = ["run", "--incarnation", run, &recipe, "--program", "/usr/bin/dash", "--", "-c", STAY];
    let command: Vec<&str> = [hatchway.as_str()].into_iter().chain(words).collect();
    let unit = serde_json::json!({ "version": 1, "unit": "acme", "incarnation": run, "command": command });
    fs::write(at.join("unit.json"), unit.to_string()).unwrap();
    let shim = format!("{hatchway}-shim");
    let mut recorder =
        bench.shell(&format!("exec {shim} --unit {} < /dev/null", at.display())).spawn().unwrap();
    let seen = becomes(bench, "ready");
    assert_eq!(seen["ready_how"], "its tool has started", "{seen}");
    stop(bench);
    assert!(recorder.wait().unwrap().code().is_some());
}

#[test]
fn the_recorder_stays_small() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    wants(bench, "ready = { log = \"never said by anybody\", within = \"500ms\" }\nlogs = { size = \"1M\" }");
    let outcome = detach(&rungs, "fhs", "-q", &format!("seq 1000000; {WAIT}; {STAY}")).ok();
    assert!(outcome.stderr.contains("is not ready after"), "{outcome}");
    let pattern = format!("hatchway-shim --unit.*{}", folder(bench).display());
    let pid = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    let pid = String::from_utf8_lossy(&pid.stdout).lines().next().unwrap().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap();
    assert!(resident < 3 << 10, "{resident} KiB");
    println!("recorder: {resident} KiB resident");
    stop(bench);
}

#[test]
fn a_tool_has_time_until_its_check_counts() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    let check = |more: &str| {
        wants(
            bench,
            &format!(
                "health = {{ command = [\"dash\", \"-c\", \"exit 1\"], every = \"100ms\", failures = 1, then = \"end\"{more} }}"
            ),
        );
    };
    check("");
    drop(detach(&rungs, "fhs", "-q", STAY).ok());
    // Some checks have failed by then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(
        (status(bench)["state"].as_str(), status(bench)["health"].as_str()),
        (Some("running"), Some("starting"))
    );
    stop(bench);
    check(", start = \"300ms\"");
    drop(detach(&rungs, "fhs", "-q", STAY));
    until("it does not end", || status(bench)["state"] == "ended");
    let message = status(bench)["record"]["reason"]["unhealthy"]["message"].clone();
    assert!(message.as_str().unwrap().ends_with("its check has failed (exit code 1)"), "{message}");
}
