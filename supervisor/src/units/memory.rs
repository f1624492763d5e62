//! What the daemon remembers of runs between two looks: only what cannot change any more. A run that has ended stays so, and one that
//! was ready stays ready as long as it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use hatchway_wire::ready;

use super::{Seen, State, is_kept, see_readable, there};
use crate::dirs::Dirs;

/// Runs by unit and name.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<String, BTreeMap<String, Seen>>);

impl Memory {
    /// As [`all_of`], but for what is remembered. What is gone is forgotten.
    ///
    /// # Errors
    /// A folder or a file that is there cannot be read.
    pub fn all_of(&mut self, dirs: &Dirs, unit: &str) -> io::Result<Vec<Seen>> {
        let folder = dirs.runtime.join("units").join(unit);
        let known = self.0.remove(unit).unwrap_or_default();
        let mut now = BTreeMap::new();
        for entry in there(fs::read_dir(&folder))?.into_iter().flatten() {
            let run = entry?.file_name().to_string_lossy().into_owned();
            let path = folder.join(&run);
            let seen = match known.get(&run).and_then(|seen| still(seen, &path)) {
                Some(seen) => seen,
                None => see_readable(unit, &run, path)?,
            };
            now.insert(run, seen);
        }
        let all = now.values().cloned().collect();
        self.0.insert(unit.to_owned(), now);
        Ok(all)
    }

    /// Whether a run is ready: asked only as long as it is not.
    pub fn is_ready(&mut self, seen: &Seen) -> bool {
        let known = self.0.get_mut(&seen.tool).and_then(|runs| runs.get_mut(&seen.run));
        match known {
            Some(known) => {
                known.was_ready = known.was_ready || seen.is_ready();
                known.was_ready
            }
            None => seen.is_ready(),
        }
    }
}

/// As it is now, where that follows from how it was.
fn still(seen: &Seen, folder: &Path) -> Option<Seen> {
    match seen.state {
        State::Ended => Some(seen.clone()),
        State::Running if is_kept(folder) => {
            let mut seen = seen.clone();
            // A late one may be ready by now.
            if seen.has_wish() && seen.ready.as_ref().is_none_or(|record| record.late) {
                let text = fs::read(folder.join(ready::FILE)).ok();
                seen.ready = text.and_then(|text| serde_json::from_slice(&text).ok());
            }
            Some(seen)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{all_of, see};
    use super::*;

    #[test]
    fn what_has_ended_is_remembered_and_what_is_gone_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str| folder.path().join(name);
        let dirs = Dirs { data: own("data"), cache: own("cache"), runtime: own("run"), config: Vec::new() };
        let run = dirs.runtime.join("units/daq/1-1");
        fs::create_dir_all(&run).unwrap();
        let mut memory = Memory::default();
        let states = |memory: &mut Memory| -> Vec<State> {
            memory.all_of(&dirs, "daq").unwrap().iter().map(|seen| seen.state).collect()
        };
        assert_eq!(states(&mut memory), [State::Lost]);
        let record = r#"{"version":1,"unit":"daq","incarnation":"1-1","program":"x","started":{"realtime_ns":0,"tai_ns":0,"monotonic_ns":0},
            "ended":{"realtime_ns":0,"tai_ns":0,"monotonic_ns":0},"reason":{"exit":{"code":3}},"code":3,"shim_pid":1,"tool_pid":null,
            "usage":{"user_us":0,"system_us":0,"max_rss_kib":0,"major_faults":0},"notes":[],"exit_file":null}"#;
        fs::write(run.join("exit.json"), record).unwrap();
        assert_eq!(states(&mut memory), [State::Ended], "one that was lost is looked at again");
        fs::remove_file(run.join("exit.json")).unwrap();
        assert_eq!(states(&mut memory), [State::Ended]);
        fs::remove_dir(&run).unwrap();
        assert_eq!(states(&mut memory), []);
        fs::create_dir(&run).unwrap();
        assert_eq!(states(&mut memory), [State::Lost]);
        assert_eq!(all_of(&dirs, "daq").unwrap().len(), 1);
        assert_eq!(see("daq", "1-1", run).state, State::Lost);
    }
}
