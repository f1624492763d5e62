//! What libFuzzer says of a run, as figures.

use anyhow::Result;
use serde_json::json;

use crate::sh;

/// The figures of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Report {
    pub(super) target: &'static str,
    pub(super) executions: u64,
    pub(super) per_second: u64,
    /// Edges that some input has reached, and all there are.
    pub(super) edges: (u64, u64),
    /// Edges reached by the seeds and the corpus before anything was mutated.
    pub(super) edges_before: u64,
    /// Inputs kept, and their bytes as libFuzzer writes them.
    pub(super) corpus: (u64, String),
    pub(super) peak_mb: u64,
    /// It did not end well; a run that somebody ended did not either.
    pub(super) failed: bool,
    /// Somebody ended it.
    pub(super) interrupted: bool,
}

impl Report {
    /// Reads the log of a run.
    pub(super) fn parse(target: &'static str, log: &str, succeeded: bool) -> Self {
        let mut report = Self { target, failed: !succeeded, ..Self::default() };
        report.interrupted = log.contains("libFuzzer: run interrupted");
        for line in log.lines() {
            if let Some(found) =
                line.split_once(" inline 8-bit counters)").and_then(|(head, _)| head.rsplit('(').next())
            {
                report.edges.1 = found.parse().unwrap_or(0);
            }
            if line.starts_with('#') && line.contains(" cov: ") {
                report.status(line);
            }
            if let Some(value) = line.strip_prefix("stat::") {
                report.statistic(value);
            }
        }
        report
    }

    /// `#1024 pulse cov: 12 ft: 34 corp: 5/678b lim: 4096 exec/s: 910 rss: 43Mb`.
    fn status(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let executions =
            words.next().and_then(|word| word.strip_prefix('#')).and_then(|word| word.parse().ok());
        let stage = words.next().unwrap_or_default();
        self.executions = executions.unwrap_or(self.executions);
        while let Some(word) = words.next() {
            match word {
                "cov:" => self.edges.0 = next_number(&mut words).unwrap_or(self.edges.0),
                "exec/s:" => self.per_second = next_number(&mut words).unwrap_or(self.per_second),
                "corp:" => {
                    if let Some((count, bytes)) = words.next().and_then(|word| word.split_once('/')) {
                        self.corpus = (count.parse().unwrap_or(0), bytes.to_owned());
                    }
                }
                _ => {}
            }
        }
        if stage == "INITED" {
            self.edges_before = self.edges.0;
        }
    }

    /// `number_of_executed_units: 4096`.
    fn statistic(&mut self, text: &str) {
        let Some((name, value)) = text.split_once(':') else { return };
        let Ok(value) = value.trim().parse() else { return };
        match name {
            "number_of_executed_units" => self.executions = value,
            "average_exec_per_sec" => self.per_second = value,
            "peak_rss_mb" => self.peak_mb = value,
            _ => {}
        }
    }

    fn result(&self) -> &'static str {
        match (self.failed, self.interrupted) {
            (false, _) => "ok",
            (true, true) => "interrupted",
            (true, false) => "FAILED",
        }
    }

    /// One line while a run goes on.
    pub(super) fn line(&self) -> String {
        let Self { target, executions, per_second, edges, edges_before, .. } = self;
        let ended = self.result();
        format!(
            "fuzz {target}: {ended}, {executions} executions, {per_second}/s, edges {edges_before} -> {} of {}",
            edges.0, edges.1
        )
    }
}

fn next_number<'w>(words: &mut impl Iterator<Item = &'w str>) -> Option<u64> {
    words.next()?.parse().ok()
}

/// All figures, for people.
pub(super) fn table(reports: &[Report]) -> String {
    let head = [
        "target",
        "executions",
        "exec/s",
        "edges before",
        "edges",
        "of",
        "corpus",
        "bytes",
        "peak MB",
        "result",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for report in reports {
        rows.push(vec![
            report.target.to_owned(),
            report.executions.to_string(),
            report.per_second.to_string(),
            report.edges_before.to_string(),
            report.edges.0.to_string(),
            report.edges.1.to_string(),
            report.corpus.0.to_string(),
            report.corpus.1.clone(),
            report.peak_mb.to_string(),
            report.result().to_owned(),
        ]);
    }
    sh::table(&rows)
}

/// All figures, for programs.
pub(super) fn json(reports: &[Report]) -> Result<String> {
    let targets: Vec<_> = reports
        .iter()
        .map(|report| {
            json!({
                "target": report.target,
                "executions": report.executions,
                "executions_per_second": report.per_second,
                "edges_before": report.edges_before,
                "edges": report.edges.0,
                "edges_instrumented": report.edges.1,
                "corpus_inputs": report.corpus.0,
                "corpus_bytes": report.corpus.1,
                "peak_rss_mb": report.peak_mb,
                "crashed": report.failed && !report.interrupted,
                "interrupted": report.interrupted,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "targets": targets }))? + "\n")
}

/// Lines of a log that are worth showing when a run has failed.
const TAIL_LINES: usize = 40;

/// The end of a log.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Running with entropic power schedule (0xFF, 100).\n\
        INFO: Loaded 1 modules   (60123 inline 8-bit counters): 60123 [0x1, 0x2), \n\
        #12\tINITED cov: 1200 ft: 1300 corp: 11/34Kb exec/s: 0 rss: 44Mb\n\
        #2048\tpulse  cov: 1311 ft: 2400 corp: 90/122Kb lim: 4096 exec/s: 1024 rss: 45Mb\n\
        Done 4096 runs in 3 second(s)\n\
        stat::number_of_executed_units: 4096\nstat::average_exec_per_sec:     1365\nstat::peak_rss_mb:              46\n";

    #[test]
    fn figures_are_read_from_a_log() {
        let report = Report::parse("elf", LOG, true);
        let corpus = (90, "122Kb".to_owned());
        let expected = Report {
            target: "elf",
            executions: 4096,
            per_second: 1365,
            edges: (1311, 60123),
            edges_before: 1200,
            corpus,
            peak_mb: 46,
            failed: false,
            interrupted: false,
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_run_that_ended_early_has_the_figures_of_its_last_line() {
        let cut = LOG.split_once("Done").unwrap().0;
        let report = Report::parse("elf", cut, false);
        assert_eq!((report.executions, report.per_second, report.failed), (2048, 1024, true));
        assert!(table(std::slice::from_ref(&report)).contains("FAILED"));
        let ended = format!("{LOG}\n==1== libFuzzer: run interrupted; exiting\n");
        assert!(table(&[Report::parse("tar", &ended, false)]).contains("interrupted"));
    }

    #[test]
    fn the_tail_of_a_log_is_bounded() {
        assert_eq!(tail(&"x\n".repeat(500)).lines().count(), TAIL_LINES);
        assert_eq!(tail("one"), "one");
    }
}
