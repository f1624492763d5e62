//! Coming to a tool that runs: which runs there are, another program beside the tool, and what the unit uses. It is the same on each rung,
//! since what answers at a run's socket is the shim or `hatchway run` ([`hatchway_wire::control`]).

mod exec;

use std::fs;
use std::path::{Path, PathBuf};

use hatchway_wire::control::{ControlOrder, ControlReport, SOCKET, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::dirs::{Dirs, names_in};
use crate::error::Error;
use crate::launch::packets::{Packets, Received};
use crate::launch::{machine, run_folder};

pub use exec::exec;

/// How long a unit may take to an answer. One in a guest that swaps takes its time.
const ANSWER_MAX_S: i64 = 10;

/// A tool that runs.
#[derive(Debug)]
pub struct Running {
    /// Name of the tool.
    pub tool: String,
    /// Which run of it.
    pub run: String,
    folder: PathBuf,
}

/// What a run uses, for `hatchway stats`.
#[derive(Debug, Clone, Serialize)]
pub struct Used {
    /// Name of the tool.
    pub tool: String,
    /// Which run of it.
    pub run: String,
    /// What it uses.
    #[serde(flatten)]
    pub stats: Stats,
}

/// All that run, oldest first: those at whose socket somebody answers.
#[must_use]
pub fn running(dirs: &Dirs, tool: Option<&str>) -> Vec<Running> {
    folders(dirs, tool, answers)
}

/// Guests from disk images that run, oldest first. Nothing of Hatchway is in one that could answer.
#[must_use]
pub fn machines(dirs: &Dirs, tool: Option<&str>) -> Vec<Running> {
    folders(dirs, tool, |folder| run_folder::machine_of(folder).is_some())
}

fn folders(dirs: &Dirs, tool: Option<&str>, wanted: impl Fn(&Path) -> bool) -> Vec<Running> {
    let units = dirs.runtime.join("units");
    let mut found = Vec::new();
    for name in names_in(&units).into_iter().filter(|name| tool.is_none_or(|tool| tool == name)) {
        for run in names_in(&units.join(&name)) {
            let folder = units.join(&name).join(&run);
            if wanted(&folder) {
                found.push(Running { tool: name.clone(), run, folder });
            }
        }
    }
    found
}

/// Whether somebody listens at the control socket in a run's folder. A socket that nobody listens at is left of a run that was killed.
#[must_use]
pub(crate) fn answers(folder: &Path) -> bool {
    match Packets::connect(folder, SOCKET) {
        Ok(_) => true,
        // Somebody listens, and takes nobody now.
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Whether the tool has started: until then its shim answers nobody.
#[must_use]
pub(crate) fn has_started(folder: &Path) -> bool {
    let (tool, run) = (String::new(), String::new());
    Running { tool, run, folder: folder.to_owned() }.stats().is_ok()
}

/// The one that is meant.
///
/// # Errors
/// None runs, or several do and none was chosen.
pub fn find(dirs: &Dirs, tool: &str, run: Option<&str>) -> Result<Running, Error> {
    let mut all = running(dirs, Some(tool));
    if let Some(run) = run {
        all.retain(|one| one.run == run);
    }
    let machine = machines(dirs, Some(tool)).into_iter().find(|one| run.is_none_or(|run| one.run == run));
    match (all.len(), machine) {
        (1, _) => Ok(all.remove(0)),
        (0, Some(machine)) => Err(Error::Host {
            message: format!("{}: nothing of Hatchway is in it that could start a program", machine.told()),
            hints: vec![machine.way_in()],
        }),
        (0, None) => Err(Error::Host {
            message: match run {
                Some(run) => format!("no run `{run}` of `{tool}` is there"),
                None => format!("`{tool}` does not run"),
            },
            hints: vec!["`hatchway stats` shows what runs; only who started a run comes to it".to_owned()],
        }),
        (several, _) => {
            let runs: Vec<&str> = all.iter().map(|one| one.run.as_str()).collect();
            Err(Error::Host {
                message: format!("`{tool}` runs {several} times: {}", runs.join(", ")),
                hints: vec!["choose one with `--run`".to_owned()],
            })
        }
    }
}

impl Running {
    /// That it is a guest from a disk image.
    #[must_use]
    pub fn told(&self) -> String {
        format!("`{}` is a guest from a disk image and runs ({})", self.tool, self.run)
    }

    /// How a person comes to a guest from a disk image: by what it shows itself.
    #[must_use]
    pub fn way_in(&self) -> String {
        let folder = self.folder.join(machine::FOLDER);
        let screen = folder.join("vnc");
        if screen.exists() {
            return format!("its screen: `vncviewer {}`", screen.display());
        }
        format!(
            "its serial lines are sockets in `{0}`: `ls {0}`, then `socat - UNIX-CONNECT:…`",
            folder.display()
        )
    }

    /// How a person sees what such a guest uses.
    #[must_use]
    pub fn usage(&self) -> String {
        let pid = run_folder::machine_of(&self.folder).unwrap_or_default();
        // VirtualBox's process of a guest is nobody's child.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        if children.trim().is_empty() {
            return "`VBoxManage list runningvms` shows it, `VBoxManage metrics query` what it uses"
                .to_owned();
        }
        format!("`ps --ppid {pid} -o pid,etime,time,rss,comm` shows what QEMU uses")
    }

    fn connect(&self) -> Result<Packets, Error> {
        Packets::connect(&self.folder, SOCKET).map_err(Error::io("come to", self.folder.join(SOCKET)))
    }

    /// What it uses.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stats(&self) -> Result<Used, Error> {
        let failed = || Error::io("ask", self.folder.join(SOCKET));
        let packets = self.connect()?;
        packets.send(&ControlOrder::Stats, &[]).map_err(failed())?;
        let mut fds = [PollFd::new(&packets, PollFlags::IN)];
        let timeout = Timespec { tv_sec: ANSWER_MAX_S, tv_nsec: 0 };
        poll(&mut fds, Some(&timeout)).map_err(|errno| failed()(errno.into()))?;
        match packets.receive().map_err(failed())? {
            Received::Message(ControlReport::Stats(stats), _) => {
                Ok(Used { tool: self.tool.clone(), run: self.run.clone(), stats })
            }
            _ => Err(Error::Host {
                message: format!("`{}` gives no answer: it begins, or ends, or its guest hangs", self.tool),
                hints: vec!["try again; `exit.json` in its folder says how it ended".to_owned()],
            }),
        }
    }
}
