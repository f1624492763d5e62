//! Starts a unit: the recorder, with the words of `hatchway run` as what it is to run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hatchway_envs::sandbox;
use hatchway_wire::VERSION;
use hatchway_wire::exit::{CODE_HATCHWAY_FAILED, ExitReason, ExitRecord, Stamp, Usage};
use hatchway_wire::log::Policy;
use hatchway_wire::unit::{self, Begun, Unit};

use crate::clock::{self, Now};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::instrument::{UnitConfig, UnitRung};
use crate::launch::{native, run_folder};
use crate::recipe::Located;
use crate::units::{self, Kept, Terms};

use super::view::{self, Carried};

/// What a start needs; it goes to a thread of its own.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) config: UnitConfig,
    pub(super) digest: String,
    pub(super) recipes: Vec<PathBuf>,
}

/// A unit that was not started.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Box<Error>,
    /// It has left a record that says so, as one that has ended.
    pub(super) is_recorded: bool,
}

/// Starts it.
pub(super) fn start(dirs: &Dirs, order: &Order) -> Result<Kept, Failed> {
    let run = units::new_run(dirs, &order.name);
    let folder =
        folder(dirs, &order.name, &run).and_then(|folder| run_folder::make(&folder).map(|()| folder));
    let folder = folder.map_err(|error| Failed { error: error.into(), is_recorded: false })?;
    keep(order, &run, &folder).map_err(|error| {
        let is_recorded = not_started(order, &run, &folder, &error).is_ok();
        Failed { error: error.into(), is_recorded }
    })
}

fn keep(order: &Order, run: &str, folder: &Path) -> Result<Kept, Error> {
    let (command, terms) = match view::find(&order.config, &order.recipes)? {
        Carried::Tool(located) => (words(order, &located, run)?, Terms::of(&located.recipe)),
        Carried::Native(program) => (native_words(order, &program, run)?, native::terms()),
    };
    units::keep((&order.name, run, folder), command, terms, Some(order.digest.clone()))
}

fn folder(dirs: &Dirs, unit: &str, run: &str) -> Result<PathBuf, Error> {
    let runtime = &dirs.runtime;
    std::fs::create_dir_all(runtime).map_err(Error::io("create", runtime))?;
    // The shim takes no path with a link in it.
    let runtime = PathBuf::from(sandbox::host_path(runtime)?.as_str());
    Ok(runtime.join("units").join(unit).join(run))
}

/// Where this program was when it was first asked for: an upgrade puts another in its place, and that one runs units from then on.
///
/// # Errors
/// The kernel does not say.
pub(super) fn own_program() -> Result<&'static Path, Error> {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own);
    }
    let own = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    Ok(OWN.get_or_init(|| own))
}

/// The words that run it. What it needs is there: a start waits for no network.
fn words(order: &Order, located: &Located, run: &str) -> Result<Vec<String>, Error> {
    let own = own_program()?;
    let path = std::path::absolute(&located.path).map_err(Error::io("find", &located.path))?;
    let mut words = vec![own.to_string_lossy().into_owned()];
    words.extend(
        ["--quiet", "run", "--offline", "--incarnation", run, "--unit", &order.name].map(str::to_owned),
    );
    if let Some(rung) = order.config.rung {
        let rung = match rung {
            UnitRung::Fhs => "fhs",
            UnitRung::Container => "container",
            UnitRung::Vm => "vm",
        };
        words.extend(["--rung".to_owned(), rung.to_owned()]);
    }
    if let Some(user) = &order.config.user {
        words.extend(["--user".to_owned(), user.clone()]);
    }
    words.extend(order.config.bindings().into_iter().flat_map(|bind| ["--bind".to_owned(), bind]));
    words.push(path.to_string_lossy().into_owned());
    words.push("--".to_owned());
    words.extend(order.config.args.iter().cloned());
    Ok(words)
}

/// The words that run a native service, in the instrument's folder.
fn native_words(order: &Order, program: &Path, run: &str) -> Result<Vec<String>, Error> {
    let own = own_program()?.to_string_lossy().into_owned();
    let folder = order.recipes.first().and_then(|recipes| recipes.parent()).unwrap_or(Path::new("/"));
    let mut words = vec![own];
    words.extend(
        ["--quiet", "native", "--incarnation", run, "--unit", &order.name, "--folder"].map(str::to_owned),
    );
    words.push(folder.to_string_lossy().into_owned());
    if let Some(user) = &order.config.user {
        words.extend(["--user".to_owned(), user.clone()]);
    }
    words.extend([program.to_string_lossy().into_owned(), "--".to_owned()]);
    words.extend(order.config.args.iter().cloned());
    Ok(words)
}

fn not_started(order: &Order, run: &str, folder: &Path, error: &Error) -> Result<(), Error> {
    let Now { boot, monotonic } = Now::get();
    let ms = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
    let told = Unit {
        version: VERSION,
        unit: order.name.clone(),
        incarnation: run.to_owned(),
        command: Vec::new(),
        logs: Policy::default(),
        begun: Some(Begun { boot, monotonic_ms: ms }),
        config: Some(order.digest.clone()),
        linger_ms: 0,
        ready: None,
        terminal: false,
        hears_kept: false,
    };
    let nanos = i64::try_from(monotonic.as_nanos()).unwrap_or(i64::MAX);
    let moment = Stamp { realtime_ns: clock::now_ns(), tai_ns: 0, monotonic_ns: nanos };
    let record = ExitRecord {
        version: VERSION,
        unit: order.name.clone(),
        incarnation: run.to_owned(),
        program: String::new(),
        started: moment,
        ended: moment,
        reason: ExitReason::NotStarted { message: in_lines(error) },
        code: CODE_HATCHWAY_FAILED,
        shim_pid: 0,
        tool_pid: None,
        usage: Usage::default(),
        notes: Vec::new(),
        evidence: Vec::new(),
        memory: None,
        logged: None,
        exit_file: None,
    };
    run_folder::make(folder)?;
    for (name, text) in [
        (unit::FILE, serde_json::to_vec_pretty(&told)),
        (run_folder::EXIT, serde_json::to_vec_pretty(&record)),
    ] {
        let text = text.map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// An error with its hints, a line each.
fn in_lines(error: &Error) -> String {
    let hints = error.hints().into_iter().map(|hint| format!("\nhint: {hint}"));
    std::iter::once(error.whole()).chain(hints).collect()
}
