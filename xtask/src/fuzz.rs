//! `cargo xtask fuzz [TARGET...]`: libFuzzer over every parser of hatchway-inspect, of what guests say, of the messages about a unit, and of
//! what reconstruction reads, on stable Rust.
//!
//! Coverage comes from LLVM's SanitizerCoverage pass through stable options of rustc; a sanitizer, which only nightly
//! offers, is not needed where no `unsafe` is. Everything a run leaves is in the target folder's `fuzz`: `seeds` made by
//! real tools, the growing `corpus`, `crashes`, `logs`, and the figures of the last run in `results.json`.

mod guests;
mod handmade;
mod report;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use self::report::Report;
use crate::sh;

/// A fuzz target: its program, and the largest input that libFuzzer may make for it.
#[derive(Debug, Clone, Copy)]
struct Target {
    name: &'static str,
    bytes_max: u32,
    /// The crate whose folder `fuzz` has it.
    of: &'static str,
}

/// Large enough for the largest seed of the kind, so that none is cut.
const TARGETS: &[Target] = &[
    Target { name: "any", bytes_max: 96 << 10, of: "inspect" },
    Target { name: "cab", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "cpio", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "deb", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "elf", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "frames", bytes_max: 4 << 10, of: "recon" },
    Target { name: "guest", bytes_max: 16 << 10, of: "inspect" },
    Target { name: "iso", bytes_max: 96 << 10, of: "inspect" },
    Target { name: "machinereadable", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "mdf", bytes_max: 64 << 10, of: "recon" },
    Target { name: "module", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "msi", bytes_max: 64 << 10, of: "inspect" },
    Target { name: "mux", bytes_max: 16 << 10, of: "inspect" },
    Target { name: "pe", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "pyinstaller", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "qmp", bytes_max: 16 << 10, of: "inspect" },
    Target { name: "rpm", bytes_max: 64 << 10, of: "inspect" },
    Target { name: "script", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "squashfs", bytes_max: 64 << 10, of: "inspect" },
    Target { name: "stl", bytes_max: 8 << 10, of: "recon" },
    Target { name: "tar", bytes_max: 32 << 10, of: "inspect" },
    Target { name: "unit", bytes_max: 16 << 10, of: "inspect" },
    Target { name: "zip", bytes_max: 32 << 10, of: "inspect" },
];

/// Seconds each target gets in `cargo xtask test fuzz`: with the build it stays within the part's budget.
const TEST_SECONDS: u64 = 5;
/// Seconds each target gets when nothing else is asked for.
const SECONDS: u64 = 60;
/// Seconds one execution may take by the clock. The slowest seed takes milliseconds, but other work may hold the process up.
const TIMEOUT: u64 = 30;
/// Memory of one process. The allocator in the targets holds Rust's share to a quarter of it.
const RSS_MB: u64 = 1024;

/// Counters in every block of code. The names are those of LLVM's SanitizerCoverage pass.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg=fuzzing",
];
/// Tells libFuzzer what is compared with what. It finds the way to new code, and is a third of the time.
const TRACE_COMPARES: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";

/// Crates that are built without: compression, hashing and searching are where the time goes, are not what is tested
/// here, and every comparison in them would be looked at.
const PLAIN_CRATES: &[&str] = &[
    "block_buffer",
    "bzip2",
    "crc32fast",
    "digest",
    "flate2",
    "libbz2_rs_sys",
    "memchr",
    "schemars",
    "serde",
    "serde_core",
    "serde_json",
    "sha2",
    "similar",
    "zlib_rs",
];

/// Set for cargo, which then calls this program instead of rustc.
const WRAPS_RUSTC: &str = "HATCHWAY_XTASK_WRAPS_RUSTC";

/// Named so that build scripts and procedural macros, which run on the host, are not instrumented.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// When a target has run enough.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Runs(u64),
    Seconds(u64),
}

/// What is to be run, and where everything is.
struct Plan {
    targets: Vec<Target>,
    bound: Bound,
    jobs: usize,
    /// Without comparisons and without weighing inputs by how rare what they reach is: about twice the executions, for a corpus
    /// that no longer grows.
    fast: bool,
    /// The folder in the target folder.
    folder: PathBuf,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let number = |text: Option<String>, name: &str| -> Result<Option<u64>> {
        text.map(|text| text.parse().with_context(|| format!("`{name} {text}` is no number"))).transpose()
    };
    let runs = number(args.value("--runs")?, "--runs")?;
    let seconds = number(args.value("--seconds")?, "--seconds")?;
    let jobs = number(args.value("--jobs")?, "--jobs")?.unwrap_or(1);
    let seeds_only = args.flag("--seeds");
    let fast = args.flag("--fast");
    let wanted = args.positional();
    args.finish()?;
    let bound = match (runs, seconds) {
        (Some(_), Some(_)) => bail!("`--runs` and `--seconds` exclude each other"),
        (Some(runs), None) => Bound::Runs(runs),
        (None, seconds) => Bound::Seconds(seconds.unwrap_or(SECONDS)),
    };
    let plan = Plan { fast, ..Plan::new(&wanted, bound, usize::try_from(jobs)?.max(1))? };
    seeds::make(&plan.folder.join("seeds"))?;
    if seeds_only {
        return Ok(());
    }
    plan.run()
}

