//! Guests from disk images as units: kept by a recorder, as tools are. The guest is `com1-guest`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use hatchway_tests::bench::Bench;

use super::machines::{LONG, with};

fn until(what: &str, done: impl Fn() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !done() {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A guest outlives a test that fails, and one that is deaf is busy for ever.
struct Ends<'a>(&'a Bench, &'a str);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        drop(self.0.hatchway(&["kill", "-q", self.1]));
    }
}

fn status(bench: &Bench) -> serde_json::Value {
    let all = bench.hatchway(&["status", "--json"]).json();
    all.as_array().and_then(|all| all.last()).cloned().unwrap_or_default()
}

fn service(bench: &Bench, text: &str) {
    let path = bench.path("work/recipes/acme/recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{recipe}[service]\n{text}\n")).unwrap();
}

#[test]
fn a_guest_from_an_image_stays_says_and_ends() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let disk = with(&bench, "grace-seconds = 20");
        service(&bench, "ready = { log = \"start 1\" }");
        let image = fs::read(&disk).unwrap();
        let _ends = Ends(&bench, "acme");
        let outcome = bench.hatchway(&["run", "acme", "--detach"]).ok();
        assert!(outcome.stderr.contains("`acme` is ready"), "{outcome}");
        assert_eq!(
            (status(&bench)["state"].as_str(), status(&bench)["ready"].as_str()),
            (Some("running"), Some("ready"))
        );
        assert!(bench.hatchway(&["logs", "acme"]).ok().stdout.contains("com1-guest: start 1"));
        let stats = bench.hatchway(&["stats", "acme", "--json"]).ok().json();
        assert!(stats[0]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{stats:#}");
        let exec = bench.hatchway(&["exec", "acme", "--", "true"]);
        assert_eq!(exec.code, Some(126), "{exec}");
        assert!(exec.stderr.contains("nothing of Hatchway is in a guest from a disk image"), "{exec}");
        let stop = bench.hatchway(&["stop", "acme"]).ok();
        assert_eq!(
            status(&bench)["record"]["reason"]["requested"]["signal"],
            15,
            "{stop}\n{}",
            status(&bench)
        );
        assert!(fs::read(&disk).unwrap() == image, "the image was written to");
        assert_eq!(fs::read_dir(bench.path("data/state/acme/guest")).unwrap().count(), 0, "a disk was left");
    }
}

#[test]
fn who_is_killed_of_such_a_guest_ends_it() {
    let bench = Bench::new();
    with(&bench, "");
    service(&bench, "");
    let _ends = Ends(&bench, "acme");
    drop(bench.hatchway(&["run", "acme", "--detach"]).ok());
    let qemu = |bench: &Bench| {
        let folder = bench.path("data").display().to_string();
        let found =
            std::process::Command::new("pgrep").args(["--full", &format!("qemu-system.*{folder}")]).output();
        !found.unwrap().stdout.is_empty()
    };
    assert!(qemu(&bench));
    drop(bench.hatchway(&["kill", "acme"]).ok());
    until("QEMU is left", || !qemu(&bench));
    assert_eq!(status(&bench)["state"], "ended");
    // What is kept goes on; a recipe that asks for what nobody in it could do is refused.
    service_refused(&bench);
}

fn service_refused(bench: &Bench) {
    for (text, why) in [
        ("ready = { notify = true }", "ready in [service] but for `log`"),
        ("health = { command = [\"true\"] }", "health in [service]"),
        ("stop = { grace = \"1s\" }", "`grace-seconds`"),
        ("terminal = true", "terminal in [service]"),
    ] {
        with(bench, "");
        service(bench, text);
        let outcome = bench.hatchway(&["run", "acme", "--detach"]);
        assert!(outcome.code == Some(125) && outcome.stderr.contains(why), "{text}: {outcome}");
    }
}

#[test]
fn an_instrument_keeps_a_guest_from_an_image() {
    let bench = Bench::new();
    with(&bench, "grace-seconds = 20");
    service(&bench, "ready = { log = \"start 1\" }\nrestart = \"on-failure\"");
    bench.put("instrument.toml", "schema = 1\n[instrument]\nname = \"x\"\n[unit.panel]\nrecipe = \"acme\"\n");
    let up = bench.hatchway(&["up", "instrument.toml", "--yes"]).ok();
    assert!(up.stdout.contains("start    panel"), "{up}");
    let _ends = Ends(&bench, "panel");
    let mut daemon = bench.shell("exec $HATCHWAY daemon >> daemon.out 2>&1").spawn().unwrap();
    let phase = || status(&bench)["unit"]["phase"].as_str().unwrap_or_default().to_owned();
    until("it is not ready", || phase() == "ready");
    let first = status(&bench)["run"].clone();
    // QEMU killed is a failure, and it starts again.
    let pid = bench.hatchway(&["status", "--json"]).json();
    drop(pid);
    let folder = bench.path("data").display().to_string();
    let killed = std::process::Command::new("pkill")
        .args(["--signal", "KILL", "--full", &format!("^qemu-system.*{folder}")])
        .status();
    assert!(killed.unwrap().success());
    until("it is not started again", || status(&bench)["run"] != first && phase() == "ready");
    let history = bench.hatchway(&["history", "panel", "--json"]).ok().json();
    let ended = history.as_array().unwrap().iter().find(|one| one["run"] == first).unwrap().clone();
    let message = ended["record"]["reason"]["engine"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("QEMU was killed by signal 9"), "{ended:#}");
    assert_eq!(ended["record"]["unit"], "panel");
    drop(bench.hatchway(&["stop", "panel"]).ok());
    assert_eq!(phase(), "stopped");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn several_who_ask_for_the_end_press_the_button_and_do_not_cut_it_off() {
    let bench = Bench::new();
    with(&bench, "grace-seconds = 50");
    let path = bench.path("work/recipes/acme/recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    fs::write(&path, recipe.replace("\"stdio\"", "\"socket\"")).unwrap();
    service(&bench, "");
    let _ends = Ends(&bench, "acme");
    let run = bench.hatchway(&["run", "acme", "--detach"]).ok().stdout.trim().to_owned();
    let mut line =
        UnixStream::connect(bench.path(&format!("data/run/units/acme/{run}/machine/com1"))).unwrap();
    line.set_read_timeout(Some(LONG)).unwrap();
    let mut said = String::new();
    let mut hears = |line: &mut UnixStream, done: &dyn Fn(&str) -> bool| {
        let mut bytes = [0; 256];
        while !done(&said) {
            let count = line.read(&mut bytes).unwrap_or_else(|error| panic!("{error}: {said}"));
            said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    // What it said before somebody was at the line is nowhere, and before its first word it hears nothing: it is told until it answers.
    let mut teller = line.try_clone().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let telling = std::thread::spawn(move || {
        while heard.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
            teller.write_all(b"d").unwrap();
        }
    });
    hears(&mut line, &|said| said.contains("deaf"));
    told.send(()).unwrap();
    telling.join().unwrap();
    // A person, and another one.
    let mut first = bench.start(&["stop", "acme"]);
    hears(&mut line, &|said| said.contains("power button"));
    let mut second = bench.start(&["stop", "acme"]);
    hears(&mut line, &|said| said.matches("power button").count() >= 2);
    assert_eq!(status(&bench)["state"], "running", "{}", status(&bench));
    drop(bench.hatchway(&["kill", "acme"]).ok());
    assert!(first.wait().is_ok() && second.wait().is_ok());
    assert_eq!(status(&bench)["state"], "ended");
}
