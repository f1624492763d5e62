//! `hatchway exec` and `hatchway stats`

use std::process::ExitCode;

use hatchway_wire::control::Condition;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::visit::{self, Used};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(super) struct ExecArgs {
    /// Name of the tool
    name: String,
    /// Which run of it, where there are several (`hatchway stats` shows them)
    #[arg(long)]
    run: Option<String>,
    /// Set a variable for the program (`NAME=VALUE`)
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The program, a path inside or a name, and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// Name of a tool; all that run without one
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(args: &ExecArgs, quiet: bool) -> Result<ExitCode, Error> {
    let mut printer = Printer::new(quiet);
    printer.failing_with(super::RUN_FAILURE);
    let mut env = Vec::new();
    for text in &args.env {
        let wrong = || Error::Usage(format!("`--env {text}`: it has the form NAME=VALUE"));
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        env.push((name.to_owned(), value.to_owned()));
    }
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::Usage("name a program after `--`".to_owned()));
    };
    let running = visit::find(&Dirs::discover(), &args.name, args.run.as_deref())?;
    visit::exec(&printer, &running, (program.clone(), rest.to_vec(), env))
}

/// 0 where something runs, 1 where nothing does.
pub(super) fn stats(args: &StatsArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let dirs = Dirs::discover();
    let all = visit::running(&dirs, args.name.as_deref());
    // They have no part in the answer, and are not to be thought away.
    let machines = visit::machines(&dirs, args.name.as_deref());
    for machine in &machines {
        printer.say(format!("note: {}: nothing of Hatchway is in it that could count", machine.told()));
        printer.say(format!("hint: {}", machine.usage()));
    }
    let mut used = Vec::new();
    for one in &all {
        match one.stats() {
            Ok(stats) => used.push(stats),
            // One that ends meanwhile is no reason to say nothing of the others.
            Err(error) => printer.warn(error),
        }
    }
    if args.json {
        printer.data(super::json(&used)?);
    } else if used.is_empty() {
        printer.say(if machines.is_empty() { "nothing runs" } else { "nothing else runs" });
    } else {
        printer.data(table(&used));
    }
    Ok(ExitCode::from(u8::from(used.is_empty())))
}

fn table(all: &[Used]) -> String {
    let width = all.iter().map(|used| used.tool.chars().count()).max().unwrap_or(0).clamp(4, 26);
    let mut text =
        format!("{:width$} {:>21} {:>5} {:>5} {:>9} {:>9}", "TOOL", "RUN", "PROCS", "UP", "CPU", "MEMORY");
    for used in all {
        let stats = &used.stats;
        let memory = memory(stats.resident_bytes);
        #[allow(clippy::cast_precision_loss, reason = "for people, with two digits")]
        let cpu = stats.cpu_us as f64 / 1e6;
        text.push_str(&format!(
            "\n{:width$} {:>21} {:>5} {:>5} {cpu:>7.2} s {memory}",
            used.tool,
            used.run,
            stats.processes,
            since(stats.uptime_ms)
        ));
        if stats.health == Some(Condition::Unhealthy) {
            text.push_str("\n  not well: its check has failed too often in a row");
        }
    }
    text
}

/// In nine characters.
pub(super) fn memory(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people, with one digit")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 999.95 {
        format!("{mebibytes:>5.1} MiB")
    } else {
        format!("{:>5.1} GiB", mebibytes / 1024.0)
    }
}

/// As long as four characters have room for.
pub(super) fn since(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} m", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use hatchway_wire::control::Stats;

    use super::*;

    #[test]
    fn a_table_fits_a_terminal() {
        let stats = Stats {
            processes: 12,
            threads: 40,
            cpu_us: 1_234_567_890,
            resident_bytes: 123_456_789_012,
            uptime_ms: 86_400_000 * 999,
            health: Some(Condition::Unhealthy),
        };
        let run = "1796000000000-4194304".to_owned();
        let text = table(&[Used { tool: "t".repeat(26), run, stats }]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(since(119_999), "119 s");
        assert_eq!(since(7_200_000), "2 h");
    }
}
