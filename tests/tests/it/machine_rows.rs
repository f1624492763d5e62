//! Rows of the suite for guests from disk images that `machines` does not have: lines both ways, readers that rest, drivers that go
//! wrong. Where a driver has to go wrong, a stand-in does, and its name says so.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hatchway_tests::bench::Bench;

use super::machines::{LONG, converted, reason, signal, with};

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program in a folder of its own, which is to come before others on `PATH`.
fn stand_in(bench: &Bench, name: &str, text: &str) -> PathBuf {
    let folder = bench.path("work/stand-in");
    fs::create_dir_all(&folder).unwrap();
    bench.allow("work/stand-in");
    let program = bench.put(&format!("stand-in/{name}"), text);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// `hatchway run acme` with stand-ins; its messages are in `err`.
fn started(bench: &Bench) -> Child {
    let line = "PATH=$PWD/stand-in:$PATH exec env --default-signal=INT \"$HATCHWAY\" run acme 2> err";
    drop(fs::remove_file(bench.path("work/err")));
    bench.shell(line).stdout(Stdio::null()).spawn().unwrap()
}

fn told(bench: &Bench, what: &str) {
    let said = || fs::read_to_string(bench.path("work/err")).unwrap_or_default();
    until(&format!("it does not say `{what}`: {}", said()), || said().contains(what));
}

fn replaced(bench: &Bench, words: &[(&str, &str)]) {
    let mut recipe = bench.read("recipes/acme/recipe.toml");
    for (from, to) in words {
        recipe = recipe.replace(from, to);
    }
    bench.put("recipes/acme/recipe.toml", recipe);
}

#[test]
fn a_serial_line_at_a_socket_goes_both_ways() {
    let bench = Bench::new();
    with(&bench, "");
    replaced(&bench, &[("\"stdio\"", "\"socket\"")]);
    let mut child = started(&bench);
    told(&bench, "COM1: ");
    let said = bench.read("err");
    let path = said.lines().find_map(|line| line.strip_prefix("COM1: ")).unwrap().to_owned();
    let mut line = connected(Path::new(&path));
    line.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let end = Instant::now() + LONG;
    let mut heard = String::new();
    let mut bytes = [0; 64];
    // What a guest is told before it has set its line up is lost, and what it says before anybody is there may be.
    while !heard.contains("count") {
        assert!(Instant::now() < end, "{heard}");
        line.write_all(b"c").unwrap();
        let read = line.read(&mut bytes).unwrap_or_default();
        heard += &String::from_utf8_lossy(&bytes[..read]);
    }
    line.write_all(b"o").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(reason(&bench), serde_json::json!({ "exit": { "code": 0 } }));
}

/// A path may be longer than a socket's may be.
fn connected(path: &Path) -> UnixStream {
    let folder = fs::File::open(path.parent().unwrap()).unwrap();
    let short = format!("/proc/self/fd/{}/com1", std::os::fd::AsRawFd::as_raw_fd(&folder));
    UnixStream::connect(short).unwrap()
}

/// Reads until the guest is there and busy, and then rests until all on the way is full, however slow the machine is: what was read, and
/// where the rest comes.
fn rested(mut out: ChildStdout) -> (Vec<u8>, ChildStdout) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut read = vec![0; 1 + (64 << 10)];
        let (first, more) = read.split_at_mut(1);
        out.read_exact(first).unwrap();
        let there = Instant::now();
        out.read_exact(more).unwrap();
        drop(tell.send((there.elapsed(), read, out)));
    });
    let (took, read, out) = told.recv_timeout(LONG).expect("the guest does not say enough");
    // Pipes and sockets hold less than four times as much as was read.
    std::thread::sleep(Duration::from_secs(5).max(took * 4));
    (read, out)
}

