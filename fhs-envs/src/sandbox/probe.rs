//! What this host allows, as data; and what to do where it does not.
use super::Error;
use super::spec::{Mode, Spec, StdioMode, User};
use hatchway_wire::{ExitReason, ExitRecord, HostPath};
use std::fmt;
use std::path::Path;

/// What the plan needs to know about the host. Cheap: a few files of `/proc`, no trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Effective user id of the caller.
    pub uid: u32,
    /// Effective group id of the caller.
    pub gid: u32,
    /// Whether the kernel offers the overlay file system to this caller. The shim falls back if it is wrong.
    pub overlay: bool,
    /// `TERM` of the caller.
    pub term: Option<String>,
    /// Hatchway's own folders, which no tool may see: store, generations, run-time folder.
    pub own: Vec<HostPath>,
    /// Version of the kernel's Landlock; 0 for none.
    pub landlock: u32,
}

impl HostFacts {
    /// Looks. `own` are Hatchway's own folders: the store, the generations, the run-time folder.
    #[must_use]
    pub fn detect(own: Vec<HostPath>) -> Self {
        let listed = || std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            // Loaded on demand where it is a module, so absence from the list only rules it out with a trial.
            overlay: std::path::Path::new("/lib/modules").exists()
                || std::path::Path::new("/sys/module/overlay").exists()
                || listed().lines().any(|line| line.ends_with("\toverlay")),
            term: std::env::var("TERM").ok().filter(|term| !term.is_empty()),
            own,
            landlock: hatchway_sys::probe::landlock_version()
                .ok()
                .and_then(|version| u32::try_from(version).ok())
                .unwrap_or(0),
        }
    }
}

/// One thing about the host that keeps the sandbox from working, or from working fully.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is, for a person.
    pub explanation: String,
    /// The command or change that removes it.
    pub fix: String,
    /// Nothing runs with it; otherwise something runs with less.
    pub fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explanation)
    }
}

/// The answer of `hatchway doctor` about the fhs rung.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// A sandbox can be made: namespaces, mounts, the filter, everything.
    pub works: bool,
    /// Its whole root is writable; otherwise only the usual places are.
    pub overlay: bool,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

/// Switches of this host that forbid user namespaces to ordinary users, without a trial.
#[must_use]
pub fn known_obstacles() -> Vec<Problem> {
    let found = hatchway_sys::user_namespace::obstacles().into_iter();
    found
        .map(|obstacle| Problem { explanation: obstacle.explanation, fix: obstacle.fix, fatal: true })
        .collect()
}

/// Makes a real sandbox over an empty tree, in the mode this caller would use, and starts a program that is not
/// there. `scratch` is a folder on the host to work in.
pub fn probe(shim: &Path, scratch: &Path) -> Result<Report, Error> {
    let step = |step: &'static str| move |source| Error::Launch { step: step.to_owned(), source };
    let folder = super::host_path(scratch)?.join(&format!("probe-{}", std::process::id()))?;
    std::fs::create_dir(&folder).map_err(step("make a folder for the trial"))?;
    let result = trial(shim, &folder);
    // It holds nothing but the record, and the verdict counts more than a left-over folder.
    std::fs::remove_file(format!("{folder}/exit.json")).ok();
    std::fs::remove_dir(&folder).ok();
    result
}

fn trial(shim: &Path, folder: &HostPath) -> Result<Report, Error> {
    let host = HostFacts { overlay: true, ..HostFacts::detect(Vec::new()) };
    let (user, mode) = if host.uid == 0 {
        (User::new("nobody", 65534, 65534)?, Mode::Root { groups: Vec::new() })
    } else {
        (User::new("tool", host.uid, host.gid)?, Mode::User)
    };
    let mut spec = Spec::new("probe", folder.clone(), "/hatchway-probe", user, mode);
    let record = folder.join("exit.json")?;
    spec.exit_file = Some(record.clone());
    spec.stdio = StdioMode::Detached;
    let output = super::launch::run_quietly(shim, &super::plan(&spec, &host)?)?;
    let record =
        std::fs::read(&record).ok().and_then(|text| serde_json::from_slice::<ExitRecord>(&text).ok());
    Ok(judge(record, &output))
}

/// The trial went well if all that failed was the program that is not there.
fn judge(record: Option<ExitRecord>, output: &str) -> Report {
    let Some(record) = record else {
        // The shim found out before there was a sandbox to write about.
        let problems = known_obstacles();
        let explanation = output.lines().next().unwrap_or("the shim said nothing").to_owned();
        let fix = "`hatchway-shim` must be an executable of the same release".to_owned();
        let own = Problem { explanation, fix, fatal: true };
        return Report {
            problems: if problems.is_empty() { vec![own] } else { problems },
            ..Report::default()
        };
    };
    let mut report = Report { overlay: record.notes.is_empty(), ..Report::default() };
    for note in record.notes {
        let fix =
            "a kernel from 5.11 on mounts overlays for ordinary users, `modprobe overlay` may be needed"
                .to_owned();
        report.problems.push(Problem { explanation: note, fix, fatal: false });
    }
    match record.reason {
        ExitReason::ExecFailed { .. } => report.works = true,
        ExitReason::SandboxFailed { operation, message, .. } => {
            let explanation = format!("cannot {operation}: {message}");
            let fix =
                output.lines().filter_map(|line| line.strip_prefix("hint: ")).collect::<Vec<_>>().join("; ");
            report.problems.push(Problem { explanation, fix, fatal: true });
        }
        other => {
            let explanation = format!("the trial ended unexpectedly: {other:?}");
            report.problems.push(Problem { explanation, fix: String::new(), fatal: true });
        }
    }
    report
}
