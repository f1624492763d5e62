//! The command line: arguments to requests, one file a subcommand, no logic in the dispatcher.

mod attach;
mod build;
mod doctor;
mod export;
mod fetch;
mod from;
mod generate;
mod inspect;
mod instrument;
mod lock;
mod machine;
mod man;
mod native;
mod new;
mod plan;
mod recipe;
mod run;
mod show;
mod store;
mod support;
mod timeline;
mod top;
mod units;
mod visit;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::context::NetworkUse;
use crate::error::Error;
use crate::report::Printer;

/// Exit codes of every verb but `run`, `shell`, `exec` and `attach`: 0 yes, 1 the answer is no, 2 usage or failure.
const FAILURE: u8 = 2;
/// `run`, `shell`, `exec` and `attach`: Hatchway failed before the tool did anything.
const RUN_FAILURE: u8 = 125;

/// Runs the vendor software you cannot change on the system you have pinned.
#[derive(Debug, Parser)]
#[command(name = "hatchway", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "A vendor file in, a running tool out:\n  hatchway run ./vendor.deb -- --version\n\nStep by step: inspect, new, lock, build, run. Exit codes: 0 yes, 1 the answer is no, 2 usage or failure;\n`run`, `shell`, `exec` and `attach` give the program's own code, or 125 when Hatchway failed first."
)]
pub struct Cli {
    /// Print data and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a vendor's file needs, and how it would be run
    Inspect(inspect::Args),
    /// Say how a tool would be run and why, and what each rung would cost it
    Plan(plan::Args),
    /// Write a recipe for a vendor's file
    New(new::Args),
    /// Choose a suite by evidence and pin every input of a recipe by hash
    Lock(lock::Args),
    /// Build the tree of a locked recipe
    Build(build::Args),
    /// Run a tool in its sandbox: a recipe, or a vendor's file straight away
    Run(run::Args),
    /// Open a shell in a tool's sandbox
    Shell(run::ShellArgs),
    /// Run another program in the sandbox of a tool that runs
    Exec(visit::ExecArgs),
    /// Come to the terminal of a unit, and leave it without ending it
    Attach(attach::Args),
    /// Say what the tools that run use
    Stats(visit::StatsArgs),
    /// Say which tools run, and how the others have ended
    Status(units::StatusArgs),
    /// Say what each tool that runs uses, look by look
    Top(top::Args),
    /// Show all that is known of a unit: its configuration, its last run, what has happened to it
    Show(show::Args),
    /// Show what a tool said that was started with `run --detach`
    Logs(units::LogsArgs),
    /// Carry the instrument out: say what starts, stops, restarts and stays, and do it
    Up(instrument::UpArgs),
    /// Start units of the instrument, and wait until they are ready
    Start(instrument::StartArgs),
    /// End units of the instrument and start them again
    Restart(instrument::StartArgs),
    /// Show what has happened to the units, and who has asked for what
    Events(instrument::EventsArgs),
    /// Show what has happened to units and in the kernel, in one sequence
    Timeline(timeline::Args),
    /// Collect what is known of this instrument for somebody who is not there, and look at it
    #[command(subcommand)]
    Support(support::Command),
    /// Say what a code of the API's errors means, and what to do
    Explain(instrument::ExplainArgs),
    /// Keep the units of the instrument as they are wanted (a service of systemd's)
    Daemon(instrument::DaemonArgs),
    /// Ask a tool to end; it is killed after its grace time
    Stop(units::StopArgs),
    /// End a tool at once
    Kill(units::StopArgs),
    /// Show the last runs of a tool, and why each has ended
    History(units::HistoryArgs),
    /// Say why a tool has ended, by what, and what to do next
    Why(units::WhyArgs),
    /// Check recipes
    #[command(subcommand)]
    Recipe(recipe::Command),
    /// Say what this host offers, what it lacks, and what mends it
    Doctor(doctor::Args),
    /// Look after the store: check it, mend it, make room in it
    #[command(subcommand)]
    Store(store::Command),
    /// Look after guests from disk images: snapshots of what is kept of them
    #[command(subcommand)]
    Machine(machine::Command),
    /// Write a tool for programs that are not Hatchway
    #[command(subcommand)]
    Export(export::Command),
    /// Fetch a package of Debian's archive as a file
    Fetch(fetch::Args),
    /// Print shell completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Run a native service; the daemon says so
    #[command(hide = true)]
    Native(native::Args),
    /// Print generated documentation
    #[command(hide = true, subcommand)]
    Generate(generate::Command),
}