#[test]
fn a_reader_that_rests_keeps_no_signal_from_the_guest() {
    let bench = Bench::new();
    with(&bench, "grace-seconds = 1");
    // Answers of 2 MB, which no pipe and socket on the way can hold.
    let line = "exec env --default-signal=INT \"$HATCHWAY\" run acme 2> err";
    let mut child = bench.shell(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut into = child.stdin.take().unwrap();
    let asking = std::thread::spawn(move || drop(into.write_all(&b"c".repeat(200_000))));
    told(&bench, "COM1: here");
    let (mut said, mut out) = rested(child.stdout.take().unwrap());
    signal("TERM", child.id());
    told(&bench, "warning: the guest's time is over");
    // All that it had said is there for the reader who comes back.
    out.read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.starts_with("com1-guest: start 1\r\ncount 1\r\n") && said.len() > 16_384, "{}", said.len());
    let numbers: Vec<u32> =
        said.lines().filter_map(|line| line.strip_prefix("count ")?.parse().ok()).collect();
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1 && pair[1] != numbers[numbers.len() - 1]);
    assert_eq!(gap, None, "something is missing");
    asking.join().unwrap();
    assert_eq!(reason(&bench)["requested"]["forced"], true);
    // Without a reader who comes back, another signal ends the wait.
    let mut child = bench.shell(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut into = child.stdin.take().unwrap();
    let asking = std::thread::spawn(move || drop(into.write_all(&b"c".repeat(200_000))));
    told(&bench, "COM1: here");
    // It is held to the end: without a reader, nobody would wait.
    let (_, _out) = rested(child.stdout.take().unwrap());
    signal("TERM", child.id());
    told(&bench, "warning: the guest's time is over");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it threw away what the guest had said");
    signal("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(137));
    asking.join().unwrap();
}

/// Stands in for a QEMU that was taken over: it greets and answers, and when it is asked about its lines does what `mode` says.
const QEMU_STAND_IN: &str = r#"#!/usr/bin/env python3
import json, os, socket, sys, time
mode = open(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "mode")).read()
s = socket.socket(socket.AF_UNIX)
s.connect("qmp")
s.sendall(b'{"QMP": {}}\r\n')
for line in s.makefile("r"):
    asked = json.loads(line)
    s.sendall(json.dumps({"return": [], "id": asked["id"]}).encode() + b"\n")
    if asked["execute"] == "query-chardev":
        break
while mode == "flood":
    s.sendall(b'{"event": "RTC_CHANGE"}\n{"event": "RESET"}\n' * 500)
s.sendall(b"nonsense\n")
time.sleep(60)
"#;

fn started_with_a_stand_in(mode: &str) -> (Bench, Child) {
    let bench = Bench::new();
    with(&bench, "grace-seconds = 1");
    replaced(&bench, &[("[\"stdio\"]", "[]")]);
    let folder = stand_in(&bench, "qemu-system-x86_64", QEMU_STAND_IN);
    fs::write(folder.join("mode"), mode).unwrap();
    let child = started(&bench);
    (bench, child)
}

#[test]
fn with_a_stand_in_for_a_qemu_that_talks_without_end_signals_are_heard() {
    let (bench, mut child) = started_with_a_stand_in("flood");
    told(&bench, "note: ");
    std::thread::sleep(Duration::from_secs(1));
    signal("TERM", child.id());
    told(&bench, "pressing the guest's power button");
    assert_eq!(child.wait().unwrap().code(), Some(137), "{}", bench.read("err"));
    assert_eq!(reason(&bench)["requested"]["forced"], true);
}

#[test]
fn with_a_stand_in_for_a_qemu_that_talks_nonsense_the_end_has_a_record() {
    let (bench, mut child) = started_with_a_stand_in("nonsense");
    assert_eq!(child.wait().unwrap().code(), Some(137), "{}", bench.read("err"));
    let said = bench.read("err");
    assert!(said.contains("warning: QEMU does not speak its protocol: `nonsense` is no message"), "{said}");
    let why = reason(&bench);
    let message = why["engine"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("does not speak its protocol"), "{why}");
}

