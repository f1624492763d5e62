//! `cargo xtask test`: every check of the project in a fixed order, each part timed. `.ci/run` calls this.
//!
//! A part that fails does not stop the ones that do not need it. At the end stands a table of minutes against
//! budgets, and one line with the sum of all tests run.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{build, corpus, demo, fuzz, generate, readers, setup, sh, tidy};

/// Passed to every part.
struct Run {
    yes: bool,
    /// (passed, failed) over all `test result:` lines so far.
    counted: (u64, u64),
}

struct Part {
    name: &'static str,
    /// What it may take on two cores with an empty target folder.
    budget_minutes: f64,
    /// Parts without which this one means nothing.
    needs: &'static [&'static str],
    run: fn(&mut Run) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part { name: "setup", budget_minutes: 3.0, needs: &[], run: |run| setup::setup(run.yes) },
    Part { name: "build", budget_minutes: 12.0, needs: &["setup"], run: |_| build::build(false).map(drop) },
    Part {
        name: "fmt",
        budget_minutes: 1.0,
        needs: &[],
        run: |_| sh::run(sh::cargo().args(["fmt", "--check"])),
    },
    Part { name: "clippy", budget_minutes: 10.0, needs: &["setup"], run: |_| clippy() },
    Part { name: "tidy", budget_minutes: 1.0, needs: &[], run: |_| tidy::tidy() },
    Part {
        name: "gen",
        budget_minutes: 1.0,
        needs: &["build"],
        run: |_| generate::check(&build::program()?),
    },
    Part { name: "unit", budget_minutes: 12.0, needs: &["setup"], run: unit },
    Part { name: "proof", budget_minutes: 10.0, needs: &["setup"], run: proof },
    Part { name: "e2e", budget_minutes: 20.0, needs: &["build"], run: e2e },
    Part { name: "fuzz", budget_minutes: 4.0, needs: &["setup"], run: |_| fuzz::short() },
    Part { name: "chroot", budget_minutes: 7.0, needs: &["build"], run: |_| chroot() },
    Part { name: "demo", budget_minutes: 8.0, needs: &["build"], run: |_| demo::both_ways() },
];

/// How a part went: `Err` holds the reason.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<(), String>,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let wanted = args.positional();
    args.finish()?;
    let parts = select(&wanted)?;
    let mut run = Run { yes, counted: (0, 0) };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for part in parts {
        println!("\n=== {} ===", part.name);
        let started = Instant::now();
        let result = match missing_ground(part, &outcomes) {
            Some(need) => Err(format!("not run, because `{need}` failed")),
            None => (part.run)(&mut run).map_err(|error| format!("{error:#}")),
        };
        if let Err(reason) = &result {
            eprintln!("error: part `{}`: {reason}", part.name);
        }
        outcomes.push(Outcome { name: part.name, took: started.elapsed(), result });
    }
    print!("\n{}", sh::table(&rows(&outcomes)));
    if run.counted != (0, 0) {
        println!("\n{} passed, {} failed", run.counted.0, run.counted.1);
    }
    let failed: Vec<&str> = outcomes.iter().filter(|o| o.result.is_err()).map(|o| o.name).collect();
    if !failed.is_empty() {
        bail!(
            "failed: {}\nhint: run one part alone with `cargo xtask test {}`",
            failed.join(", "),
            failed[0]
        );
    }
    Ok(())
}

/// The parts to run in their order: all, or the named ones with what they need.
fn select(wanted: &[String]) -> Result<Vec<&'static Part>> {
    let mut names: Vec<&str> = Vec::new();
    for name in wanted {
        let part = PARTS.iter().find(|part| part.name == name);
        let known = PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
        let part = part.with_context(|| format!("there is no part `{name}`; there are {known}"))?;
        names.push(part.name);
    }
    // Needs stand before their users, so one pass from the back finds all.
    for part in PARTS.iter().rev() {
        if names.contains(&part.name) {
            names.extend(part.needs);
        }
    }
    Ok(PARTS.iter().filter(|part| wanted.is_empty() || names.contains(&part.name)).collect())
}

fn missing_ground(part: &Part, outcomes: &[Outcome]) -> Option<&'static str> {
    let failed = |name: &str| outcomes.iter().any(|outcome| outcome.name == name && outcome.result.is_err());
    part.needs.iter().copied().find(|name| failed(name))
}

fn rows(outcomes: &[Outcome]) -> Vec<Vec<String>> {
    let mut rows = vec![["part", "minutes", "budget", "result"].map(str::to_owned).to_vec()];
    let mut total = Duration::ZERO;
    for outcome in outcomes {
        let budget =
            PARTS.iter().find(|part| part.name == outcome.name).map_or(0.0, |part| part.budget_minutes);
        let minutes = outcome.took.as_secs_f64() / 60.0;
        let result = match &outcome.result {
            Err(reason) => format!("FAILED: {}", reason.lines().next().unwrap_or_default()),
            Ok(()) if minutes > budget => "ok, over its budget".to_owned(),
            Ok(()) => "ok".to_owned(),
        };
        total += outcome.took;
        rows.push(vec![outcome.name.to_owned(), format!("{minutes:.1}"), format!("{budget:.0}"), result]);
    }
    rows.push(vec!["total".to_owned(), format!("{:.1}", total.as_secs_f64() / 60.0)]);
    rows
}

