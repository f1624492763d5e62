//! Coming to a tool that runs: which runs there are, another program beside the tool, and what the unit uses. It is the same on each rung,
//! since what answers at a run's socket is the shim or `hatchway run` ([`hatchway_wire::control`]).

mod exec;

use std::fs;
use std::path::PathBuf;

use hatchway_wire::control::{ControlOrder, ControlReport, SOCKET, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::launch::packets::{Packets, Received};

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
    let units = dirs.runtime.join("units");
    let names = |folder: &PathBuf| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let mut found = Vec::new();
    for name in names(&units).into_iter().filter(|name| tool.is_none_or(|tool| tool == name)) {
        for run in names(&units.join(&name)) {
            let folder = units.join(&name).join(&run);
            // A socket that nobody listens at is left of a run that was killed.
            let there = match Packets::connect(&folder, SOCKET) {
                Ok(_) => true,
                // Somebody listens, and takes nobody now.
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            };
            if there {
                found.push(Running { tool: name.clone(), run, folder });
            }
        }
    }
    found
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
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(Error::Host {
            message: match run {
                Some(run) => format!("no run `{run}` of `{tool}` is there"),
                None => format!("`{tool}` does not run"),
            },
            hints: vec!["`hatchway stats` shows what runs; only who started a run comes to it".to_owned()],
        }),
        several => {
            let runs: Vec<&str> = all.iter().map(|one| one.run.as_str()).collect();
            Err(Error::Host {
                message: format!("`{tool}` runs {several} times: {}", runs.join(", ")),
                hints: vec!["choose one with `--run`".to_owned()],
            })
        }
    }
}

impl Running {
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