/// Stands in for `VBoxManage` after the driver: a machine's state is a file, and `broken` has it fail to say it.
const VBOXMANAGE_STAND_IN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
state=$(cat state 2>/dev/null || echo none)
case "$1" in
--version) echo 7.2.22r175245;;
createvm) echo poweroff > state;;
unregistervm) rm state;;
startvm) echo running > state;;
showvminfo)
    test -e broken && test "$state" = running && { echo "VBoxManage: error: The object is not ready" >&2; exit 1; }
    test "$state" != none || { echo "VBoxManage: error: Could not find a registered machine named '$2'" >&2; exit 1; }
    printf 'name="stand-in"\nVMState="%s"\n' "$state";;
controlvm) echo poweroff > state; rm -f broken;;
esac
"#;

/// A bench whose recipe is for VirtualBox, and the stand-in's folder.
fn virtualbox(more: &str) -> (Bench, PathBuf) {
    let bench = Bench::ordinary();
    with(&bench, &format!("driver = \"virtualbox\", {more}"));
    converted(&bench.path("work/recipes/acme"));
    replaced(&bench, &[("stdio", "socket"), ("disk.raw", "disk.vdi")]);
    let recipe = bench.read("recipes/acme/recipe.toml");
    bench.put("recipes/acme/recipe.toml", recipe + "network = \"none\"\n");
    let folder = stand_in(&bench, "VBoxManage", VBOXMANAGE_STAND_IN);
    bench.put("err", "");
    bench.allow("work/err");
    bench.allow("work");
    (bench, folder)
}

fn state(folder: &Path) -> String {
    fs::read_to_string(folder.join("state")).unwrap_or_default()
}

fn running(bench: &Bench, folder: &Path) -> Child {
    let child = started(bench);
    until("it is not started", || state(folder) == "running\n");
    child
}

#[test]
fn with_a_stand_in_for_virtualbox_a_kept_machine_has_its_lines_at_each_runs_sockets() {
    let (bench, folder) = virtualbox("keep = true");
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut child = running(&bench, &folder);
        told(&bench, "COM1: ");
        let said = bench.read("err");
        sockets.push(said.lines().find_map(|line| line.strip_prefix("COM1: ")).unwrap().to_owned());
        signal("INT", child.id());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", bench.read("err"));
    }
    assert_ne!(sockets[0], sockets[1]);
    let calls = fs::read_to_string(folder.join("calls")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.starts_with("createvm ")).count(), 1, "{calls}");
    let moved = calls.lines().filter(|call| call.starts_with("modifyvm ")).nth(1).unwrap_or_default();
    let words = format!(" --uart1 0x3F8 4 --uart-mode1 server {}", sockets[1]);
    assert!(moved.ends_with(&words), "{moved}");
}

#[test]
fn with_a_stand_in_for_virtualbox_a_guest_outlives_its_killed_caller_and_is_found_again() {
    let (bench, folder) = virtualbox("keep = true");
    let mut child = running(&bench, &folder);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(state(&folder), "running\n");
    let again = started(&bench).wait().unwrap();
    assert_eq!(again.code(), Some(125));
    let said = bench.read("err");
    assert!(said.contains("error: `acme` runs already\nhint: `VBoxManage controlvm "), "{said}");
    fs::write(folder.join("state"), "poweroff\n").unwrap();
    let mut child = running(&bench, &folder);
    fs::write(folder.join("state"), "poweroff\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", bench.read("err"));
}

#[test]
fn with_a_stand_in_for_virtualbox_one_that_says_nothing_ends_with_a_record() {
    let (bench, folder) = virtualbox("");
    let mut child = running(&bench, &folder);
    fs::write(folder.join("broken"), "").unwrap();
    bench.allow("work/stand-in/broken");
    assert_eq!(child.wait().unwrap().code(), Some(125), "{}", bench.read("err"));
    let why = reason(&bench);
    let message = why["engine"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("VirtualBox does not answer: "), "{why}");
    assert!(!folder.join("state").exists(), "its machine is still there");
}
