//! A machine under a real systemd with the package's service, a built tool, and an instrument whose units run the tool's shell.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, Outcome, program};
use hatchway_tests::systemd::Systemd;
use serde_json::Value;

use super::daemon::{ask, ask_at};
use super::rungs::Rungs;

const PATIENCE: Duration = Duration::from_secs(60);
/// Counts aloud until it is asked to end.
pub(super) const COUNTS: &str =
    "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done";

/// The programs as the package has them.
pub(super) const PROGRAM: &str = "/usr/bin/hatchway";
pub(super) const SHIM: &str = "/usr/libexec/hatchway/hatchway-shim";

pub(super) struct Machine {
    pub(super) host: Systemd,
}

/// A bench with a tool whose program is a shell: `acme`, and the same by other names with these lines in `[service]`.
pub(super) fn built(recipes: &[(&str, &str)]) -> Rungs {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    let path = |name: &str| bench.path(&format!("work/recipes/{name}/recipe.toml"));
    let text = fs::read_to_string(path("acme")).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("program =")).collect();
    let text = text.join("\n").replace("[run]", "[run]\nprogram = \"/usr/bin/dash\"");
    let text = format!("{text}\n[service]\n");
    for (name, service) in [&[("acme", "restart = \"on-failure\"")], recipes].concat() {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        let text = text.replace("name = \"acme\"", &format!("name = {name:?}"));
        fs::write(path(name), format!("{text}{service}\n")).unwrap();
        drop(bench.hatchway(&["lock", "-q", name]).ok());
        drop(bench.hatchway(&["build", "-q", name]).ok());
    }
    rungs
}

impl Machine {
    /// With these units, which may name the recipes: `acme`, and each other as `acme` with these lines more in its `[service]`.
    pub(super) fn new(units: &str, recipes: &[(&str, &str)]) -> Self {
        let rungs = built(recipes);
        let bench = &rungs.bench;
        let machine = Self { host: Systemd::start() };
        machine.install();
        machine.take(&bench.path("data"), "/var/lib/hatchway");
        machine.take(&bench.path("work/recipes"), "/etc/hatchway/recipes");
        let instrument = format!("schema = 1\n[instrument]\nname = \"x\"\n{units}");
        machine.host.write("/etc/hatchway/instrument.toml", instrument, 0o644);
        machine.host.says(&["systemctl", "daemon-reload"]);
        machine
    }

    fn install(&self) {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging");
        self.host.copy(program(), PROGRAM);
        self.host.copy(&program().with_file_name("hatchway-shim"), SHIM);
        self.host.copy(&packaging.join("hatchway.service"), "/etc/systemd/system/hatchway.service");
        // So that the watchdog bites within a test, though not a daemon that a busy machine holds up, and the next one comes soon.
        let quick = "[Service]\nWatchdogSec=8\nRestartSec=100ms\n";
        self.host.write("/etc/systemd/system/hatchway.service.d/test.conf", quick, 0o644);
    }

    /// systemd holds the API's socket, once it is started.
    pub(super) fn install_socket(&self) {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging");
        self.host.copy(&packaging.join("hatchway.socket"), "/etc/systemd/system/hatchway.socket");
        self.host.says(&["systemctl", "daemon-reload"]);
    }

    /// A folder with all in it.
    pub(super) fn take(&self, from: &Path, to: &str) {
        self.host.says(&["mkdir", "-p", to]);
        let mut pack =
            Command::new("tar").args(["-c", "-C"]).arg(from).arg(".").stdout(Stdio::piped()).spawn().unwrap();
        let unpacked =
            self.host.command(&["tar", "-x", "-C", to]).stdin(pack.stdout.take().unwrap()).status().unwrap();
        assert!(unpacked.success() && pack.wait().unwrap().success());
    }

    pub(super) fn hatchway(&self, words: &[&str]) -> Outcome {
        self.host.run(&[&["hatchway"], words].concat())
    }

    pub(super) fn begin(&self) {
        self.host.says(&["systemctl", "start", "hatchway"]);
    }

    /// Units as `hatchway status` has them.
    pub(super) fn status(&self) -> Vec<Value> {
        let outcome = self.hatchway(&["status", "--json"]);
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
    }

