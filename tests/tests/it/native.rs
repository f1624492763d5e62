//! Native services as units: programs of Hatchway's own, on this machine as it is, and no more of it than an ordinary user has.

use std::fs;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::{Bench, is_root, program};

use super::daemon::{Instrument, STAYS, unit};
use super::rungs::until;

/// In the place of a service: says who it is, what it was told, what it can write, and when it is ready.
const SERVICE: &str = r#"#!/bin/sh
trap 'echo bye; exit 0' TERM
echo "arguments $*"
echo "settings $(cat "$2")"
echo "uid $(id -u) capabilities $(sed -n 's/^CapEff:\t0*//p' /proc/self/status)<"
sed -n 's/^NoNewPrivs:/more privileges:/p' /proc/self/status
echo "processes $(ls -d /proc/[0-9]* | wc -l)"
for folder in "$STATE_DIRECTORY" "$RUNTIME_DIRECTORY" /tmp /var/tmp /etc; do
    if touch "$folder/hatchway-native-$$" 2> /dev/null; then
        rm "$folder/hatchway-native-$$"; echo "writes $folder"
    fi
done
echo "{\"realtime_ns\": $(date +%s%N), \"kind\": \"calibrated\", \"text\": \"gain 2.5\"}" >> "$RUNTIME_DIRECTORY/events.jsonl"
echo x >> "$STATE_DIRECTORY/runs"; echo "run $(wc -l < "$STATE_DIRECTORY/runs")"
test -e ready || while test ! -e ready; do sleep 0.05; done
systemd-notify --ready --status="takes measurements"
while :; do sleep 0.05; done
"#;

/// An instrument, and a copy of the programs with the service beside them.
fn instrument(bench: Bench, units: &str) -> Instrument {
    let instrument = Instrument::of(bench, units);
    let folder = instrument.bench().path("work/bin");
    fs::create_dir(&folder).unwrap();
    for file in [program().to_owned(), program().with_file_name("hatchway-shim")] {
        install(&file, &folder, "755");
    }
    put(&instrument, SERVICE, "755");
    instrument
}

fn put(instrument: &Instrument, text: &str, mode: &str) {
    let written = instrument.bench().put("hatchway-acmed", text);
    install(&written, &instrument.bench().path("work/bin"), mode);
}

/// By another process: what this one has open to write may be inherited by what another test starts just then, and a program that
/// somebody may write to is not executed.
fn install(file: &Path, folder: &Path, mode: &str) {
    let done = Command::new("install").args(["-m", mode, "-t"]).arg(folder).arg(file).status().unwrap();
    assert!(done.success());
}

fn begin(instrument: &mut Instrument) {
    instrument.begin_with("HATCHWAY=$PWD/bin/hatchway; ");
}

const UNIT: &str = "[unit.daq]\nservice = \"hatchway-acmed\"\nargs = [\"--config\", \"daq.toml\"]\n";

#[test]
fn a_native_service_is_a_unit_like_any_other() {
    let mut instrument =
        instrument(Bench::new(), &(UNIT.to_owned() + &unit("a", STAYS, "after = [\"daq\"]")));
    let bench = || instrument.bench();
    drop(bench().put("daq.toml", "rate = 7"));
    begin(&mut instrument);
    let bench = || instrument.bench();
    until("it does not say what it is", || bench().hatchway(&["logs", "daq"]).stdout.contains("run 1\n"));
    assert_eq!(
        (instrument.phase("daq"), instrument.phase("a")),
        ("starting".to_owned(), "blocked".to_owned())
    );
    bench().put("ready", "");
    instrument.reaches("daq", "ready");
    instrument.reaches("a", "ready");
    let said = bench().hatchway(&["logs", "daq"]).ok().stdout;
    let uid = said.lines().find_map(|line| line.strip_prefix("uid ")).unwrap().to_owned();
    assert!(uid.ends_with(" capabilities <") && !uid.starts_with("0 "), "{said}");
    for line in ["arguments --config daq.toml", "settings rate = 7", "more privileges:\t1"] {
        assert!(said.lines().any(|other| other == line), "{line}\n{said}");
    }
    // Itself, the shim, and what counts.
    let processes = said.lines().find_map(|line| line.strip_prefix("processes ")).unwrap();
    assert!(processes.parse::<usize>().unwrap() < 8, "{said}");
    assert_eq!(writes(&said), wanted(&instrument), "{said}");
    shown(&instrument);
    restarted(&instrument);
    replaced(&instrument);
}

