//! How far a unit is: what its recorder says now, or has left in its folder.

use std::path::Path;
use std::time::Duration;

use hatchway_wire::control::Condition;
use hatchway_wire::ready::{Stage, Standing};
use hatchway_wire::unit::{self, UnitOrder, UnitReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Seen, State};
use crate::launch::packets::{Packets, Received};
use crate::visit;

/// How long a recorder may take to say how far its unit is. Many are asked, one after the other.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// What a unit's recorder says of it, change by change.
#[derive(Debug)]
pub struct Watch(Packets);

impl Watch {
    /// Nothing where nobody keeps it.
    pub(super) fn begin(folder: &Path) -> Option<Self> {
        let packets = Packets::connect(folder, unit::SOCKET).ok()?;
        packets.send(&UnitOrder::Watch, &[]).ok()?;
        Some(Self(packets))
    }

    /// The next that it says; nothing at its end, from an older recorder that does not know the order, and when the time is over.
    pub(super) fn next(&self, within: Option<Duration>) -> Option<Standing> {
        let timeout = within.and_then(|within| Timespec::try_from(within).ok());
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return None,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
            match self.0.receive::<UnitReport>() {
                Ok(Received::Message(UnitReport::State(standing), _)) => return Some(standing),
                Ok(Received::Nothing) => {}
                Ok(Received::Message(..) | Received::End) | Err(_) => return None,
            }
        }
    }
}

impl Seen {
    /// How far it is, where that is known: by its recorder as long as it runs, then by what that has left.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        if self.standing.is_some() {
            return self.standing.clone();
        }
        let kept = self.state == State::Running;
        let now =
            kept.then(|| Watch::begin(&self.folder)).flatten().and_then(|watch| watch.next(Some(ANSWER_MAX)));
        now.or_else(|| self.ready.clone().map(Standing::from))
    }

    /// Whether it is ready: as its recipe says, else when it takes who comes to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.has_wish() {
            true => self.ready.as_ref().is_some_and(|record| !record.late),
            false => visit::answers(&self.folder),
        }
    }

    /// That it was not ready in time, and what was looked for; nothing where it is.
    #[must_use]
    pub fn late(&self) -> Option<String> {
        let record = self.ready.as_ref().filter(|record| record.late)?;
        Some(late_told(&Standing::from(record.clone())))
    }

    /// Whether its recipe says when it is ready.
    #[must_use]
    pub fn has_wish(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.ready.is_some())
    }
}

/// How far a unit is that runs, for a person. Of one that is ready as soon as its tool has started nothing more is said.
#[must_use]
pub fn stage_told(standing: &Standing, has_wish: bool) -> String {
    let mut text = match standing.ready {
        Stage::Starting => "runs, starting".to_owned(),
        Stage::Ready if has_wish => "runs, ready".to_owned(),
        Stage::Ready => "runs".to_owned(),
        Stage::Late => format!("runs, {}", late_told(standing)),
    };
    if let Some(status) = standing.status.as_ref().filter(|status| !status.is_empty()) {
        text.push_str(&format!("\nit says: {status}"));
    }
    if standing.health == Some(Condition::Unhealthy) {
        text.push_str("\nnot well: its check has failed too often in a row");
    }
    text
}

/// That it is late, and what was looked for.
#[must_use]
pub fn late_told(standing: &Standing) -> String {
    let after = standing.after_ms.unwrap_or_default();
    let after = match after {
        0..1000 => format!("{after} ms"),
        _ => format!("{} s", after / 1000),
    };
    format!("not ready after {after}: {}", standing.how.as_deref().unwrap_or("nobody knows why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_unit_is_is_told_in_a_line_or_two() {
        let standing = |ready, how: Option<&str>, status: Option<&str>| Standing {
            ready,
            how: how.map(str::to_owned),
            after_ms: Some(30_004),
            health: None,
            status: status.map(str::to_owned),
        };
        let starting = standing(Stage::Starting, None, Some("loading 40 %"));
        assert_eq!(stage_told(&starting, true), "runs, starting\nit says: loading 40 %");
        let ready = standing(Stage::Ready, Some("its tool has started"), Some(""));
        assert_eq!(stage_told(&ready, false), "runs");
        assert_eq!(stage_told(&ready, true), "runs, ready");
        let late = standing(Stage::Late, Some("looked for x: y"), None);
        assert_eq!(stage_told(&late, true), "runs, not ready after 30 s: looked for x: y");
        let unwell = Standing { health: Some(Condition::Unhealthy), ..ready };
        assert!(stage_told(&unwell, true).ends_with("\nnot well: its check has failed too often in a row"));
    }
}
