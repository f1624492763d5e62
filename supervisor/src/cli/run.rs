//! `hatchway run` and `hatchway shell`

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use hatchway_wire::ready::{Stage, Standing};

use super::NetworkArgs;
use super::lock::summary;
use crate::context::Context;
use crate::error::Error;
use crate::launch::{self, Form, Isolation, Request, run_folder};
use crate::recipe::{self, Located, Rung};
use crate::units::{self, Detached, Terms};
use crate::{artifact, steps};

/// The shells that `hatchway shell` looks for in a tree; every Debian has the first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What `run` and `shell` share.
#[derive(Debug, clap::Args)]
struct Common {
    /// Bind a slot of the recipe (`license=./license.dat`)
    #[arg(long, value_name = "SLOT=VALUE")]
    bind: Vec<String>,
    /// Show a folder of the host to the tool, at the same path; `:ro` for reading only
    #[arg(long, value_name = "DIR[:ro]")]
    share: Vec<String>,
    /// Run the tool as this user (root only; a uid of the tool's own otherwise)
    #[arg(long, value_name = "NAME|UID[:GID]")]
    user: Option<String>,
    /// Try these suites, in this order
    #[arg(long, value_name = "SUITE")]
    suite: Vec<String>,
    /// The name of a file's recipe; the package's own otherwise
    #[arg(long)]
    name: Option<String>,
    /// Keep the recipe of a file in `recipes/` instead of Hatchway's own folder
    #[arg(long)]
    keep: bool,
    /// Isolate the tool in this way instead of the recipe's
    #[arg(long, value_enum)]
    rung: Option<RungWish>,
    /// Print the sandbox's plan of operations instead of running
    #[arg(long)]
    explain: bool,
    /// Print the plan as JSON
    #[arg(long, requires = "explain")]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// The rungs that a person can ask for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RungWish {
    /// Namespaces over the tree
    Fhs,
    /// A container of this machine's engine (docker, or podman with its API)
    Container,
    /// A guest with a kernel of its own, by QEMU
    Vm,
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recipe's name or path, a vendor's file, or a package of Debian's archive
    #[arg(value_name = "NAME|FILE|SPEC")]
    target: String,
    /// The program: inside the package, an absolute path inside, or a name
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
    /// Let it go on by itself: it is kept by a process of its own, which also keeps what it says (`logs`, `stop`, `status`)
    #[arg(long, conflicts_with = "explain")]
    detach: bool,
    /// With `--detach`: do not wait until it is ready, as its recipe says, but only until it has started
    #[arg(long, requires = "detach")]
    no_wait: bool,
    /// The name of this run; a recorder gives it
    #[arg(long, hide = true, conflicts_with = "detach", value_parser = name_of_run)]
    incarnation: Option<String>,
    /// The name of the unit that it is; the daemon gives it
    #[arg(long, hide = true, requires = "incarnation", value_parser = name_of_unit)]
    unit: Option<String>,
    #[command(flatten)]
    common: Common,
    /// Arguments of the tool
    #[arg(last = true)]
    args: Vec<String>,
}

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub(super) struct ShellArgs {
    /// A recipe's name or path, a vendor's file, or a package of Debian's archive
    #[arg(value_name = "NAME|FILE|SPEC")]
    target: String,
    #[command(flatten)]
    common: Common,
    /// Arguments of the shell
    #[arg(last = true)]
    args: Vec<String>,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let stay = Stay {
        detach: args.detach,
        wait: !args.no_wait,
        incarnation: args.incarnation.clone(),
        unit: args.unit.clone(),
    };
    start(&args.target, Some(args.program.as_deref()), (&args.common, &stay), &args.args, quiet)
}

pub(super) fn shell(args: &ShellArgs, quiet: bool) -> Result<ExitCode, Error> {
    start(&args.target, None, (&args.common, &Stay::default()), &args.args, quiet)
}

/// Whether the tool goes on without this process.
#[derive(Debug, Default)]
struct Stay {
    detach: bool,
    /// Until it is ready.
    wait: bool,
    /// A recorder has started this process, for this run.
    incarnation: Option<String>,
    /// The run is this unit's.
    unit: Option<String>,
}

