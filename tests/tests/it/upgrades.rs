//! Another build in the place of one while units run, at each step of a unit's life: from an earlier one to this, and back. It takes
//! that earlier build, so that `cargo xtask upgrade` runs it, which names both in variables.
#![allow(clippy::print_stdout, reason = "what a trial of minutes does can be followed")]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hatchway_tests::bench::Outcome;
use hatchway_tests::systemd::Systemd;
use serde_json::Value;

use super::rungs::{Rungs, until};
use super::systemd_machine::{self, COUNTS, built};

const PATIENCE: Duration = Duration::from_secs(60);
/// What each unit does, in a recipe of which kind.
const UNITS: [(&str, &str, &str); 10] = [
    ("manual", "acme", COUNTS),
    ("starting", "slow", "until test -e /tmp/go; do sleep 0.1; done; echo all is there; exec sleep 7000"),
    ("runs", "acme", COUNTS),
    // It ends while no daemon is there.
    ("ends", "acme", "echo up; until test -e /tmp/go; do sleep 0.1; done; exit 9"),
    // It takes its time to end.
    (
        "stopping",
        "slow",
        "trap 'until test -e /tmp/go; do sleep 0.1; done; echo bye; exit 0' TERM; echo all is there; while :; do sleep 0.1; done",
    ),
    ("fails", "acme", "sleep 1; exit 3"),
    ("loops", "acme", "echo no licence >&2; exit 4"),
    ("ended", "once", "echo done; exit 5"),
    ("silenced", "acme", COUNTS),
    // It starts again when the programs have changed, and the daemon has not.
    ("between", "acme", COUNTS),
];

/// Which programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    Earlier,
    This,
}

const BOTH: [Build; 2] = [Build::Earlier, Build::This];

