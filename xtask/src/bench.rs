//! `cargo xtask bench SUBJECT`: what building and launching (`main-path`, `env`, `rungs`), reading a vendor's files (`inspect`) or keeping
//! units (`supervisor`, `systemd`) or reconstructing images (`recon`) costs, and what many starts and stops leave behind (`cycles`), as a block for docs/numbers.md.
//!
//! Times of one machine mean little on the next one, so launches are also given as ratios of pairs that ran in turns.

mod env;
pub(crate) use env::docker::Docker;
mod inspect;
mod recon;
mod rungs;
pub(crate) mod supervisor;
mod systemd;
mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{acme, build, setup, sh};

/// Rounds of interleaved launches; the median of 41 is one of the measured values.
const ROUNDS: usize = 41;

/// Starts and stops of a unit.
const CYCLES: usize = 10_000;

const TOOL: &str = "acme-gauss";

/// Where a bench plays: its own data folder, thrown away at the end.
pub(crate) struct Bench {
    scratch: sh::Scratch,
    program: PathBuf,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let subjects = args.positional();
    args.finish()?;
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let parts = subjects.get(1..).unwrap_or_default();
    let measure: &dyn Fn() -> Result<String> = match subjects[..] {
        ["main-path"] => &|| {
            main_path(&Bench { scratch: sh::Scratch::new("hatchway-bench")?, program: build::build(true)? })
        },
        ["env"] => &env::measure,
        ["inspect"] => &inspect::measure,
        ["recon"] => &recon::measure,
        ["rungs", ..] => &|| rungs::measure(parts),
        ["supervisor"] => &supervisor::measure,
        ["systemd"] => &systemd::measure,
        ["cycles"] => &|| supervisor::cycles(CYCLES),
        ["cycles", count] => &|| supervisor::cycles(count.parse().context("name a number of cycles")?),
        _ => bail!(
            "name what to measure\nhint: cargo xtask bench main-path, env, inspect, recon, rungs, supervisor, systemd or cycles [COUNT]"
        ),
    };
    setup::setup(yes)?;
    print!("{}", measure()?);
    Ok(())
}

fn main_path(bench: &Bench) -> Result<String> {
    let deb = acme::build(&bench.scratch.path)?;
    let file = deb.to_str().context("the package's path is not UTF-8")?;
    bench.run(&["new", file, "--name", TOOL])?;
    let lock_cold = bench.run(&["lock", TOOL])?;
    let lock_again = bench.run(&["lock", TOOL])?;
    bench.run(&["build", TOOL])?;
    bench.forget_trees()?;
    let first = bench.run(&["build", TOOL])?;
    let second = (0..5).map(|_| bench.run(&["build", TOOL])).collect::<Result<Vec<_>>>()?;
    let writes = trace::second_build(bench)?;
    let launches = launches(bench)?;

    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| text.push_str(&format!("| {what} | {value} |\n"));
    row("machine", machine()?);
    row("`lock`, nothing cached (network included)", format!("{:.2} s", lock_cold.as_secs_f64()));
    row("`lock` again", format!("{:.2} s", lock_again.as_secs_f64()));
    row("`build`, packages downloaded, store empty", format!("{:.2} s", first.as_secs_f64()));
    row("`build` again, median of 5", format!("{:.1} ms", milliseconds(median(&second)?)));
    row("writes into the store by `build` again (strace)", writes.changes.len().to_string());
    row("package files opened by `build` again (strace)", writes.packages.len().to_string());
    for launch in &launches {
        row(&format!("launch of `true`, {}", launch.name), launch.describe()?);
    }
    for (over, under) in [(0, 1), (0, 2), (1, 2)] {
        let (over, under) = (&launches[over], &launches[under]);
        row(&format!("{} / {}, {ROUNDS} pairs", over.name, under.name), over.ratio(under)?);
    }
    if !writes.changes.is_empty() || !writes.packages.is_empty() {
        print!("{text}");
        let seen: Vec<&str> =
            writes.changes.iter().chain(&writes.packages).map(String::as_str).take(20).collect();
        bail!("a second build must write nothing and open no package; it did:\n{}", seen.join("\n"));
    }
    Ok(text)
}