/// Prepares the tool and hands over to the shim. No program stands for the shell.
fn start(
    target: &str,
    wish: Option<Option<&str>>,
    (common, stay): (&Common, &Stay),
    args: &[String],
    quiet: bool,
) -> Result<ExitCode, Error> {
    let mut context = Context::open(quiet, common.network.into())?;
    context.printer.failing_with(super::RUN_FAILURE);
    let located = if is_file(&context, target) {
        from_file(&context, target, common)?
    } else {
        let located = find(&context, target)?;
        refuse_choices(common, &located)?;
        located
    };
    if located.recipe.image().is_some() {
        return machine(&context, &located, wish.flatten(), (common, stay), args);
    }
    let lock = steps::read_lock(&located)?;
    let named = wish.map(|wish| steps::program(&context, &located, wish)).transpose()?;
    let (built, held) = steps::build_and_hold(&context, &located, &lock)?;
    let program = match named {
        Some(program) => program,
        None => shell_of(&context, built.tree)?,
    };
    if !built.cached {
        for note in &built.notes {
            context.printer.say(format!("note: {note}"));
        }
        context.printer.say(format!("tree {} built", built.tree.short()));
    }
    // The recipe's arguments are its program's.
    let own: &[String] = if wish == Some(None) { &located.recipe.run.args } else { &[] };
    let request = Request {
        program,
        args: own.iter().chain(args).cloned().collect(),
        bind: common.bind.clone(),
        share: common.share.clone(),
        user: common.user.clone(),
        explain: common.explain.then_some(if common.json { Form::Json } else { Form::Lines }),
        rung: isolation(common.rung, &located),
        incarnation: stay.incarnation.clone(),
        unit: stay.unit.clone(),
    };
    if stay.detach {
        return detach(&context, &located, stay.wait, &again(&located, wish.flatten(), common, args)?);
    }
    launch::launch(&context, (&located, &lock), (built.tree, held), &request)
}

/// The words that run the tool once more, by the recipe that was found or made: what chooses a lock has had its say.
fn again(
    located: &Located,
    program: Option<&str>,
    common: &Common,
    args: &[String],
) -> Result<Vec<String>, Error> {
    let path = located.path.to_str();
    let path = path.ok_or_else(|| Error::Usage(format!("`{}` is no text", located.path.display())))?;
    // A path has a slash, and a name has none.
    let path = if path.contains('/') { path.to_owned() } else { format!("./{path}") };
    let mut words = vec![path];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    program.iter().for_each(|program| option("--program", program));
    common.bind.iter().for_each(|bind| option("--bind", bind));
    common.share.iter().for_each(|share| option("--share", share));
    common.user.iter().for_each(|user| option("--user", user));
    if let Some(rung) = common.rung.and_then(|rung| rung.to_possible_value()) {
        option("--rung", rung.get_name());
    }
    words.extend(common.network.offline.then(|| "--offline".to_owned()));
    words.push("--".to_owned());
    words.extend(args.iter().cloned());
    Ok(words)
}

pub(super) fn name_of_unit(text: &str) -> Result<String, String> {
    recipe::Name::try_from(text.to_owned()).map(String::from)
}

/// A run's name becomes that of a folder: it is as [`launch::incarnation`] makes them.
pub(super) fn name_of_run(text: &str) -> Result<String, String> {
    let parts = text.split_once('-');
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 20 && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.is_some_and(|(time, process)| is_number(time) && is_number(process)) {
        true => Ok(text.to_owned()),
        false => Err("it is no name of a run: `MILLISECONDS-PROCESS`".to_owned()),
    }
}

/// Leaves the tool to a recorder, which starts it by another command line: by now everything that takes long is done.
fn detach(context: &Context, located: &Located, wait: bool, words: &[String]) -> Result<ExitCode, Error> {
    let name = located.recipe.package.name.as_str();
    let run = units::new_run(&context.dirs, name);
    let folder = run_folder::path(context, name, &run)?;
    run_folder::make(&folder)?;
    let own = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    let mut line = vec![own.to_string_lossy().into_owned()];
    line.extend(context.printer.quiet.then(|| "--quiet".to_owned()));
    line.extend(["run", "--incarnation", &run].map(str::to_owned));
    line.extend_from_slice(words);
    let terms = Terms::of(&located.recipe);
    let (has_wish, terminal) = (terms.ready.is_some(), terms.terminal);
    match units::detach((name, &run, &folder), line, terms, wait)? {
        Detached::Runs(_, standing) => {
            let is = match standing {
                Some(Standing { ready: Stage::Ready, .. }) if has_wish => "is ready",
                _ => "runs",
            };
            let come =
                if terminal { format!("`hatchway attach {name}` comes to it, ") } else { String::new() };
            context.printer.say(format!("`{name}` {is}; {come}`hatchway logs {name}` shows what it says"));
            if let Some(late) = standing.filter(|standing| standing.ready == Stage::Late) {
                context.printer.warn(format!("`{name}` is {}", units::late_told(&late)));
            }
            context.printer.data(&run);
            Ok(ExitCode::SUCCESS)
        }
        Detached::Ended(seen) => {
            let why = seen
                .record
                .as_ref()
                .map_or_else(|| "what keeps it was killed".to_owned(), |record| units::told(&record.reason));
            context.printer.say(format!("`{name}` has ended already: {why}"));
            context.printer.data(&run);
            let code = seen.record.map_or(hatchway_wire::exit::CODE_HATCHWAY_FAILED, |record| record.code);
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
        }
    }
}