impl Build {
    fn name(self) -> &'static str {
        match self {
            Self::Earlier => "earlier",
            Self::This => "this",
        }
    }

    fn folder(self) -> PathBuf {
        let name = match self {
            Self::Earlier => "HATCHWAY_UPGRADE_FROM",
            Self::This => "HATCHWAY_BIN",
        };
        let program = std::env::var_os(name).map(PathBuf::from);
        let program = program.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask upgrade`"));
        program.parent().unwrap().to_owned()
    }
}

/// Where units run: under systemd, or as processes of their own.
enum Place {
    Booted(Box<systemd_machine::Machine>),
    Plain { rungs: Box<Rungs>, daemon: Option<Child> },
}

/// A machine with both builds on it, of which one is installed.
struct Machine(Place);

fn furnished() -> Rungs {
    let slow = "restart = \"on-failure\"\nready = { log = \"all is there\", within = \"1h\" }\nstop = { grace = \"60s\" }";
    built(&[("slow", slow), ("once", "")])
}

fn instrument() -> String {
    let tables = UNITS.iter().map(|(name, recipe, script)| {
        let start = if ["manual", "fails"].contains(name) { "start = \"manual\"\n" } else { "" };
        format!("[unit.{name}]\nrecipe = {recipe:?}\nargs = [\"-c\", {script:?}]\n{start}")
    });
    tables.fold("schema = 1\n[instrument]\nname = \"x\"\n".to_owned(), |text, table| text + &table)
}

impl Machine {
    fn new(booted: bool) -> Self {
        let rungs = furnished();
        let bench = &rungs.bench;
        if !booted {
            bench.put("instrument.toml", instrument());
            for build in BOTH {
                let folder = bench.path("programs").join(build.name());
                fs::create_dir_all(&folder).unwrap();
                copy(&build.folder(), &folder);
            }
            return Self(Place::Plain { rungs: Box::new(rungs), daemon: None });
        }
        let booted = systemd_machine::Machine { host: Systemd::start() };
        let host = &booted.host;
        for build in BOTH {
            for name in ["hatchway", "hatchway-shim"] {
                host.copy(&build.folder().join(name), &format!("/opt/{}/{name}", build.name()));
            }
        }
        booted.take(&bench.path("data"), "/var/lib/hatchway");
        booted.take(&bench.path("work/recipes"), "/etc/hatchway/recipes");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging");
        host.copy(&packaging.join("hatchway.service"), "/etc/systemd/system/hatchway.service");
        host.write("/etc/hatchway/instrument.toml", instrument(), 0o644);
        host.says(&["systemctl", "daemon-reload"]);
        Self(Place::Booted(Box::new(booted)))
    }

    /// As dpkg does: what runs keeps the file that it has begun from.
    fn install(&self, build: Build) {
        println!("-- {} is installed", build.name());
        match &self.0 {
            Place::Booted(booted) => {
                let host = &booted.host;
                for (name, to) in [("hatchway", "/usr/bin"), ("hatchway-shim", "/usr/libexec/hatchway")] {
                    let from = format!("/opt/{}/{name}", build.name());
                    host.says(&["install", "-D", &from, &format!("{to}/{name}.new")]);
                    host.says(&["mv", &format!("{to}/{name}.new"), &format!("{to}/{name}")]);
                }
            }
            Place::Plain { rungs, .. } => {
                let to = rungs.bench.path("programs/installed");
                fs::create_dir_all(&to).unwrap();
                copy(&build.folder(), &to);
            }
        }
    }

    fn begin(&mut self) {
        match &mut self.0 {
            Place::Booted(booted) => drop(booted.host.says(&["systemctl", "start", "hatchway"])),
            Place::Plain { rungs, daemon } => {
                let program = rungs.bench.path("programs/installed/hatchway");
                let line = format!("exec {} daemon instrument.toml >> daemon.out 2>&1", program.display());
                *daemon = Some(rungs.bench.shell(&line).stdin(Stdio::null()).spawn().unwrap());
                let socket = rungs.bench.path("data/run/api.sock");
                until("the daemon does not answer", || UnixStream::connect(&socket).is_ok());
            }
        }
    }

    fn end(&mut self) {
        match &mut self.0 {
            Place::Booted(booted) => drop(booted.host.says(&["systemctl", "stop", "hatchway"])),
            Place::Plain { daemon, .. } => {
                let mut daemon = daemon.take().unwrap();
                daemon.kill().unwrap();
                daemon.wait().unwrap();
            }
        }
    }

    /// What the program of a build says, whichever is installed.
    fn ask(&self, build: Build, words: &[&str]) -> Outcome {
        match &self.0 {
            Place::Booted(booted) => {
                booted.host.run(&[&[format!("/opt/{}/hatchway", build.name()).as_str()], words].concat())
            }
            Place::Plain { rungs, .. } => {
                let program = rungs.bench.path("programs").join(build.name()).join("hatchway");
                rungs.bench.outcome(
                    rungs.bench.shell("exec \"$@\"").arg("sh").arg(program).args(words).stdin(Stdio::null()),
                )
            }
        }
    }

    fn says(&self, build: Build, words: &[&str]) -> String {
        let outcome = self.ask(build, words);
        assert_eq!(outcome.code, Some(0), "{} {words:?}: {outcome}", build.name());
        outcome.stdout
    }

    fn unit(&self, build: Build, name: &str) -> Value {
        let outcome = self.ask(build, &["status", name, "--json"]);
        let all: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{} {name}: {error}: {outcome}", build.name()));
        let of_unit = all.as_array().unwrap().iter().rfind(|one| !one["unit"].is_null()).cloned();
        of_unit.unwrap_or_else(|| panic!("{} has no `{name}`: {all:#}", build.name()))
    }

    fn phase(&self, build: Build, name: &str) -> String {
        self.unit(build, name)["unit"]["phase"].as_str().unwrap_or_default().to_owned()
    }

    fn reaches(&self, build: Build, name: &str, phase: &str) {
        let end = Instant::now() + PATIENCE;
        while self.phase(build, name) != phase {
            let unit = self.unit(build, name);
            assert!(Instant::now() < end, "{name} is not {phase}: {unit:#}\n{}", self.events(build));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Builds before this one start no more than four units at a time under systemd that go on: the next daemon starts the next four.
    fn helped_to_start(&mut self) {
        let waits = |machine: &Self| UNITS.iter().any(|(name, ..)| machine.phase(Build::This, name) == "due");
        while matches!(&self.0, Place::Booted(_)) && waits(self) {
            std::thread::sleep(Duration::from_secs(2));
            if waits(self) {
                self.end();
                self.begin();
            }
        }
    }

    fn run_of(&self, build: Build, name: &str) -> String {
        self.unit(build, name)["run"].as_str().unwrap_or_default().to_owned()
    }

    fn runs(&self, build: Build, name: &str) -> Vec<Value> {
        // 1 where there is none.
        let outcome = self.ask(build, &["history", name, "--json"]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome}");
        outcome.json().as_array().unwrap().clone()
    }

    fn events(&self, build: Build) -> String {
        self.says(build, &["events"])
    }

    /// The process that keeps a run; a copy of it that is about to become another program is younger.
    fn recorder(&self, run: &str) -> String {
        let pattern = format!("hatchway-shim --unit .*/{run}$");
        match &self.0 {
            Place::Booted(booted) => booted.host.says(&["pgrep", "--oldest", "--full", &pattern]),
            Place::Plain { .. } => {
                let found = std::process::Command::new("pgrep")
                    .args(["--oldest", "--full", &pattern])
                    .output()
                    .unwrap();
                String::from_utf8(found.stdout).unwrap()
            }
        }
    }

    fn touch(&self, build: Build, name: &str) {
        self.says(build, &["exec", name, "--", "touch", "/tmp/go"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Under systemd all ends with it.
        if matches!(&self.0, Place::Plain { .. }) {
            if matches!(&self.0, Place::Plain { daemon: Some(_), .. }) {
                self.end();
            }
            for (name, ..) in UNITS {
                drop(self.ask(Build::This, &["kill", "-q", name]));
            }
        }
    }
}

/// Both programs, each in the place of the one that is there.
fn copy(from: &Path, to: &Path) {
    for name in ["hatchway-shim", "hatchway"] {
        let fresh = to.join(format!("{name}.new"));
        fs::copy(from.join(name), &fresh).unwrap();
        fs::rename(&fresh, to.join(name)).unwrap();
    }
}

/// Brings each unit to the step of its life that it is to be in; gives who lives by then, with the recorder.
fn prepared(machine: &mut Machine, from: Build) -> Vec<(&'static str, String, String)> {
    machine.install(from);
    machine.begin();
    if from == Build::Earlier {
        machine.helped_to_start();
    }
    for name in ["runs", "ends", "stopping", "silenced", "between"] {
        machine.reaches(from, name, "ready");
    }
    machine.says(from, &["stop", "-q", "silenced"]);
    machine.reaches(from, "starting", "starting");
    machine.reaches(from, "loops", "degraded");
    machine.reaches(from, "ended", "failed");
    machine.says(from, &["stop", "-q", "--no-wait", "stopping"]);
    machine.reaches(from, "stopping", "stopping");
    // It has failed before, so that a count that begins anew would show.
    machine.says(from, &["start", "-q", "--no-wait", "fails"]);
    until("it does not fail", || machine.runs(from, "fails").len() >= 2);
    machine.reaches(from, "fails", "back-off");
    let living = ["starting", "runs", "ends", "stopping"].map(|name| {
        let run = machine.run_of(from, name);
        let recorder = machine.recorder(&run);
        assert_eq!(recorder.lines().count(), 1, "{name}: {recorder:?}");
        (name, run, recorder)
    });
    living.to_vec()
}

/// What each build says of each unit is the same, by the daemon that runs or by the files.
fn both_say_the_same(machine: &Machine, steps: &[(&str, &str)]) {
    for (name, phase) in steps {
        let [earlier, this] = BOTH.map(|build| {
            let why = machine.says(build, &["why", name]);
            let unit = machine.unit(build, name);
            let runs: Vec<Value> = machine
                .runs(build, name)
                .iter()
                .map(|run| serde_json::json!([run["run"], run["state"]]))
                .collect();
            let logs = machine.ask(build, &["logs", name, "-n", "1000000"]);
            (why, unit["unit"]["phase"].clone(), unit["run"].clone(), runs, logs)
        });
        assert_eq!(earlier.1, *phase, "{name}: {}", earlier.0);
        assert_eq!((&earlier.1, &earlier.2, &earlier.3), (&this.1, &this.2, &this.3), "{name}");
        // Causes are found by more rules as time goes on; what is so is said by the first line.
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(first(&earlier.0), first(&this.0), "{name}");
        let (earlier, this) = (earlier.4, this.4);
        assert_eq!(earlier.code, this.code, "{name}: {earlier}{this}");
        // It says more from one look to the next.
        assert!(this.stdout.starts_with(&earlier.stdout), "{name}: {earlier}{this}");
    }
}

fn counted(machine: &Machine, build: Build, name: &str) -> usize {
    let logs = machine.says(build, &["logs", name]);
    let numbers: Vec<usize> = logs.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "a line is missing");
    numbers.len()
}

/// Each number of an event once, in both's eyes.
fn journal_is_whole(machine: &Machine) {
    let read = |build| -> Vec<Value> {
        let text = machine.says(build, &["events", "--json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let [earlier, this] = BOTH.map(read);
    let numbers: Vec<u64> = this.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    for (one, other) in earlier.iter().zip(&this) {
        assert_eq!(
            (&one["kind"], &one["text"], &one["run"]),
            (&other["kind"], &other["text"], &other["run"])
        );
    }
}

fn changes(booted: bool, from: Build, to: Build) {
    let mut machine = Machine::new(booted);
    let living = prepared(&mut machine, from);
    let said = counted(&machine, from, "runs");
    // As a package does it: the programs first, and a unit that ends just then; then the daemon.
    machine.install(to);
    let old = machine.run_of(from, "between");
    drop(machine.ask(from, &["restart", "-q", "--no-wait", "between"]));
    until("nothing is begun between the two", || machine.run_of(from, "between") != old);
    // Some earlier daemons find no program any more, and say so; none may start what nobody knows of.
    let come_to_rest = |phase: &str| ["ready", "degraded"].contains(&phase);
    until("it does not come to rest", || come_to_rest(&machine.phase(from, "between")));
    if machine.phase(from, "between") == "degraded" {
        assert_eq!(from, Build::Earlier, "{}", machine.events(from));
        assert!(machine.says(from, &["why", "between"]).contains("it was not started"));
    }
    let between = machine.run_of(from, "between");
    machine.end();
    machine.touch(from, "ends");
    until("it does not end", || machine.unit(to, "ends")["state"] == "ended");
    machine.begin();

    // What has a person's word, what waits for one, and what has ended is left so.
    let rest = [("manual", "stopped"), ("silenced", "stopped"), ("loops", "degraded"), ("ended", "failed")];
    let goes_on = [("starting", "starting"), ("runs", "ready"), ("stopping", "stopping")];
    both_say_the_same(&machine, &[&rest[..], &goes_on[..]].concat());
    assert_eq!(machine.runs(to, "loops").len(), 5);
    assert_eq!(machine.runs(to, "ended").len(), 1);
    for (name, run, recorder) in living.iter().filter(|(name, ..)| *name != "ends") {
        assert_eq!(machine.run_of(to, name), *run, "{name} has another run");
        assert_eq!(machine.recorder(run), *recorder, "{name} has another recorder");
    }
    until("nothing more is said", || counted(&machine, to, "runs") > said);

    assert_eq!(machine.run_of(to, "between"), between, "what was begun between the two is lost");
    machine.says(to, &["start", "-q", "between"]);
    let kept = machine.run_of(to, "between");
    assert_eq!(machine.recorder("between/[0-9-]*"), machine.recorder(&kept), "nobody knows of one that runs");
    counted(&machine, to, "between");

    // The reason of an end between the two, and a start after it.
    let run = &living.iter().find(|(name, ..)| *name == "ends").unwrap().1;
    let told = |events: &str| events.lines().filter(|line| line.contains(" ends ended: ")).count();
    until("its end is not told", || told(&machine.events(to)) == 1);
    assert!(machine.events(to).contains("ends ended: it ended by itself with code 9"));
    machine.reaches(to, "ends", "ready");
    assert_ne!(machine.run_of(to, "ends"), *run);

    // The failures before count on.
    machine.reaches(to, "fails", "degraded");
    assert_eq!(machine.runs(to, "fails").len(), 5, "{}", machine.events(to));

    // Those that the other build has started do what the one that is there now asks of them.
    machine.touch(to, "starting");
    machine.reaches(to, "starting", "ready");
    machine.touch(from, "stopping");
    machine.reaches(to, "stopping", "stopped");
    let end = &machine.unit(to, "stopping")["record"]["reason"]["requested"];
    assert_eq!((&end["signal"], &end["forced"]), (&15.into(), &false.into()), "{end}");
    assert!(machine.says(to, &["stats", "runs"]).contains("runs"));
    machine.says(to, &["restart", "-q", "runs"]);
    let old = &living.iter().find(|(name, ..)| *name == "runs").unwrap().1;
    assert_ne!(machine.run_of(to, "runs"), *old);
    let logs = machine.says(to, &["logs", "runs", "--run", old]);
    assert!(logs.lines().count() > said, "{logs}");
    machine.says(to, &["start", "-q", "manual", "silenced"]);
    let steps = ["manual", "silenced", "runs", "ends", "starting"].map(|name| (name, "ready"));
    both_say_the_same(&machine, &steps);
    journal_is_whole(&machine);
    back(&mut machine, from, to);
}

/// Back to where it came from, with units that the build it goes away from has started.
fn back(machine: &mut Machine, from: Build, to: Build) {
    let names = ["manual", "silenced", "runs", "ends", "starting"];
    let runs = names.map(|name| machine.run_of(to, name));
    let recorders = runs.each_ref().map(|run| machine.recorder(run));
    machine.says(to, &["stop", "-q", "silenced"]);
    machine.install(from);
    machine.end();
    machine.begin();
    let steps = [
        ("manual", "ready"),
        ("silenced", "stopped"),
        ("runs", "ready"),
        ("starting", "ready"),
        ("fails", "degraded"),
        ("ended", "failed"),
    ];
    both_say_the_same(machine, &steps);
    for (index, name) in names.iter().enumerate().filter(|(_, name)| **name != "silenced") {
        assert_eq!(machine.run_of(from, name), runs[index], "{name} has another run");
        assert_eq!(machine.recorder(&runs[index]), recorders[index], "{name} has another recorder");
    }
    for name in ["manual", "runs"] {
        counted(machine, from, name);
    }
    machine.says(from, &["stop", "-q", "manual"]);
    assert_eq!(machine.phase(from, "manual"), "stopped");
    journal_is_whole(machine);
    // By the files alone, too.
    machine.end();
    both_say_the_same(machine, &steps[1..]);
}

#[test]
#[ignore = "it takes an earlier build; `cargo xtask upgrade` runs it"]
fn an_upgrade_without_systemd() {
    changes(false, Build::Earlier, Build::This);
}

#[test]
#[ignore = "it takes an earlier build; `cargo xtask upgrade` runs it"]
fn a_downgrade_without_systemd() {
    changes(false, Build::This, Build::Earlier);
}

#[test]
#[ignore = "it takes an earlier build; `cargo xtask upgrade` runs it"]
fn an_upgrade_under_systemd() {
    changes(true, Build::Earlier, Build::This);
}

#[test]
#[ignore = "it takes an earlier build; `cargo xtask upgrade` runs it"]
fn a_downgrade_under_systemd() {
    changes(true, Build::This, Build::Earlier);
}