/// Whether cargo has started this program in the place of rustc.
pub(crate) fn wraps_rustc() -> bool {
    std::env::var_os(WRAPS_RUSTC).is_some()
}

/// Becomes rustc, without the flags for crates that are to be left plain. Cargo has no stable setting for that.
pub(crate) fn become_rustc(words: impl Iterator<Item = String>) -> std::process::ExitCode {
    use std::os::unix::process::CommandExt;
    let words = rustc_words(words.collect());
    let Some((rustc, arguments)) = words.split_first() else { return std::process::ExitCode::FAILURE };
    let error = Command::new(rustc).args(arguments).exec();
    eprintln!("error: cannot start `{rustc}`: {error}");
    std::process::ExitCode::FAILURE
}

fn rustc_words(mut words: Vec<String>) -> Vec<String> {
    let name = words.iter().position(|word| word == "--crate-name").and_then(|at| words.get(at + 1));
    if name.is_some_and(|name| PLAIN_CRATES.contains(&name.as_str())) {
        words.retain(|word| !FLAGS.contains(&word.as_str()) && word != TRACE_COMPARES);
    }
    words
}

/// A few seconds of every target of vendors' files: the part `fuzz` of `cargo xtask test`. Those of reconstruction take longer to build than the
/// part may; their tests damage files with fixed seeds.
pub(crate) fn short() -> Result<()> {
    let names: Vec<String> =
        TARGETS.iter().filter(|target| target.of == "inspect").map(|target| target.name.to_owned()).collect();
    let plan = Plan::new(&names, Bound::Seconds(TEST_SECONDS), 2)?;
    seeds::make(&plan.folder.join("seeds"))?;
    plan.run()
}

impl Plan {
    fn new(wanted: &[String], bound: Bound, jobs: usize) -> Result<Self> {
        let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let find = |name: &String| {
            let target = TARGETS.iter().find(|target| target.name == name);
            target.copied().with_context(|| format!("there is no target `{name}`; there are {}", known()))
        };
        let targets = if wanted.is_empty() {
            TARGETS.to_vec()
        } else {
            wanted.iter().map(find).collect::<Result<_>>()?
        };
        Ok(Self { targets, bound, jobs, fast: false, folder: sh::target_folder()?.join("fuzz") })
    }

    fn run(&self) -> Result<()> {
        self.build()?;
        let reports = self.run_all()?;
        print!("\n{}", report::table(&reports));
        let results = self.folder.join("results.json");
        fs::write(&results, report::json(&reports)?)
            .with_context(|| format!("cannot write `{}`", results.display()))?;
        println!("\nwritten to {}", results.display());
        let failed: Vec<&str> =
            reports.iter().filter(|report| report.failed).map(|report| report.target).collect();
        if !failed.is_empty() {
            let crashes = self.folder.join("crashes");
            bail!("failed: {}\nhint: the inputs are below `{}`", failed.join(", "), crashes.display());
        }
        Ok(())
    }

    fn build(&self) -> Result<()> {
        let mut crates: Vec<&str> = self.targets.iter().map(|target| target.of).collect();
        crates.sort_unstable();
        crates.dedup();
        crates.into_iter().try_for_each(|of| self.build_of(of))
    }

    fn build_of(&self, of: &str) -> Result<()> {
        if !sh::succeeds(Command::new("g++").arg("--version")) {
            bail!("libFuzzer is compiled with `g++`, which is not here\nhint: cargo xtask setup");
        }
        let mut flags = FLAGS.to_vec();
        flags.extend((!self.fast).then_some(TRACE_COMPARES));
        let mut command = sh::cargo();
        command
            .args([
                "build",
                "--release",
                "--bins",
                "--target",
                TRIPLE,
                "--manifest-path",
                &format!("{of}/fuzz/Cargo.toml"),
            ])
            .arg("--target-dir")
            .arg(self.build_folder(of))
            .env("RUSTFLAGS", flags.join(" "))
            .env("RUSTC_WRAPPER", std::env::current_exe().context("xtask does not know its own path")?)
            .env(WRAPS_RUSTC, "1")
            // Takes precedence over the above.
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        sh::run(&mut command)
    }