    pub(super) fn unit(&self, name: &str) -> Value {
        let all = self.status();
        let of_unit = all.iter().rfind(|one| one["tool"] == name && !one["unit"].is_null());
        of_unit.cloned().unwrap_or(Value::Null)
    }

    /// As its daemon says, which starts nothing here for that; else as its files say.
    pub(super) fn phase(&self, name: &str) -> String {
        let stream = UnixStream::connect(self.socket()).ok();
        let answer = stream.map(|stream| ask_at(stream, "GET", &format!("/v1/units/{name}"), ""));
        let unit = match answer {
            Some((200, unit)) => unit,
            _ => self.unit(name)["unit"].clone(),
        };
        unit["phase"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn run(&self, name: &str) -> String {
        self.unit(name)["run"].as_str().unwrap_or_default().to_owned()
    }

    /// Its run, once it is so far.
    pub(super) fn reaches(&self, name: &str, phase: &str) -> String {
        self.until(&format!("{name} is not {phase}"), || self.phase(name) == phase);
        self.run(name)
    }

    /// Waits, and tells what has happened where that is in vain.
    pub(super) fn until(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(
                Instant::now() < end,
                "{what}\n{}\n{}\n{}",
                self.hatchway(&["status"]),
                self.hatchway(&["events"]).stdout,
                self.host.run(&["journalctl", "--no-pager", "--lines=30"]).stdout
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn events(&self, name: &str) -> Vec<Value> {
        let outcome = self.hatchway(&["events", name, "--json"]).ok();
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many events of a unit's are of this kind.
    pub(super) fn told(&self, name: &str, kind: &str) -> usize {
        self.events(name).iter().filter(|event| event["kind"] == kind).count()
    }

    /// The transient service of a unit's run.
    pub(super) fn service(&self, name: &str) -> String {
        format!("hatchway-{name}-{}.service", self.run(name))
    }

    pub(super) fn recorder(&self, name: &str) -> String {
        self.host.property(&self.service(name), "MainPID")
    }

    /// The recorders that a unit has, whoever has started them.
    pub(super) fn recorders(&self, name: &str) -> Vec<String> {
        let pattern = format!("^[^ ]*hatchway-shim --unit /run/hatchway/units/{name}/");
        self.host.run(&["pgrep", "-f", &pattern]).stdout.lines().map(str::to_owned).collect()
    }

    pub(super) fn daemon(&self) -> String {
        self.host.property("hatchway", "MainPID")
    }

    pub(super) fn signal(&self, pid: &str, signal: &str) {
        self.host.says(&["kill", &format!("-{signal}"), pid]);
    }

    /// Once another daemon than this one is there and ready.
    pub(super) fn follows(&self, before: &str) {
        self.until("no other daemon comes", || !["0", before].contains(&self.daemon().as_str()));
        self.is_active();
    }

    pub(super) fn is_active(&self) {
        self.until("the daemon is not ready", || self.host.property("hatchway", "ActiveState") == "active");
    }

    /// Its API, as this test comes to it from outside.
    pub(super) fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/hatchway/api.sock", self.host.pid()))
    }

    pub(super) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        ask(&self.socket(), method, path, "")
    }

    /// What one that counts has said has no gaps.
    pub(super) fn has_counted(&self, name: &str) {
        let said = self.hatchway(&["logs", name]).ok().stdout;
        let numbers: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert!(!numbers.is_empty(), "{name} has said nothing");
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "what {name} has said has gaps");
    }

    /// Nothing of a unit's runs is left with systemd: no service, no process, no control group.
    pub(super) fn nothing_is_left(&self, name: &str) {
        let pattern = format!("hatchway-{name}-*");
        let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", &pattern];
        self.until(&format!("a service of {name} is left"), || self.host.says(&list).is_empty());
        let find = ["find", "/sys/fs/cgroup", "-type", "d", "-name", &pattern];
        self.until(&format!("a control group of {name} is left"), || self.host.says(&find).is_empty());
        assert_eq!(self.recorders(name), [""; 0], "a recorder of {name} is left");
    }
}
