//! What the daemon costs, and what a kill of it costs its units: a hundred units, and one that counts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, TOOL, machine, median, milliseconds};
use crate::{acme, build, sh};

const UNITS: usize = 100;
/// Cycles after which everything that is made once is there.
const WARM: usize = 100;
/// Kills of the daemon at random moments of its life.
const KILLS: u64 = 1000;
/// Restarts whose time counts.
const RESTARTS: usize = 31;
/// Starts of a unit, in turns with `hatchway run`.
const STARTS: usize = 31;
/// How long idle units are looked at.
const IDLE: Duration = Duration::from_secs(20);
/// As long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(120);
/// The kernel's ticks of processor time, a hundredth of a second on every Linux for users (`USER_HZ`, time(7)).
const TICK: Duration = Duration::from_millis(10);
pub(crate) const SLEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
const COUNTS: &str = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done";
/// When the tool has come so far that it says the time.
const TELLS: &str = "date +%s%N";

/// A daemon with an instrument of stand-ins; nothing of it goes on after this.
pub(crate) struct Stage {
    bench: Bench,
    daemon: Option<Child>,
}

pub(super) fn measure() -> Result<String> {
    let mut units: String = (1..UNITS).map(|number| unit(&format!("u{number}"), SLEEPS, "")).collect();
    units += &unit("counts", COUNTS, "");
    units += &unit("tells", TELLS, "start = \"manual\"");
    let mut stage = Stage::new(&units)?;
    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| text.push_str(&format!("| {what} | {value} |\n"));
    row("machine", machine()?);
    let begun = stage.begin()?;
    stage.all_ready()?;
    row(
        &format!("{UNITS} units started by a daemon that begins, until all are ready"),
        seconds(begun.elapsed()),
    );
    row(
        &format!("processor time of {UNITS} idle units and the daemon (wanted: under 1 % of a core)"),
        stage.idle()?,
    );
    row("resident memory of a recorder (wanted: under 3 MiB)", stage.recorders()?);
    row("resident memory of the daemon", format!("{} KiB", resident(stage.pid()?)?));
    let times = stage.restarts()?;
    let most = times.iter().max().context("nothing was measured")?;
    let text_of =
        format!("median {:.0} ms, max {:.0} ms", milliseconds(median(&times)?), milliseconds(*most));
    row(
        &format!("killed, begun again, all {UNITS} looked after, {RESTARTS} times (wanted: 500 ms)"),
        text_of,
    );
    let (ours, theirs) = stage.starts()?;
    let (ours, theirs) = (milliseconds(median(&ours)?), milliseconds(median(&theirs)?));
    row("tool's first word after `hatchway run`", format!("median {theirs:.1} ms"));
    row(
        "the same after a start by the API (wanted: 15 ms more)",
        format!("median {ours:.1} ms, {:+.1} ms", ours - theirs),
    );
    row(&format!("{KILLS} kills of the daemon at random moments"), stage.kills()?);
    stage.end()?;
    Ok(text)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub(crate) fn unit(name: &str, script: &str, more: &str) -> String {
    format!("[unit.{name}]\nrecipe = {TOOL:?}\nargs = [\"-c\", {script:?}]\n{more}\n")
}

/// Starts a unit and stops it, again and again; what there is more of at the end than after the first hundred was leaked.
pub(super) fn cycles(count: usize) -> Result<String> {
    let mut stage = Stage::new(&unit("turns", SLEEPS, "start = \"manual\""))?;
    stage.begin()?;
    stage.until_answers()?;
    let begun = Instant::now();
    let mut before = Vec::new();
    for cycle in 0..count {
        if cycle == WARM {
            before = stage.held()?;
        }
        stage.turn("start", "\"phase\":\"ready\"")?;
        stage.turn("stop", "\"phase\":\"stopped\"")?;
        if cycle % 1000 == 999 {
            eprintln!("{} cycles in {:.0} s", cycle + 1, begun.elapsed().as_secs_f64());
        }
    }
    let after = stage.held()?;
    let mut text = format!(
        "| what, after {count} starts and stops | after {WARM} | at the end |\n| --- | --- | --- |\n"
    );
    let mut more = Vec::new();
    for ((what, before), (_, after)) in before.iter().zip(&after) {
        text.push_str(&format!("| {what} | {before} | {after} |\n"));
        // Memory is measured, not counted.
        if after > before && !what.contains("KiB") {
            more.push(*what);
        }
    }
    text.push_str(&format!("| seconds | | {:.0} |\n", begun.elapsed().as_secs_f64()));
    stage.kill()?;
    ensure!(more.is_empty(), "there is more than before of: {}\n{text}", more.join(", "));
    Ok(text)
}

impl Stage {
    /// What the machine and the daemon hold.
    fn held(&self) -> Result<Vec<(&'static str, usize)>> {
        let pid = self.pid()?;
        let entries = |path: &str| fs::read_dir(path).map(Iterator::count);
        let groups = Command::new("find").args(["/sys/fs/cgroup", "-type", "d"]).output()?.stdout;
        let processes = pids(&self.bench.scratch.path.display().to_string())?.len();
        Ok(vec![
            ("descriptors of the daemon", entries(&format!("/proc/{pid}/fd"))?),
            ("processes of the instrument", processes),
            ("mounts", fs::read_to_string("/proc/self/mountinfo")?.lines().count()),
            ("control groups", groups.iter().filter(|byte| **byte == b'\n').count()),
            ("folders of runs", entries(&format!("{}/run/units/turns", self.bench.data().display()))?),
            ("KiB of the daemon in memory", usize::try_from(resident(pid)?)?),
        ])
    }

    pub(crate) fn until_answers(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            ensure!(Instant::now() < end, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Asks, and waits until the unit is so.
    fn turn(&self, verb: &str, wanted: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        ask(&self.socket(), "POST", &format!("/v1/units/turns/{verb}"))
            .context("the daemon does not answer")?;
        loop {
            let unit = ask(&self.socket(), "GET", "/v1/units/turns").unwrap_or_default();
            if unit.contains(wanted) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the unit is not so after `{verb}`: {unit}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn new(units: &str) -> Result<Self> {
        let bench = Bench { scratch: sh::Scratch::new("hatchway-bench")?, program: build::build(true)? };
        let deb = acme::build(&bench.scratch.path)?;
        let file = deb.to_str().context("the package's path is not UTF-8")?;
        bench.run(&["new", file, "--name", TOOL])?;
        let recipe = bench.scratch.path.join("recipes").join(TOOL).join("recipe.toml");
        let text = fs::read_to_string(&recipe)?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("program = ")).collect();
        let mut text = lines.join("\n");
        if !text.contains("[run]") {
            text.push_str("\n[run]\n");
        }
        fs::write(&recipe, text.replace("[run]", "[run]\nprogram = \"/usr/bin/dash\""))?;
        bench.run(&["lock", TOOL])?;
        bench.run(&["build", TOOL])?;
        let instrument = format!("schema = 1\n[instrument]\nname = \"bench\"\n{units}");
        fs::write(bench.scratch.path.join("instrument.toml"), instrument)?;
        Ok(Self { bench, daemon: None })
    }

    pub(crate) fn begin(&mut self) -> Result<Instant> {
        let mut command = self.bench.command(&["daemon", "instrument.toml"]);
        let begun = Instant::now();
        self.daemon = Some(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?);
        Ok(begun)
    }

    fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon runs")?.id())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.bench.scratch.path
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.bench.data().join("run/api.sock")
    }

    /// How many units are ready.
    fn ready(&self) -> usize {
        ask(&self.socket(), "GET", "/v1/units").unwrap_or_default().matches("\"phase\":\"ready\"").count()
    }

    fn all_ready(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.ready() < UNITS {
            ensure!(Instant::now() < end, "{} of {UNITS} units are ready", self.ready());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What all of them use while nothing happens; the one that counts is held meanwhile.
    fn idle(&self) -> Result<String> {
        self.bench.run(&["stop", "counts"])?;
        let before = self.used()?;
        std::thread::sleep(IDLE);
        let used = self.used()?.saturating_sub(before);
        self.bench.run(&["start", "counts"])?;
        Ok(format!("{:.2} % of a core", used.as_secs_f64() / IDLE.as_secs_f64() * 100.0))
    }

    /// Processor time of the daemon and of everything below the recorders.
    fn used(&self) -> Result<Duration> {
        let mut ticks = ticks_of(self.pid()?)?;
        for pid in pids(&format!("--unit {}", self.bench.data().display()))? {
            for pid in below(pid) {
                ticks += ticks_of(pid).unwrap_or_default();
            }
        }
        Ok(TICK * ticks)
    }

    fn recorders(&self) -> Result<String> {
        let pids = pids(&format!("--unit {}", self.bench.data().display()))?;
        let mut sizes = pids.into_iter().map(resident).collect::<Result<Vec<u64>>>()?;
        sizes.sort_unstable();
        let most = sizes.last().context("there is none")?;
        Ok(format!("median {} KiB, max {most} KiB of {}", sizes[sizes.len() / 2], sizes.len()))
    }

    fn restarts(&mut self) -> Result<Vec<Duration>> {
        let before = self.runs()?;
        let mut times = Vec::new();
        for _ in 0..RESTARTS {
            self.kill()?;
            let begun = self.begin()?;
            self.all_ready()?;
            times.push(begun.elapsed());
        }
        ensure!(self.runs()? == before, "a unit has another run than before");
        Ok(times)
    }

    /// The names of all runs that go on.
    fn runs(&self) -> Result<Vec<String>> {
        let output = self.bench.command(&["status", "--json"]).output()?;
        let all: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let running = all.as_array().context("no list")?.iter().filter(|one| one["state"] == "running");
        Ok(running.map(|one| format!("{} {}", one["tool"], one["run"])).collect())
    }

    /// From the wish to the tool's first word: by the API, and by `hatchway run`, in turns.
    fn starts(&self) -> Result<(Vec<Duration>, Vec<Duration>)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let begun = now();
            ask(&self.socket(), "POST", "/v1/units/tells/restart").context("the daemon does not answer")?;
            ours.push(Duration::from_nanos(self.told(begun)?.saturating_sub(begun)));
            let begun = now();
            let mut command = self.bench.command(&["run", "-q", "--offline", TOOL, "--", "-c", TELLS]);
            let said = String::from_utf8(command.output()?.stdout)?;
            theirs.push(Duration::from_nanos(said.trim().parse::<u64>()?.saturating_sub(begun)));
        }
        Ok((ours, theirs))
    }

    /// The time that the unit has said since then.
    fn told(&self, since: u64) -> Result<u64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.bench.command(&["logs", "tells"]).output()?.stdout;
            let last =
                String::from_utf8_lossy(&said).lines().last().and_then(|line| line.parse::<u64>().ok());
            if let Some(time) = last.filter(|time| *time > since) {
                return Ok(time);
            }
            ensure!(Instant::now() < end, "the unit says nothing");
        }
    }

    fn kills(&mut self) -> Result<String> {
        let before = self.runs()?;
        for round in 0..KILLS {
            // From its first steps to some moments after all is found again.
            std::thread::sleep(Duration::from_micros(round * 7919 % 250_000));
            self.kill()?;
            self.begin()?;
        }
        self.all_ready()?;
        let after = self.runs()?;
        let gone = before.iter().filter(|run| !after.contains(run)).count();
        self.bench.run(&["stop", "counts"])?;
        let said =
            String::from_utf8(self.bench.command(&["logs", "counts", "--stream", "out"]).output()?.stdout)?;
        let wrong = said.lines().enumerate().filter(|(at, line)| line.parse() != Ok(at + 1)).count();
        ensure!(said.lines().count() > 100, "the unit that counts has said nothing");
        Ok(format!(
            "{gone} of {UNITS} units stopped, {wrong} of {} lines missing or wrong",
            said.lines().count()
        ))
    }

    fn end(&mut self) -> Result<()> {
        for number in 1..UNITS {
            let _answer = ask(&self.socket(), "POST", &format!("/v1/units/u{number}/stop"));
        }
        let end = Instant::now() + PATIENCE;
        while !self.runs()?.is_empty() {
            if Instant::now() >= end {
                bail!("units are left: {:?}", self.runs()?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // A measurement that failed: nothing of it goes on.
            drop(daemon.kill());
            drop(daemon.wait());
            for pid in pids(&format!("--unit {}", self.bench.data().display())).unwrap_or_default() {
                drop(Command::new("kill").args(["-TERM", &pid.to_string()]).status());
            }
        }
    }
}

/// A request by hand, so that no client's time is counted.
fn ask(socket: &Path, method: &str, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Processes whose command line has this in it.
fn pids(pattern: &str) -> Result<Vec<u32>> {
    let output =
        Command::new("pgrep").args(["-f", "--", pattern]).output().context("cannot start `pgrep`")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect())
}

/// A process and all below it.
fn below(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|word| word.parse().ok());
    std::iter::once(pid).chain(children.flat_map(below)).collect()
}

/// Of its own threads, user and system (proc_pid_stat(5), fields 14 and 15).
fn ticks_of(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no process")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
    Ok(field(11) + field(12))
}

/// In KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no process")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}
