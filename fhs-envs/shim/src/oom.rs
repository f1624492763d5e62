//! What control groups say of memory: how many processes of the unit the kernel has killed for want of it, and whose limit that was.
//!
//! Second version: cgroup-v2.rst, "memory.events" and "memory.events.local"; first version: cgroup-v1/memory.rst, "memory.oom_control".
//! `oom_kill` is counted in the group whose process was killed, and above; `oom`, in the local file, in the group whose limit was reached.

use hatchway_wire::exit::{MemoryKills, Short};
use hatchway_wire::{Bootstrap, Op};

const ROOT: &str = "/sys/fs/cgroup";
/// Of the container that this process is in.
const FIRST_VERSION: &str = "/sys/fs/cgroup/memory/memory.oom_control";

/// The unit's own group and those above it, as they were when the unit began: a service's group may be older than this run, a slice's is.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Nothing where no group is the unit's alone.
    group: Option<String>,
    before: u64,
    /// Each with how often its limit had been reached.
    above: Vec<(String, u64)>,
}

impl Watch {
    pub(crate) fn begin(bootstrap: &Bootstrap) -> Self {
        let made = bootstrap.ops.iter().find_map(|op| match op {
            Op::ControlGroup { path } => Some(path.to_string()),
            _ => None,
        });
        let group = match (made, &bootstrap.lease) {
            (Some(made), _) => Some(made),
            // Its root is the container's own group.
            (None, Some(_)) => Some(ROOT.to_owned()),
            (None, None) => own().filter(|own| is_units(own, &bootstrap.unit, &bootstrap.incarnation)),
        };
        let Some(group) = group else { return Self::default() };
        let above = above(&group).map(|above| (above.to_owned(), local(above, "oom"))).collect();
        Self { before: killed(&group), group: Some(group), above }
    }

    /// What the kernel has killed since.
    pub(crate) fn kills(&self) -> Option<MemoryKills> {
        let group = self.group.as_deref()?;
        let kills = killed(group).saturating_sub(self.before);
        (kills > 0).then(|| MemoryKills { kills, short: self.short(group) })
    }

    fn short(&self, group: &str) -> Option<Short> {
        if local(group, "oom") > 0 {
            return Some(Short::Unit);
        }
        let reached = self.above.iter().find(|(above, before)| local(above, "oom") > *before);
        match reached {
            Some((above, _)) => {
                Some(Short::Group { path: above.strip_prefix(ROOT).unwrap_or(above).to_owned() })
            }
            // From inside a container nothing above it is seen, and the first version does not tell.
            None if group == ROOT => None,
            None => Some(Short::Machine),
        }
    }
}

/// A line for a person.
pub(crate) fn told(memory: &MemoryKills) -> String {
    let of_whom = match &memory.short {
        Some(Short::Unit) => ": the unit reached its own limit".to_owned(),
        Some(Short::Group { path }) => {
            format!(": the limit of the control group `{path}` was reached, which the unit is in")
        }
        Some(Short::Machine) => ": the machine had no more, and no limit was reached".to_owned(),
        Some(Short::Other) | None => String::new(),
    };
    let many = if memory.kills == 1 { "process" } else { "processes" };
    format!("the kernel killed {} {many} of the unit for want of memory{of_whom}", memory.kills)
}

/// The group of the second version that this process is in.
fn own() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let roots = [ROOT, "/sys/fs/cgroup/unified"].into_iter();
    let mut places = roots.map(|root| format!("{root}{path}"));
    places.find(|place| std::path::Path::new(place).join("memory.events").is_file())
}

/// The service that systemd keeps for this run, and nothing else, is named so.
fn is_units(group: &str, unit: &str, incarnation: &str) -> bool {
    let name = group.rsplit('/').next().unwrap_or_default();
    name == format!("hatchway-{unit}-{incarnation}.service")
}

/// The groups that it is in, nearest first; the root has no limit.
fn above(group: &str) -> impl Iterator<Item = &str> {
    let is_group = |path: &&str| path.len() > ROOT.len() && path.starts_with(ROOT);
    std::iter::successors(parent(group), |path| parent(path)).take_while(is_group)
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn killed(group: &str) -> u64 {
    let read = |path: &str| counted(&std::fs::read_to_string(path).ok()?, "oom_kill");
    let first = || (group == ROOT).then(|| read(FIRST_VERSION)).flatten();
    read(&format!("{group}/memory.events")).or_else(first).unwrap_or(0)
}

/// A counter of what has happened to the group itself, not below it.
fn local(group: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("{group}/memory.events.local"));
    text.ok().and_then(|text| counted(&text, name)).unwrap_or(0)
}

fn counted(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name_in_both_versions() {
        let events = "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((counted(events, "oom"), counted(events, "oom_kill")), (Some(1), Some(2)));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(counted("oom_kill_disable 0\n", "oom_kill"), None);
    }

    /// Groups with what they have counted: reached limits of their own, and processes that were killed.
    fn group(folder: &std::path::Path, name: &str, reached: u64, killed: u64) -> String {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("memory.events"), format!("oom {reached}\noom_kill {killed}\n")).unwrap();
        std::fs::write(path.join("memory.events.local"), format!("oom {reached}\noom_kill 0\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn what_was_counted_before_is_not_this_runs_and_the_limit_that_was_reached_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, reached, killed| group(folder.path(), name, reached, killed);
        let (slice, unit) = (at("slice", 3, 3), at("slice/unit", 0, 1));
        let watch = Watch { group: Some(unit.clone()), before: 1, above: vec![(slice.clone(), 3)] };
        assert_eq!(watch.kills(), None);
        let short = |watch: &Watch| watch.kills().unwrap().short.unwrap();
        at("slice/unit", 0, 2);
        assert_eq!(short(&watch), Short::Machine);
        at("slice", 4, 4);
        assert_eq!(short(&watch), Short::Group { path: slice });
        at("slice/unit", 1, 2);
        assert_eq!(watch.kills(), Some(MemoryKills { kills: 1, short: Some(Short::Unit) }));
        assert_eq!(Watch::default().kills(), None);
    }

    #[test]
    fn only_the_service_of_this_run_is_the_units_own() {
        let service = "/sys/fs/cgroup/hatchway.slice/hatchway-daq-17-4.service";
        assert!(is_units(service, "daq", "17-4"));
        assert!(!is_units(service, "daq", "17-5"));
        assert!(!is_units("/sys/fs/cgroup/system.slice/hatchway.service", "daq", "17-4"));
        let tool = format!("{service}/tool");
        assert_eq!(above(&tool).collect::<Vec<_>>(), [service, "/sys/fs/cgroup/hatchway.slice"]);
        assert_eq!(above(ROOT).count(), 0);
    }
}
