//! `cargo xtask VERB`: the project's automation. One file per verb; this one only dispatches.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: what it prints is its result, and no other program reads it"
)]

mod acme;
mod api;
mod bench;
mod build;
mod chroot;
mod compat;
mod corpus;
mod crash;
mod demo;
mod dist;
mod fuzz;
mod generate;
mod limits;
mod readers;
mod services;
mod setup;
mod sh;
mod supervise;
mod test;
mod tidy;
mod trial;
mod upgrade;
mod virtualbox;
mod wheels;

use std::process::ExitCode;

use anyhow::Result;

/// A verb: its name, its line in the help, and what it does with the arguments after it.
type Verb = (&'static str, &'static str, fn(sh::Args) -> Result<()>);

const VERBS: &[Verb] = &[
    ("setup", "check what building and testing needs, install what is missing [--yes]", setup::verb),
    ("build", "build hatchway and its static shim into target/hatchway [--release]", build::verb),
    ("test", "every check, each part timed; what CI calls [PART...] [--yes]", test::verb),
    (
        "demo",
        "four real vendor files from file to running tool [--yes] [--root|--user] [--keep] [--windows|--rungs]",
        demo::verb,
    ),
    ("tidy", "rules that no compiler checks: lengths, reasons, links, words", tidy::verb),
    ("gen", "write docs/cli.md and docs/schemas/recipe.schema.json [--check]", generate::verb),
    (
        "bench",
        "measure a subject: main-path, env, inspect, rungs, supervisor or cycles [COUNT] [--yes]",
        bench::verb,
    ),
    (
        "chroot",
        "an environment beside an installed system of the same packages, as root [--yes]",
        chroot::verb,
    ),
    ("compat", "run real programs and make their table [PROGRAM...] [--list] [--write]", compat::verb),
    ("crash", "power cuts and kills at every step of a build [calls|power] [--cuts N] [--yes]", crash::verb),
    ("api", "schemathesis against the daemon's API, by its OpenAPI file [--yes]", api::verb),
    ("limits", "control groups hold a greedy tool, in a guest", limits::verb),
    ("services", "systemd in a container with users of its own, in a guest [--yes]", services::verb),
    (
        "supervise",
        "units where memory is counted and the clock is set, in a guest started by systemd, as root [--yes]",
        supervise::verb,
    ),
    (
        "virtualbox",
        "the real VBoxManage in an environment, up to the kernel driver [--yes]",
        virtualbox::verb,
    ),
    ("corpus", "fetch and unpack real files to prove inspection on [--tests] [--yes]", corpus::verb),
    (
        "fuzz",
        "libFuzzer over the parsers [TARGET...] [--runs N|--seconds S] [--jobs J] [--fast] [--seeds]",
        fuzz::verb,
    ),
    (
        "dist",
        "build the release and its Debian package into target/dist [--try [--suite NAME]: install it in a Debian of its own]",
        dist::verb,
    ),
    (
        "upgrade",
        "earlier builds replaced by this one and back while units run, as root [REV...] [--yes]",
        upgrade::verb,
    ),
    ("readers", "fetch the other readers of images that tests ask [--yes]", readers::verb),
    ("acme", "build the stand-in vendor package into OUT_DIR", acme::verb),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if fuzz::wraps_rustc() {
        return fuzz::become_rustc(words);
    }
    let verb = words.next().unwrap_or_else(|| "--help".to_owned());
    if matches!(verb.as_str(), "--help" | "-h" | "help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some((_, about, action)) = VERBS.iter().find(|(name, ..)| *name == verb) else {
        eprintln!("error: there is no verb `{verb}`\n\n{}", help());
        return ExitCode::from(2);
    };
    let args = sh::Args::new(words);
    if args.wants_help() {
        println!("cargo xtask {verb}: {about}");
        return ExitCode::SUCCESS;
    }
    match action(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask VERB [ARGUMENTS]\n\n");
    for (name, about, _) in VERBS {
        text.push_str(&format!("  {name:<6} {about}\n"));
    }
    text
}