/// The program of reconstruction as an instrument has it: from a source to images, and counts at the end.
#[test]
fn reconstruction_is_a_native_service() {
    let unit = "[unit.recon]\nservice = \"hatchway-recon\"\nargs = [\"serve\", \"serve-2d.toml\"]\n";
    let mut instrument = Instrument::of(Bench::new(), unit);
    let bench = || instrument.bench();
    let folder = bench().path("work/bin");
    fs::create_dir(&folder).unwrap();
    for name in ["hatchway", "hatchway-shim", "hatchway-recon"] {
        install(&program().with_file_name(name), &folder, "755");
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recon");
    let example = |name: &str| fs::read_to_string(examples.join(name)).unwrap();
    drop(bench().put("lissajous-2d.toml", example("lissajous-2d.toml")));
    let mut doors = example("serve-2d.toml");
    for port in [5030, 5031, 18944, 5032] {
        doors = doors.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    }
    drop(bench().put("serve-2d.toml", &doors));
    let work = bench().path("work");
    let recon = |args: &[&str]| {
        let done =
            Command::new(folder.join("hatchway-recon")).args(args).current_dir(&work).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    recon(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf", "--calibration", "calibration.mdf"]);
    begin(&mut instrument);
    instrument.reaches("recon", "ready");
    let bench = || instrument.bench();
    let said = || bench().hatchway(&["logs", "recon"]).ok().stdout;
    let door = |name: &str| {
        let said = said();
        let door =
            said.lines().find_map(|line| line.split_once(&format!("{name} at "))).map(|(_, door)| door);
        door.unwrap_or_else(|| panic!("no `{name}` in\n{said}")).to_owned()
    };
    recon(&["feed", "scan.mdf", &door("frames"), "--fast"]);
    let seen = recon(&["watch", &door("images"), "--images", "1", "--json"]);
    assert!(seen.contains("\"unit\":\"mmol/L\"") && seen.contains("\"simulated\":true"), "{seen}");
    drop(bench().hatchway(&["stop", "recon"]).ok());
    let said = said();
    assert!(said.contains("frames    40 came, 20 of them background, 0 were lost before"), "{said}");
}

/// Which of the folders it could write.
fn writes(said: &str) -> Vec<String> {
    said.lines().filter_map(|line| line.strip_prefix("writes ")).map(str::to_owned).collect()
}

/// Where the kernel has Landlock its own two and `/tmp`; else what its user may.
fn wanted(instrument: &Instrument) -> Vec<String> {
    let doctor = instrument.bench().hatchway(&["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().or(doctor.as_array()).unwrap();
    let landlock = checks.iter().find(|check| check["name"] == "Landlock").unwrap();
    let own = ["[bench]/data/services/daq", "[bench]/data/run/services/daq", "/tmp"];
    let mut wanted = own.map(str::to_owned).to_vec();
    if landlock["state"] != "works" {
        wanted.push("/var/tmp".to_owned());
    }
    wanted
}

fn shown(instrument: &Instrument) {
    let show = instrument.bench().hatchway(&["show", "daq"]).ok().stdout;
    assert!(show.contains("service    hatchway-acmed\n"), "{show}");
    assert!(show.contains("it says: takes measurements\n"), "{show}");
    let timeline = instrument.bench().hatchway(&["timeline", "daq"]).ok().stdout;
    let line =
        timeline.lines().find(|line| line.contains("calibrated")).unwrap_or_else(|| panic!("{timeline}"));
    assert!(line.ends_with("daq    calibrated: gain 2.5"), "{timeline}");
    let why = instrument.bench().hatchway(&["why", "daq"]);
    assert!(why.stdout.contains("runs"), "{why}");
}

/// Killed, it starts again with its state, and `stop` asks it to end.
fn restarted(instrument: &Instrument) {
    let bench = instrument.bench();
    let first = instrument.unit("daq")["run"].clone();
    let line = format!("^/bin/sh {}/hatchway-acmed ", bench.path("work/bin").display());
    let killed = Command::new("pkill").args(["--signal", "KILL", "--full", &line]).status().unwrap();
    assert!(killed.success());
    until("it is not started again", || {
        let now = instrument.unit("daq");
        now["run"] != first && now["unit"]["phase"] == "ready"
    });
    let said = bench.hatchway(&["logs", "daq"]).ok().stdout;
    assert!(said.contains("run 2\n"), "{said}");
    let history = bench.hatchway(&["history", "daq", "--json"]).ok().json();
    let killed = history.as_array().unwrap().iter().find(|one| one["run"] == first).unwrap();
    assert_eq!(killed["record"]["reason"]["signal"]["signal"], 9, "{killed:#}");
    drop(bench.hatchway(&["stop", "daq"]).ok());
    assert_eq!(instrument.unit("daq")["record"]["reason"]["requested"]["forced"], false);
    assert!(bench.hatchway(&["logs", "daq"]).ok().stdout.ends_with("bye\n"));
    drop(bench.hatchway(&["start", "daq"]).ok());
    instrument.reaches("daq", "ready");
}

/// Another program under its name is another configuration, once somebody says so.
fn replaced(instrument: &Instrument) {
    let run = instrument.unit("daq")["run"].clone();
    drop(fs::remove_file(instrument.bench().path("work/bin/hatchway-acmed")));
    put(instrument, &SERVICE.replace("takes measurements", "takes others"), "755");
    assert_eq!(instrument.unit("daq")["run"], run);
    let up = |more: &[&str]| {
        let line = format!("bin/hatchway up instrument.toml {} < /dev/null", more.join(" "));
        instrument.bench().script(&line)
    };
    assert!(up(&["--dry-run"]).stdout.contains("restart  daq"), "{}", up(&["--dry-run"]));
    drop(up(&["--yes"]).ok());
    until("it is not the other one", || {
        instrument.bench().hatchway(&["show", "daq"]).stdout.contains("takes others")
    });
}

#[test]
fn an_ordinary_user_has_native_services_too() {
    let mut instrument = instrument(Bench::ordinary(), UNIT);
    drop(instrument.bench().put("daq.toml", "rate = 7"));
    drop(instrument.bench().put("ready", ""));
    begin(&mut instrument);
    instrument.reaches("daq", "ready");
    let said = instrument.bench().hatchway(&["logs", "daq"]).ok().stdout;
    assert!(said.contains(" capabilities <\n") && said.contains("settings rate = 7\n"), "{said}");
    drop(instrument.bench().hatchway(&["stop", "daq"]).ok());
}

#[test]
fn a_program_that_is_not_there_or_is_anybodys_is_not_started() {
    let mut instrument = instrument(Bench::new(), UNIT);
    drop(fs::remove_file(instrument.bench().path("work/bin/hatchway-acmed")));
    let up = instrument.bench().script("bin/hatchway up instrument.toml --yes < /dev/null");
    assert_eq!(up.code, Some(2), "{up}");
    assert!(up.stderr.starts_with("error: there is no native service `hatchway-acmed`\nhint: "), "{up}");
    if is_root() {
        put(&instrument, SERVICE, "777");
        let up = instrument.bench().script("bin/hatchway up instrument.toml --yes < /dev/null");
        assert!(up.stderr.contains("can be changed by others than root"), "{up}");
    }
    put(&instrument, SERVICE, "755");
    drop(instrument.bench().put("ready", ""));
    drop(instrument.bench().put("daq.toml", ""));
    begin(&mut instrument);
    instrument.reaches("daq", "ready");
    // Gone afterwards: the next start says so.
    drop(fs::remove_file(instrument.bench().path("work/bin/hatchway-acmed")));
    drop(instrument.bench().hatchway(&["stop", "daq"]).ok());
    drop(instrument.bench().hatchway(&["start", "daq"]));
    until("it is not said", || {
        instrument
            .bench()
            .hatchway(&["why", "daq"])
            .stdout
            .contains("there is no native service `hatchway-acmed`")
    });
}
