//! What the container's own control group says of memory. It was made for the unit, so what it counts is the unit's.

use hatchway_wire::HostPath;

/// Second version: cgroup-v2.rst, "memory.events"; first version: cgroup-v1/memory.rst, "memory.oom_control".
const PLACES: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// How many processes the kernel has killed; 0 where nothing says.
pub(crate) fn kills() -> u64 {
    PLACES.iter().find_map(|place| counted(&std::fs::read_to_string(place).ok()?)).unwrap_or(0)
}

/// The same in a group of the second version.
pub(crate) fn kills_of(group: &HostPath) -> u64 {
    std::fs::read_to_string(format!("{group}/memory.events"))
        .ok()
        .and_then(|text| counted(&text))
        .unwrap_or(0)
}

fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(counted("low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(counted("oom_kill_disable 0\n"), None);
    }
}
