//! What a start costs under a real systemd, and a loud neighbour a quiet unit: a test measures it, which has a systemd to start.

use anyhow::{Context, Result, ensure};

use super::machine;
use crate::{build, sh, test};

/// The test that does it.
const TEST: &str = "systemd_figures::what_systemd_and_a_loud_neighbour_cost";

pub(super) fn measure() -> Result<String> {
    ensure!(sh::is_root()?, "a systemd is started as root\nhint: run `cargo xtask bench systemd` as root");
    let program = build::build(true)?;
    let mut tests = test::tests_of_programs();
    tests.args(["--", "--ignored", "--nocapture"]).args(["--exact", TEST]).env("HATCHWAY_BIN", program);
    let said = sh::capture(&mut tests)?;
    let rows: Vec<&str> = said.lines().filter(|line| line.starts_with("| ")).collect();
    rows.first().context("the test has measured nothing")?;
    Ok(format!("| what | value |\n| --- | --- |\n| machine | {} |\n{}\n", machine()?, rows.join("\n")))
}
