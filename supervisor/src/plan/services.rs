//! The services that a draft has started beside the program.

use hatchway_inspect::Facts;

use super::Plan;
use crate::recipe::{Rung, Runner, UnitName};

/// Units of systemd that an artifact brings and wants started with the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Why they are.
    pub why: String,
    /// Their names.
    pub names: Vec<String>,
}

impl Plan {
    /// The services, where several of them are why the fhs rung is not enough.
    #[must_use]
    pub fn services(&self, facts: &Facts) -> Option<Services> {
        let reason = self.reasons.first().filter(|reason| reason.rule == "several-daemons")?;
        if self.rung != Rung::Container || self.runner != Runner::None {
            return None;
        }
        let units = facts.system.systemd_units.iter().filter(|unit| {
            unit.link.is_none() && !unit.wanted_by.is_empty() && !unit.path.contains("/user/")
        });
        let mut names: Vec<String> = units
            .filter_map(|unit| unit.path.rsplit('/').next())
            // A template has a name only with an instance, which nobody here knows.
            .filter(|name| !name.contains("@.") && UnitName::try_from((*name).to_owned()).is_ok())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        (!names.is_empty()).then(|| Services { why: reason.text.clone(), names })
    }
}

impl Services {
    /// Whether one of them starts this program.
    #[must_use]
    pub fn start(&self, facts: &Facts, program: &str) -> bool {
        let own =
            |path: &str| path.rsplit('/').next().is_some_and(|name| self.names.iter().any(|own| own == name));
        let units = facts.system.systemd_units.iter().filter(|unit| own(&unit.path));
        let commands = units.flat_map(|unit| &unit.exec);
        // systemd.service(5), "Special executable prefixes".
        commands
            .filter_map(|command| command.split_whitespace().next())
            .any(|word| word.trim_start_matches(['@', '-', ':', '+', '!', '|']) == program)
    }
}