    /// One of its own for each set of flags, so that changing between them builds nothing again.
    fn build_folder(&self, of: &str) -> PathBuf {
        let kind = if self.fast { "build-fast" } else { "build" };
        self.folder.join(if of == "inspect" { kind.to_owned() } else { format!("{kind}-{of}") })
    }

    /// Runs all targets, `jobs` at a time, in the order they were named in.
    fn run_all(&self) -> Result<Vec<Report>> {
        let next = AtomicUsize::new(0);
        let reports: Mutex<Vec<Option<Result<Report>>>> =
            Mutex::new(self.targets.iter().map(|_| None).collect());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(target) = self.targets.get(index) else { return };
                        let report = self.run_one(*target);
                        if let Ok(mut reports) = reports.lock() {
                            reports[index] = Some(report);
                        }
                    }
                });
            }
        });
        let reports = reports.into_inner().ok().context("a fuzzing thread panicked")?;
        reports.into_iter().map(|report| report.context("a target was not run")?).collect()
    }

    fn run_one(&self, target: Target) -> Result<Report> {
        let name = target.name;
        let of = |kind: &str| self.folder.join(kind).join(name);
        let (corpus, crashes) = (of("corpus"), of("crashes"));
        for folder in [&corpus, &crashes, &self.folder.join("logs")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let log = self.folder.join("logs").join(format!("{name}.log"));
        let mut command = self.command(target, &corpus, &crashes)?;
        let stderr = fs::File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).status();
        let status = status.with_context(|| format!("cannot start `{}`", sh::shown(&command)))?;
        let bytes = fs::read(&log).with_context(|| format!("cannot read `{}`", log.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let report = Report::parse(name, &text, status.success());
        println!("{}", report.line());
        if report.failed {
            eprintln!(
                "{name} {}; the end of `{}`:\n{}",
                sh::ended(status),
                log.display(),
                report::tail(&text)
            );
        }
        Ok(report)
    }

    fn command(&self, target: Target, corpus: &Path, crashes: &Path) -> Result<Command> {
        let program = self.build_folder(target.of).join(TRIPLE).join("release").join(target.name);
        let dictionary =
            sh::workspace()?.join(format!("{}/fuzz/dictionaries/{}.dict", target.of, target.name));
        // The longest runs take hours: whoever sits before the machine comes first.
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(program);
        match self.bound {
            Bound::Runs(runs) => command.arg(format!("-runs={runs}")),
            Bound::Seconds(seconds) => command.arg(format!("-max_total_time={seconds}")),
        };
        command
            .arg(format!("-max_len={}", target.bytes_max))
            .arg(format!("-timeout={TIMEOUT}"))
            .arg(format!("-rss_limit_mb={RSS_MB}"))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .args(["-print_final_stats=1", "-reload=0", "-verbosity=1"]);
        if self.fast {
            command.arg("-entropic=0");
        }
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.arg(corpus);
        let seeds = self.folder.join("seeds").join(target.name);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_program_and_the_other_way_round() {
        for of in ["inspect", "recon"] {
            let manifest = sh::workspace().unwrap().join(format!("{of}/fuzz/Cargo.toml"));
            let manifest = fs::read_to_string(manifest).unwrap();
            let programs: Vec<&str> = manifest
                .lines()
                .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
                .collect();
            let targets = TARGETS.iter().filter(|target| target.of == of);
            assert_eq!(programs, targets.map(|target| target.name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_the_named_crates_are_left_plain() {
        let words = |name: &str| {
            let words = ["rustc", "--crate-name", name, FLAGS[0], "-Copt-level=3"];
            rustc_words(words.map(str::to_owned).to_vec()).len()
        };
        assert_eq!((words("zlib_rs"), words("goblin")), (4, 5));
        assert_eq!(rustc_words(vec!["rustc".to_owned(), "-vV".to_owned()]).len(), 2);
        assert!(PLAIN_CRATES.is_sorted());
    }

    #[test]
    fn an_unknown_target_is_refused() {
        assert!(Plan::new(&["odd".to_owned()], Bound::Runs(1), 1).is_err());
    }

    #[test]
    fn every_dictionary_is_of_a_target() {
        let folder = sh::workspace().unwrap().join("inspect/fuzz/dictionaries");
        for file in fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let stem = name.strip_suffix(".dict").unwrap();
            assert!(TARGETS.iter().any(|target| target.name == stem), "{name}");
        }
    }
}
