//! `cargo xtask crash`: everything that a store has to survive. The log of a build replayed with every loss, the builder
//! killed at every call (both are the tests of `tests/tests/it/crash.rs` without their bounds), and power cuts of a guest.
//!
//! A guest is cut by killing QEMU. What the guest's kernel has not written is lost; what it has written counts as on disk,
//! since the host keeps it. A disk that loses what it has confirmed is not played here.

pub(crate) mod guest;

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, setup, sh, test};

/// As many as issue 4 asks for.
const CUTS: u32 = 50;

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let cuts = match args.value("--cuts")? {
        Some(number) => number.parse()?,
        None => CUTS,
    };
    let parts = args.positional();
    args.finish()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (calls, power) = match parts[..] {
        [] => (true, true),
        ["calls"] => (true, false),
        ["power"] => (false, true),
        _ => bail!("name what to try\nhint: cargo xtask crash [calls|power] [--cuts N] [--yes]"),
    };
    setup::setup(yes)?;
    let program = build::build(false)?;
    if calls {
        let mut tests = test::tests_of_programs();
        tests.args(["--", "crash::", "--nocapture"]);
        sh::run(tests.env("HATCHWAY_CRASH", "all").env("HATCHWAY_BIN", &program))?;
    }
    if power {
        guest::cut(&program, cuts)?;
    }
    Ok(())
}

/// The first word of a program's output.
fn output(command: &mut Command) -> Result<String> {
    Ok(sh::capture(command)?.trim().to_owned())
}
