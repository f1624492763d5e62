//! `hatchway top`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::visit::{self, Used};

use super::visit::{memory, since};

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds from one look to the next
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=3600))]
    delay: u16,
    /// End after so many looks; on a terminal it goes on, otherwise it is one
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u32>,
    /// A JSON array for each look
    #[arg(long)]
    json: bool,
}

/// What one run has used since the look before.
#[derive(Debug, Clone, Serialize)]
struct Row {
    #[serde(flatten)]
    used: Used,
    /// Percent of one processor.
    cpu_percent: f64,
}

/// 0 where something ran at the last look, 1 where nothing did.
pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let dirs = Dirs::discover();
    let screen = std::io::stdout().is_terminal() && !args.json;
    let mut left = args.count.or((!screen).then_some(1));
    let mut before = (Instant::now(), look(&dirs));
    loop {
        std::thread::sleep(Duration::from_secs(args.delay.into()));
        let now = (Instant::now(), look(&dirs));
        let rows = rows(&before.1, &now.1, now.0.duration_since(before.0));
        if args.json {
            printer.data(super::escaped(&serde_json::json!(rows).to_string()));
        } else {
            // Home, and what is below goes: the terminal's own lines stay where they were.
            let clear = if screen { "\u{1b}[H\u{1b}[J" } else { "" };
            printer.data(format!("{clear}{}", table(&rows)));
        }
        before = now;
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(ExitCode::from(u8::from(rows.is_empty())));
        }
    }
}

/// What all use that answer. One that ends meanwhile is gone at the next look.
fn look(dirs: &Dirs) -> BTreeMap<String, Used> {
    let used = visit::running(dirs, None).into_iter().filter_map(|running| running.stats().ok());
    used.map(|used| (used.run.clone(), used)).collect()
}

/// The busiest first.
fn rows(before: &BTreeMap<String, Used>, now: &BTreeMap<String, Used>, passed: Duration) -> Vec<Row> {
    let row = |used: &Used| {
        let then = before.get(&used.run).map_or(0, |before| before.stats.cpu_us);
        // Processes that have ended may have taken their time with them.
        let spent = Duration::from_micros(used.stats.cpu_us.saturating_sub(then));
        Row { used: used.clone(), cpu_percent: 100.0 * spent.as_secs_f64() / passed.as_secs_f64() }
    };
    let mut rows: Vec<Row> = now.values().map(row).collect();
    rows.sort_by(|one, other| other.cpu_percent.total_cmp(&one.cpu_percent));
    rows
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing runs".to_owned();
    }
    let width = rows.iter().map(|row| row.used.tool.chars().count()).max().unwrap_or(0).clamp(4, 30);
    let mut text =
        format!("{:width$} {:>7} {:>9} {:>6} {:>7} {:>5}", "UNIT", "CPU", "MEMORY", "PROCS", "THREADS", "UP");
    for Row { used, cpu_percent } in rows {
        let stats = &used.stats;
        text.push_str(&format!(
            "\n{:width$} {cpu_percent:>5.1} % {} {:>6} {:>7} {:>5}",
            used.tool,
            memory(stats.resident_bytes),
            stats.processes,
            stats.threads,
            since(stats.uptime_ms)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use hatchway_wire::control::Stats;

    use super::*;

    fn used(run: &str, cpu_us: u64) -> (String, Used) {
        let stats = Stats {
            processes: 12,
            threads: 40,
            cpu_us,
            resident_bytes: 123_456_789_012,
            uptime_ms: 86_400_000 * 999,
            health: None,
        };
        (run.to_owned(), Used { tool: "t".repeat(30), run: run.to_owned(), stats })
    }

    #[test]
    fn the_busiest_is_first_and_lines_fit() {
        let before = BTreeMap::from([used("1-1", 1_000_000), used("2-2", 5_000_000)]);
        let now = BTreeMap::from([used("1-1", 2_000_000), used("2-2", 4_000_000), used("3-3", 4_000_000)]);
        let rows = rows(&before, &now, Duration::from_secs(2));
        let told: Vec<(&str, f64)> =
            rows.iter().map(|row| (row.used.run.as_str(), row.cpu_percent)).collect();
        assert_eq!(told, [("3-3", 200.0), ("1-1", 50.0), ("2-2", 0.0)]);
        assert!(table(&rows).lines().all(|line| line.chars().count() <= 80));
    }
}
