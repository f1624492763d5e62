//! Programs of e2fsprogs over a disk that a guest has written, which may be anything: `debugfs` follows a link that it has made itself
//! when a second entry of a folder has the same name. So they run in a sandbox in which there is nothing else to be written.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use hatchway_envs::sandbox::{
    CompanionSpec, HostFacts, InsidePath, Mode, Reach, User, companion_plan, host_path, host_view, spawn_shim,
};

/// Where they see the folder that they work in.
pub(super) const AT: &str = "/work";
/// Who they are, for messages.
const NAME: &str = "state";

/// One start of a program.
#[derive(Debug)]
pub struct Job<'a> {
    /// On the host.
    pub program: &'a Path,
    /// Its arguments; paths are below [`folder`](Self::folder), which it sees as the result of [`Confined::at`].
    pub arguments: &'a [&'a str],
    /// The only folder that it needs.
    pub folder: &'a Path,
    /// Who it runs as, where this is root.
    pub owner: Option<(u32, u32)>,
}

/// What keeps such a program away from everything else.
pub trait Confined: Debug {
    /// Where a program sees the folder of its job.
    fn at(&self, folder: &Path) -> PathBuf;
    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, and why.
    fn run(&self, job: &Job<'_>) -> Result<Output, String>;
}

/// A sandbox of namespaces, as for what serves a tool beside it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// `hatchway-shim`.
    pub shim: PathBuf,
}

impl Confined for Sandbox {
    fn at(&self, _folder: &Path) -> PathBuf {
        AT.into()
    }

    fn run(&self, job: &Job<'_>) -> Result<Output, String> {
        let child = self.plan(job).and_then(|plan| {
            let held: [OwnedFd; 0] = [];
            spawn_shim(&self.shim, &plan, &held, |command| {
                command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
                hatchway_sys::process::end_with_parent(command);
            })
        });
        let output = child.map_err(|error| chain(&error))?.wait_with_output();
        output.map_err(|error| error.to_string())
    }
}

impl Sandbox {
    fn plan(&self, job: &Job<'_>) -> Result<hatchway_wire::Bootstrap, hatchway_envs::sandbox::Error> {
        let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (uid, gid) = job.owner.unwrap_or_else(own);
        let spec = CompanionSpec {
            name: NAME.to_owned(),
            program: host_path(job.program)?,
            args: job.arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            folder: (host_path(job.folder)?, InsidePath::new(AT)?),
            files: Vec::new(),
            sockets: Vec::new(),
            reach: Reach::Sockets,
            user: User::new(NAME, uid, gid)?,
            mode: if job.owner.is_some() { Mode::Root { groups: Vec::new() } } else { Mode::User },
        };
        companion_plan(&spec, host_view(Reach::Sockets)?, &HostFacts::detect(Vec::new()))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}