impl Bench {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.prepare(command.args(args));
        command
    }

    fn prepare(&self, command: &mut Command) {
        command
            .current_dir(&self.scratch.path)
            .env("XDG_DATA_HOME", &self.scratch.path)
            .env("XDG_CACHE_HOME", self.scratch.path.join("cache"))
            .env("XDG_CONFIG_HOME", self.scratch.path.join("config"))
            .env("HATCHWAY_DATA_DIR", self.data())
            .stdin(Stdio::null());
    }

    fn data(&self) -> PathBuf {
        self.scratch.path.join("hatchway")
    }

    /// How long `hatchway ARGS` took.
    fn run(&self, args: &[&str]) -> Result<Duration> {
        eprintln!("$ hatchway {}", args.join(" "));
        timed(&mut self.command(args), Stdio::null())
    }

    /// Leaves the downloads and takes away what `build` makes of them.
    fn forget_trees(&self) -> Result<()> {
        for name in ["trees", "manifests", "builds", "packages", "objects"] {
            let folder = self.data().join("store").join(name);
            if !folder.is_dir() {
                bail!("`{}` is no folder; the store's layout has changed", folder.display());
            }
            sh::remove_folder(&folder)?;
        }
        Ok(())
    }
}

/// One way to start `true`, with its times in the order of the rounds.
struct Launch {
    name: &'static str,
    times: Vec<Duration>,
}

impl Launch {
    fn describe(&self) -> Result<String> {
        let least = self.times.iter().min().context("nothing was measured")?;
        Ok(format!("min {:.2} ms, median {:.2} ms", milliseconds(*least), milliseconds(median(&self.times)?)))
    }

    /// Over the pairs of one round each, so that a slow moment of the machine hits both.
    fn ratio(&self, under: &Self) -> Result<String> {
        ratio(&self.times, &under.times)
    }
}

/// Our times and those of another program, in the order of the rounds.
struct Pair {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

impl Pair {
    fn ratio(&self) -> Result<String> {
        ratio(&self.ours, &self.theirs)
    }
}

fn ratio(over: &[Duration], under: &[Duration]) -> Result<String> {
    let pairs = over.iter().zip(under);
    let mut ratios: Vec<f64> = pairs.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let least = ratios.first().context("nothing was measured")?;
    Ok(format!("min {least:.2}, median {:.2}", ratios[ratios.len() / 2]))
}

/// A name for the report, and how to make the command.
type Starter = (&'static str, fn(&Bench) -> Command);

fn launches(bench: &Bench) -> Result<Vec<Launch>> {
    let commands: [Starter; 3] = [
        ("`hatchway run`", |bench| bench.command(&["run", TOOL, "--program", "/bin/true"])),
        ("`bwrap`", |_| {
            let mut command = Command::new("bwrap");
            command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"]);
            command.args(["--proc", "/proc", "--tmpfs", "/tmp", "/bin/true"]);
            command
        }),
        ("bare", |_| Command::new("/bin/true")),
    ];
    let mut launches: Vec<Launch> =
        commands.iter().map(|(name, _)| Launch { name, times: Vec::new() }).collect();
    // One round more than counts: the first one warms caches.
    for round in 0..=ROUNDS {
        for step in 0..commands.len() {
            let index = (round + step) % commands.len();
            let took = timed(&mut (commands[index].1)(bench), Stdio::null())?;
            if round > 0 {
                launches[index].times.push(took);
            }
        }
    }
    Ok(launches)
}

fn timed(command: &mut Command, stdin: Stdio) -> Result<Duration> {
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().with_context(|| format!("cannot start `{}`", sh::shown(command)))?;
    let took = started.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` {}: {said}", sh::shown(command), sh::ended(output.status));
    }
    Ok(took)
}

fn median(times: &[Duration]) -> Result<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().context("nothing was measured")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The machine in a few words: nothing that names it.
fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("cannot read `/proc/cpuinfo`")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let kernel =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
    let cores = std::thread::available_parallelism()?;
    let who = if sh::is_root()? { "root" } else { "an ordinary user" };
    // The release number alone: what follows it names a build.
    let release: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    Ok(format!("{cores} × {model}, Linux {}, as {who}", release.join(".")))
}

/// The traced program is ours alone; `trace` builds its command here.
fn traced(bench: &Bench, log: &Path, calls: &str, args: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "4096", "-e"]).arg(format!("trace={calls}")).arg("-o").arg(log);
    bench.prepare(command.arg(&bench.program).args(args));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_pairs() {
        let launch =
            |name, times: [u64; 3]| Launch { name, times: times.map(Duration::from_millis).to_vec() };
        let (slow, fast) = (launch("slow", [4, 30, 5]), launch("fast", [2, 10, 5]));
        assert_eq!(slow.ratio(&fast).unwrap(), "min 1.00, median 2.00");
        assert_eq!(fast.describe().unwrap(), "min 2.00 ms, median 5.00 ms");
    }
}