/// How the network is used.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct NetworkArgs {
    /// Use only what is cached and stored
    #[arg(long, conflicts_with = "refresh")]
    offline: bool,
    /// Read the indices anew, even when the cached ones are young
    #[arg(long)]
    refresh: bool,
}

impl From<NetworkArgs> for NetworkUse {
    fn from(args: NetworkArgs) -> Self {
        Self { offline: args.offline, refresh: args.refresh }
    }
}

/// Parses the command line, runs the command, prints its error.
#[must_use]
pub fn main() -> ExitCode {
    let failure = failure(std::env::args_os().skip(1));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told(&error, failure),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            Printer::default().error(&error);
            ExitCode::from(failure)
        }
    }
}

/// The exit code of a command that fails, before anybody knows whether its arguments are right: `run`, `shell`, `exec` and `attach`
/// pass the tool's own, and are told apart from it.
fn failure(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    // The options before the verb are without a value.
    match arguments.find(|argument| !argument.as_encoded_bytes().starts_with(b"-")) {
        Some(verb) if ["run", "shell", "exec", "attach", "native"].iter().any(|passes| verb == *passes) => {
            RUN_FAILURE
        }
        _ => FAILURE,
    }
}

/// Wrong arguments, or what `--help` and `--version` ask for.
fn told(error: &clap::Error, failure: u8) -> ExitCode {
    // Nobody can be told when stderr is gone.
    drop(error.print());
    if error.use_stderr() { ExitCode::from(failure) } else { ExitCode::SUCCESS }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Error> {
    let quiet = cli.quiet;
    match cli.command {
        Command::Inspect(args) => inspect::main(&args, quiet),
        Command::Plan(args) => plan::main(&args, quiet),
        Command::New(args) => new::main(&args, quiet),
        Command::Lock(args) => lock::main(&args, quiet),
        Command::Build(args) => build::main(&args, quiet),
        Command::Run(args) => run::main(&args, quiet),
        Command::Shell(args) => run::shell(&args, quiet),
        Command::Exec(args) => visit::exec(&args, quiet),
        Command::Attach(args) => attach::main(&args, quiet),
        Command::Stats(args) => visit::stats(&args, quiet),
        Command::Status(args) => units::status(&args, quiet),
        Command::Top(args) => top::main(&args, quiet),
        Command::Show(args) => show::main(&args, quiet),
        Command::Timeline(args) => timeline::main(&args, quiet),
        Command::Support(command) => support::main(&command, quiet),
        Command::Logs(args) => units::logs(&args, quiet),
        Command::Up(args) => instrument::up(&args, quiet),
        Command::Start(args) => instrument::start(&args, quiet),
        Command::Restart(args) => instrument::restart(&args, quiet),
        Command::Events(args) => instrument::events(&args, quiet),
        Command::Explain(args) => instrument::explain(&args, quiet),
        Command::Daemon(args) => instrument::daemon(&args),
        Command::Stop(args) => units::stop(&args, quiet),
        Command::Kill(args) => units::kill(&args, quiet),
        Command::History(args) => units::history(&args, quiet),
        Command::Why(args) => units::why(&args, quiet),
        Command::Recipe(command) => recipe::main(&command),
        Command::Doctor(args) => doctor::main(&args),
        Command::Store(command) => store::main(&command, quiet),
        Command::Machine(command) => machine::main(&command, quiet),
        Command::Export(command) => export::main(&command, quiet),
        Command::Fetch(args) => fetch::main(&args, quiet),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hatchway", &mut text);
            Printer::default().raw(&String::from_utf8_lossy(&text));
            Ok(ExitCode::SUCCESS)
        }
        Command::Native(args) => native::main(&args, quiet),
        Command::Generate(command) => generate::main(&command),
    }
}

/// JSON for people and programs alike.
fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| escaped(&text)).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))
}

/// JSON that steers no terminal: the control characters that its writer leaves as they are, which can be in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if ('\u{7f}'..='\u{9f}').contains(&c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_that_a_person_is_told_to_type_is_one() {
        let verbs: Vec<String> =
            Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let mut told = 0;
        for meaning in crate::daemon::problem::meanings() {
            for part in meaning.next.split("`hatchway ").skip(1) {
                let verb: String =
                    part.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
                // An option before the verb, or `hatchway …`.
                assert!(verb.is_empty() || verbs.contains(&verb), "{}: {}", meaning.code, meaning.next);
                told += 1;
            }
        }
        assert!(told > 50, "{told}");
    }
}
