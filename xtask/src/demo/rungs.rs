//! The same tools on every rung: `cargo xtask demo --rungs`. An assembler gives the same bytes on each of them, and programs for
//! a data acquisition card find one in a guest, whose kernel has the module for it, and its samples come out as its waveform.

mod samples;

use std::fs;

use anyhow::{Context, Result, bail};

use samples::Waveform;

use super::Row;
use super::artifacts::{path, ptxas};
use super::stage::Stage;
use crate::bench::Docker;
use crate::sh;

/// Bytes of samples that comedi's own program reads.
const SAMPLES: usize = 200_000;

/// Assembles on each rung, and compares with what the fhs rung gives beside its files.
pub(super) fn assembler(stage: &Stage, artifact: &'static str) -> Result<Row> {
    let row = ptxas(stage, artifact)?;
    let source = fs::read_to_string(sh::workspace()?.join("tests/fixtures/vecadd.ptx"))?;
    let line = "printf %s \"$1\" > /tmp/a.ptx && $(find /usr /opt -name ptxas -type f | head -n 1) -arch=sm_80 /tmp/a.ptx \
                -o /tmp/a.cubin && sha256sum < /tmp/a.cubin";
    let folder = sh::Scratch::new("hatchway-demo-engine")?;
    let engine = if stage.is_root() { Some(Docker::start(&folder.path)?) } else { None };
    let untried = untried(engine.is_some(), sh::is_ci())?;
    let mut digests: Vec<(&str, String)> = Vec::new();
    for rung in ["fhs", "container", "vm"] {
        if rung == "container" && engine.is_none() {
            continue;
        }
        let host = engine.as_ref().map(Docker::host).unwrap_or_default();
        let args = ["run", artifact, "--rung", rung, "--program", "/bin/sh", "--", "-c", line, "sh", &source];
        let finished = stage.with_engine(&host, &args)?;
        digests.push((rung, finished.stdout.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    let (_, first) = digests.first().context("no rung ran")?;
    if first.len() != 64 || digests.iter().any(|(_, digest)| digest != first) {
        bail!("the rungs' cubins differ: {digests:?}");
    }
    let names: Vec<&str> = digests.iter().map(|(rung, _)| *rung).collect();
    Ok(stage.done(row, format!("the same cubin on {}: {}{untried}", names.join(", "), &first[..12])))
}

/// What the closing table says of the container rung where it is not tried. In CI that is a failure.
fn untried(has_engine: bool, in_ci: bool) -> Result<&'static str> {
    match (has_engine, in_ci) {
        (true, _) => Ok(""),
        (false, false) => Ok("; container NOT TRIED: only root starts an engine of its own"),
        (false, true) => bail!(
            "the container rung cannot be tried: only root starts an engine of its own\nhint: run it as root"
        ),
    }
}

/// Reads samples of a card that only the guest's kernel has.
pub(super) fn card(stage: &Stage, artifact: &'static str) -> Result<Row> {
    let deb = stage.fetch("debian:bookworm/main/libcomedi0")?;
    let run = "[run]\nrung = \"vm\"\nmodules = [\"comedi_test\"]\n";
    let slot = "\n[[device]]\nname = \"daq\"\nclass = \"comedi\"\nat = \"/dev/comedi0\"\n";
    // Perl asks the card for its samples: comedi's own programs print no value of any.
    let perl = "[environment]\npackages = [\"perl-base\"]\n";
    let edit = |text: String| text.replacen("[run]\n", run, 1).replacen("[environment]\n", perl, 1) + slot;
    let row = stage.prepare_with(artifact, path(&deb)?, &edit)?;
    let test = ["-v", "-f", "/dev/comedi0", "-s", "0", "-t", "cmd_read_fast_1chan"];
    let args = ["run", artifact, "--program", "/usr/bin/comedi_test", "--"];
    let read = stage.hatchway(&[&args[..], &test[..]].concat(), &[0])?;
    // `read BYTES TOTAL`, a line for each piece of the stream of samples.
    let mut totals =
        read.stdout.lines().filter_map(|line| line.strip_prefix("read ")?.split(' ').nth(1)?.parse().ok());
    let total: usize = totals.next_back().context("comedi_test read no samples")?;
    if total != SAMPLES {
        bail!("comedi_test read {total} bytes of samples, not {SAMPLES}");
    }
    let args = ["run", artifact, "--program", "/usr/bin/perl", "--", "-e", &samples::program()];
    let waveform = Waveform::read(&stage.quiet(&args)?)?;
    println!("volts, each twentieth sample of two periods: {}", waveform.shown());
    waveform.check().context("what the card gave is not its waveform")?;
    Ok(stage.done(row, format!("{total} bytes of samples of comedi_test; {}", waveform.describe())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_that_cannot_be_tried_is_said_and_in_ci_is_a_failure() {
        assert_eq!(untried(true, false).unwrap(), "");
        assert_eq!(untried(true, true).unwrap(), "");
        assert!(untried(false, false).unwrap().contains("container NOT TRIED"));
        assert!(untried(false, true).unwrap_err().to_string().contains("hint: run it as root"));
    }
}
