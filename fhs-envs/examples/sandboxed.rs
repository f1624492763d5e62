//! Runs a program of a tree with the sandbox library alone: no recipe, no lock, no store. `cargo xtask bench env` times it.
//!
//! `sandboxed SHIM TREE STATE PROGRAM [ARG…]`: STATE is a folder that the program sees as `/var/lib/state`.
//! `sandboxed --filter` writes the system call filter.

#![allow(clippy::print_stderr, reason = "a program of its own, which has no printer")]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use hatchway_envs::sandbox::{self, Error, HostFacts, InsidePath, Mode, Spec, StateDir, User};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "--filter") {
        return filter();
    }
    let [_, shim, tree, state, program, args @ ..] = &words[..] else {
        eprintln!("usage: sandboxed SHIM TREE STATE PROGRAM [ARG…]");
        return ExitCode::from(2);
    };
    let Err(error) = run(Path::new(shim), tree, state, program, args);
    eprintln!("error: {error}");
    ExitCode::from(125)
}

/// The system call filter as the kernel takes it, for another sandbox.
fn filter() -> ExitCode {
    let program = sandbox::seccomp::filter(false);
    let bytes = program.iter().flat_map(|one| {
        let (code, constant) = (one.0.to_ne_bytes(), one.3.to_ne_bytes());
        [&code[..], &[one.1, one.2], &constant[..]].concat()
    });
    match std::io::stdout().write_all(&bytes.collect::<Vec<u8>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(
    shim: &Path,
    tree: &str,
    state: &str,
    program: &str,
    args: &[String],
) -> Result<std::convert::Infallible, Error> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Root's tools run as somebody else; which number it is does not matter to a sandbox.
    let (user, mode) = match uid {
        0 => (User::new("tool", 0x7000_0000, 0x7000_0000)?, Mode::Root { groups: Vec::new() }),
        _ => (User::new("tool", uid, gid)?, Mode::User),
    };
    let mut spec = Spec::new("bench", sandbox::host_path(tree)?, program, user, mode);
    spec.args = args.to_vec();
    spec.state.push(StateDir { host: sandbox::host_path(state)?, at: InsidePath::new("/var/lib/state")? });
    let bootstrap = sandbox::plan(&spec, &HostFacts::detect(Vec::new()))?;
    Err(sandbox::exec_shim(shim, &bootstrap, Vec::new()))
}