/// A guest from an image has no tree, and nothing of ours runs in it.
fn machine(
    context: &Context,
    located: &Located,
    program: Option<&str>,
    (common, stay): (&Common, &Stay),
    args: &[String],
) -> Result<ExitCode, Error> {
    let chosen = [
        (program.is_some(), "`--program`"),
        (!args.is_empty(), "arguments"),
        (common.rung.is_some(), "`--rung`"),
    ];
    if let Some((_, what)) = chosen.iter().find(|(given, _)| *given) {
        return Err(Error::Usage(format!("a guest from a disk image takes no {what}")));
    }
    if stay.detach {
        return detach(context, located, stay.wait, &again(located, None, common, &[])?);
    }
    let wish = launch::machine::Wish {
        kept: stay.incarnation.as_deref(),
        unit: stay.unit.as_deref(),
        bind: &common.bind,
        share: &common.share,
        user: common.user.as_deref(),
        explain: common.explain.then_some(if common.json { Form::Json } else { Form::Lines }),
    };
    launch::machine::run(context, located, &wish)
}

/// A wish of the command line comes before the recipe's.
fn isolation(wish: Option<RungWish>, located: &Located) -> Isolation {
    match (wish, located.recipe.run.rung) {
        (Some(RungWish::Container), _) | (None, Rung::Container) => Isolation::Container,
        (Some(RungWish::Vm), _) | (None, Rung::Vm) => Isolation::Vm,
        (Some(RungWish::Fhs), _) | (None, _) => Isolation::Fhs,
    }
}

fn shell_of(context: &Context, tree: hatchway_envs::digest::Sha256) -> Result<String, Error> {
    let manifest = context.store.manifest(tree)?;
    let there = |shell: &&&str| manifest.resolve(shell).is_ok_and(|path| manifest.nodes.contains_key(&path));
    let found = SHELLS.iter().find(there).map(|shell| (*shell).to_owned());
    found.ok_or_else(|| Error::Usage("the tree has no shell: its base and its artifacts bring none".into()))
}

/// Options that choose what goes into a lock have no say where there is one.
fn refuse_choices(common: &Common, located: &Located) -> Result<(), Error> {
    let chosen = [
        (!common.suite.is_empty(), "--suite"),
        (common.keep, "--keep"),
        (common.network.refresh, "--refresh"),
        (common.name.is_some(), "--name"),
    ];
    match chosen.iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(Error::Locked { option, name: located.recipe.package.name.to_string() }),
        None => Ok(()),
    }
}

pub(super) fn find(context: &Context, name: &str) -> Result<Located, Error> {
    match recipe::find(name, &context.dirs.recipes()) {
        Err(Error::NoRecipe { .. }) if name.contains('/') => Err(Error::Nothing(name.to_owned())),
        other => other,
    }
}

/// A name with a slash is a path; without one, a recipe of that name comes before a file.
pub(super) fn is_file(context: &Context, target: &str) -> bool {
    if target.starts_with("debian:") {
        return true;
    }
    let path = Path::new(target);
    let toml = path.extension().is_some_and(|e| e == "toml");
    let recipe = || !target.contains('/') && recipe::locate(target, &context.dirs.recipes()).is_ok();
    path.is_file() && !toml && !recipe()
}

/// Inspect, new, lock in one go, each step explained; a second call with the same file repeats none of them.
fn from_file(context: &Context, target: &str, common: &Common) -> Result<Located, Error> {
    let printer = &context.printer;
    let acquired = artifact::acquire(context, target)?;
    let facts = artifact::facts(context, &acquired.file, acquired.sha256, &acquired.path)?;
    let folder = if common.keep { steps::recipes_here() } else { context.dirs.own_recipes() };
    let name = match &common.name {
        Some(name) => recipe::Name::try_from(name.clone()).map_err(Error::Usage)?.to_string(),
        None => steps::default_name(&facts).to_string(),
    };
    let path = folder.join(&name).join("recipe.toml");
    let fits =
        |located: &Located| located.recipe.artifacts.iter().any(|a| a.sha256.digest() == acquired.sha256);
    recipe::refuse_foreign(&path)?;
    let located = match recipe::read(&path) {
        Ok(located) if fits(&located) => located,
        // A file that calls itself like another tool must not get that tool's state and identity.
        Ok(_) => return Err(Error::OtherFile { path, name }),
        Err(error) if path.exists() => return Err(error),
        Err(_) => {
            let outside = facts.needs.iter().filter(|need| need.found.is_none()).count();
            printer.say(format!(
                "inspected {}: {}, {outside} libraries from outside",
                acquired.file, facts.artifact.format
            ));
            steps::new(context, &acquired, &facts, Some(&name), &folder, false)?
        }
    };
    // Also of what was made just now: the folder it is in may have come from elsewhere meanwhile.
    recipe::refuse_foreign(&located.path)?;
    let current = steps::read_lock(&located).is_ok_and(|lock| {
        let suite = lock.base.strip_prefix("debian:").unwrap_or_default();
        common.suite.is_empty() || common.suite.iter().any(|wanted| wanted == suite)
    });
    if !current || common.network.refresh {
        let wish = steps::LockWish { suites: common.suite.clone(), ..steps::LockWish::default() };
        let locked = steps::lock(context, &located, &wish)?;
        printer.say(summary(&locked.lock));
    }
    Ok(located)
}
