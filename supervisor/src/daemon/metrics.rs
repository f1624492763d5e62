//! Numbers for Prometheus, in its text format (version 0.0.4).

use super::report::UnitStatus;
use super::view::Phase;

/// All phases, so that a unit has a line for each and a graph no gaps.
const PHASES: [Phase; 11] = [
    Phase::Starting,
    Phase::Ready,
    Phase::Late,
    Phase::Stopping,
    Phase::Blocked,
    Phase::BackOff,
    Phase::Degraded,
    Phase::Failed,
    Phase::Ended,
    Phase::Stopped,
    Phase::Due,
];

/// What the kernel counts for the service that systemd keeps for a unit's run; nothing where there is none.
pub(super) fn memory_bytes(unit: &UnitStatus) -> Option<u64> {
    let run = unit.run.as_ref()?;
    let group = format!("/sys/fs/cgroup/hatchway.slice/hatchway-{}-{run}.service", unit.name);
    std::fs::read_to_string(format!("{group}/memory.current")).ok()?.trim().parse().ok()
}

pub(super) fn text(
    units: &[UnitStatus],
    memory: impl Fn(&UnitStatus) -> Option<u64>,
    lost: u64,
    events: u64,
) -> String {
    let mut text = String::new();
    let mut head = |name: &str, kind: &str, help: &str| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    };
    head("hatchway_unit_phase", "gauge", "1 for the phase that a unit is in.");
    // Names of units are lower-case letters, digits and dashes, so nothing in a label needs care.
    for unit in units {
        for phase in PHASES {
            let is = u8::from(unit.phase == phase);
            text.push_str(&format!("hatchway_unit_phase{{unit=\"{}\",phase=\"{phase}\"}} {is}\n", unit.name));
        }
    }
    let memory: Vec<_> = units.iter().filter_map(|unit| Some((&unit.name, memory(unit)?))).collect();
    if !memory.is_empty() {
        let help = "What the kernel counts for a unit, with files that it keeps in memory.";
        text.push_str(&format!(
            "# HELP hatchway_unit_memory_bytes {help}\n# TYPE hatchway_unit_memory_bytes gauge\n"
        ));
        for (unit, bytes) in memory {
            text.push_str(&format!("hatchway_unit_memory_bytes{{unit=\"{unit}\"}} {bytes}\n"));
        }
    }
    for (name, help, value) in [
        ("hatchway_events_total", "Events since the journal was begun.", events),
        ("hatchway_events_lost_total", "Events that found no room on the disk or in memory.", lost),
    ] {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_in_one_phase() {
        let unit = UnitStatus {
            name: "daq".to_owned(),
            phase: Phase::Degraded,
            why: None,
            run: None,
            began_ns: None,
            record: None,
            terminal: false,
            waits_for: Vec::new(),
        };
        let text = text(&[unit], |unit| (unit.name == "daq").then_some(4096), 2, 7);
        assert!(text.contains("\nhatchway_unit_memory_bytes{unit=\"daq\"} 4096\n"), "{text}");
        assert_eq!(text.matches("unit=\"daq\",phase").count(), PHASES.len());
        assert!(text.contains("hatchway_unit_phase{unit=\"daq\",phase=\"degraded\"} 1\n"), "{text}");
        assert_eq!(text.matches("} 1\n").count(), 1);
        assert!(text.ends_with("hatchway_events_lost_total 2\n"), "{text}");
    }
}