fn clippy() -> Result<()> {
    sh::run(sh::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        build::WITH,
        "--",
        "-D",
        "warnings",
    ]))
}

/// Everything but what part `e2e` runs. All crates are named each time, here and in the other parts: with some of them alone,
/// dependencies would be built again with fewer features.
fn unit(run: &mut Run) -> Result<()> {
    let but_e2e: [&[&str]; 3] = [
        &["--lib", "--bins"],
        &["--exclude", "hatchway-tests", "--test", "*"],
        &["--exclude", "hatchway-tests", "--doc"],
    ];
    let mut result = Ok(());
    for kind in but_e2e {
        let mut tests = sh::cargo();
        tests.args(["test", "--no-fail-fast", "--workspace", "--features", build::WITH]).args(kind);
        // What fails keeps none of the others from being run.
        result = result.and(count_tests(&mut tests, run));
    }
    result
}

/// `inspect` against other programs, over thousands of files of vendors and of this machine; images as other programs read them.
fn proof(run: &mut Run) -> Result<()> {
    let corpus = corpus::prepare(corpus::Extent::Tests)?;
    let mut tests = sh::cargo();
    tests.args(["test", "--workspace", "--features", build::WITH, "--test", "real_files", "--"]);
    // One test after the other: each uses all cores by itself, and what they print stays together.
    tests.args(["--ignored", "--nocapture", "--test-threads=1"]).env("HATCHWAY_CORPUS", &corpus.folder);
    count_tests(&mut tests, run)?;
    count_tests(&mut readers::tests()?, run)
}

/// An environment beside an installed system. Outside of CI an ordinary user may go without.
fn chroot() -> Result<()> {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    if !in_ci && !sh::is_root()? {
        println!("not compared: a system is installed with its own scripts, which takes root");
        return Ok(());
    }
    crate::chroot::part()
}

fn e2e(run: &mut Run) -> Result<()> {
    let program: PathBuf = build::program()?;
    count_tests(tests_of_programs().args(["--test", "order"]).env("HATCHWAY_BIN", program), run)
}

/// The tests through the command line, which want `HATCHWAY_BIN`; arguments for them come after a `--`.
pub(crate) fn tests_of_programs() -> Command {
    let mut tests = sh::cargo();
    tests.args(["test", "--workspace", "--features", build::WITH, "--test", "it"]);
    tests
}

/// Runs a test command, lets its output through as it comes and adds up its closing lines.
fn count_tests(command: &mut Command, run: &mut Run) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", sh::shown(command)))?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)) {
        let line = line.context("cannot read the tests' output")?;
        println!("{line}");
        if let Some((passed, failed)) = parse_result(&line) {
            run.counted.0 += passed;
            run.counted.1 += failed;
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    if !status.success() {
        bail!("`{}` {}", sh::shown(command), sh::ended(status));
    }
    Ok(())
}

/// (passed, failed) of a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn parse_result(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        counts.split("; ").find_map(|count| count.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse_result(line), Some((12, 3)));
        assert_eq!(parse_result("running 3 tests"), None);
    }

    #[test]
    fn needs_stand_before_their_users() {
        for (index, part) in PARTS.iter().enumerate() {
            for need in part.needs {
                assert!(PARTS[..index].iter().any(|other| other.name == *need), "{} needs {need}", part.name);
            }
        }
    }

    #[test]
    fn a_named_part_brings_what_it_needs() {
        let names = |wanted: &[&str]| -> Vec<&str> {
            let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            select(&wanted).unwrap().iter().map(|part| part.name).collect()
        };
        assert_eq!(names(&["e2e"]), ["setup", "build", "e2e"]);
        assert_eq!(names(&["tidy", "fmt"]), ["fmt", "tidy"]);
        assert_eq!(names(&[]).len(), PARTS.len());
        assert!(select(&["odd".to_owned()]).is_err());
    }

    #[test]
    fn a_failed_part_holds_back_only_its_users() {
        let outcome = Outcome { name: "build", took: Duration::ZERO, result: Err("no".to_owned()) };
        let part = |name: &str| PARTS.iter().find(|part| part.name == name).unwrap();
        assert_eq!(missing_ground(part("e2e"), std::slice::from_ref(&outcome)), Some("build"));
        assert_eq!(missing_ground(part("unit"), std::slice::from_ref(&outcome)), None);
    }

    #[test]
    fn the_budgets_fit_into_a_ci_run() {
        assert!(PARTS.iter().map(|part| part.budget_minutes).sum::<f64>() < 90.0);
    }
}
