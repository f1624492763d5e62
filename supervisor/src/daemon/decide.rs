//! What is to be done with a unit: a pure function of what is wanted, what its folders tell, and the time.
//!
//! Nothing is remembered beside that, so a daemon that was killed decides as the one before it would have. The numbers are those of
//! docs/operations.md.

use std::time::Duration;

use crate::recipe::Restart;

/// The first wait before a unit that has failed starts again; each next one is twice as long.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
/// No wait is longer.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// A unit that has run for so long was well: what failed before is forgotten.
const HEALTHY: Duration = Duration::from_secs(60);
/// So many failures within [`BREAKER_TIME`] are a crash loop, which waits for a person.
pub const BREAKER_FAILURES: usize = 5;
/// See [`BREAKER_FAILURES`].
pub const BREAKER_TIME: Duration = Duration::from_secs(600);

/// Whether a unit is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// How a run has ended, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with success.
    Well,
    /// It was asked to.
    Asked,
    /// Any other way.
    Failed,
}

/// How a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Running {
        /// With this configuration; `None` for one that a person has started.
        config: Option<String>,
    },
    /// It runs, and nobody can keep it from its end.
    Ending,
    /// It has ended.
    Ended {
        /// When, on `CLOCK_MONOTONIC`.
        at: Duration,
        /// How.
        end: End,
        /// With which configuration it ran, as above.
        config: Option<String>,
    },
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// When it began, on `CLOCK_MONOTONIC` of this boot. Runs of another boot are not among those that are asked of.
    pub began: Duration,
    /// How it is.
    pub condition: Condition,
}

/// What is known of a unit.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// Whether it is to run.
    pub want: Want,
    /// When a person has said so last, on `CLOCK_MONOTONIC`: what failed before counts no more.
    pub said: Option<Duration>,
    /// The run after which somebody wants it to start again.
    pub renew: Option<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Its configuration.
    pub config: &'a str,
    /// Units that have to be ready first, and are not.
    pub waits_for: Vec<String>,
    /// Its runs, oldest first.
    pub runs: &'a [Run],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It runs as it should.
    Keep,
    /// Start it.
    Start,
    /// Ask this run to end: it is not wanted, or another configuration is.
    Stop {
        /// Which.
        run: String,
        /// It comes back with another configuration.
        again: bool,
    },
    /// It is on its way to its end.
    Ending,
    /// It starts once these are ready.
    Blocked {
        /// Which.
        on: Vec<String>,
    },
    /// It starts again then, on `CLOCK_MONOTONIC`.
    BackOff {
        /// When.
        until: Duration,
        /// The failures that count.
        failures: usize,
    },
    /// A crash loop: it waits for a person.
    Degraded {
        /// The failures that count.
        failures: usize,
    },
    /// It does not run, and nothing is to be done.
    Rest,
}

/// See the module.
#[must_use]
pub fn decide(known: &Known<'_>, now: Duration) -> Decision {
    let last = known.runs.last();
    match (last.map(|run| (run, &run.condition)), known.want) {
        (Some((_, Condition::Ending)), _) => Decision::Ending,
        // What a person has started is stopped only by a later word.
        (Some((run, Condition::Running { config: None })), Want::Down)
            if known.said.is_none_or(|said| said < run.began) =>
        {
            Decision::Keep
        }
        (Some((run, Condition::Running { .. })), Want::Down) => {
            Decision::Stop { run: run.name.clone(), again: false }
        }
        (Some((run, Condition::Running { config: Some(config) })), Want::Up) if config != known.config => {
            Decision::Stop { run: run.name.clone(), again: true }
        }
        (Some((run, Condition::Running { .. })), Want::Up) if known.renew.as_ref() == Some(&run.name) => {
            Decision::Stop { run: run.name.clone(), again: true }
        }
        (Some((_, Condition::Running { .. })), Want::Up) => Decision::Keep,
        (_, Want::Down) => Decision::Rest,
        (None, Want::Up) => start(known),
        (Some((run, Condition::Ended { at, end, .. })), Want::Up) => after_end(known, now, run, *at, *end),
    }
}

fn start(known: &Known<'_>) -> Decision {
    match known.waits_for.is_empty() {
        true => Decision::Start,
        false => Decision::Blocked { on: known.waits_for.clone() },
    }
}

fn after_end(known: &Known<'_>, now: Duration, run: &Run, at: Duration, end: End) -> Decision {
    if is_settled(known, run) {
        return start(known);
    }
    let again = match (known.restart, end) {
        (Restart::Always, _) | (Restart::OnFailure, End::Failed) => true,
        (Restart::OnFailure | Restart::Never, _) => false,
    };
    if !again {
        return Decision::Rest;
    }
    let failures = failures(known, at);
    if failures >= BREAKER_FAILURES {
        return Decision::Degraded { failures };
    }
    let until = at + delay(failures, &run.name);
    match now >= until {
        true => start(known),
        false => Decision::BackOff { until, failures },
    }
}

/// What came after this run is a new beginning: a person's word, or another configuration.
fn is_settled(known: &Known<'_>, run: &Run) -> bool {
    let Condition::Ended { at, config, .. } = &run.condition else { return false };
    known.said.is_some_and(|said| said >= *at)
        || known.renew.as_ref() == Some(&run.name)
        || config.as_ref().is_some_and(|config| config != known.config)
}

/// The failures that count, up to the last one: since the unit was well for a while, within the breaker's time. With `always`, an end
/// without failure counts, too: a program that ends well at once, again and again, is in a loop as well.
fn failures(known: &Known<'_>, last: Duration) -> usize {
    let counts = |end: End| end == End::Failed || known.restart == Restart::Always;
    let mut failures = 0;
    for (back, run) in known.runs.iter().rev().enumerate() {
        let Condition::Ended { at, end, .. } = run.condition else { break };
        let was_well = at.saturating_sub(run.began) >= HEALTHY;
        let too_old = last.saturating_sub(at) > BREAKER_TIME;
        if is_settled(known, run) || !counts(end) || too_old || (was_well && back > 0) {
            break;
        }
        failures += 1;
        if was_well {
            break;
        }
    }
    failures
}

/// Twice as long each time, and by up to a half less, so that units that failed together do not start together. The chance is the
/// run's name, so that whoever asks again gets the same.
fn delay(failures: usize, run: &str) -> Duration {
    let doubled = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let whole = BACK_OFF_FIRST.saturating_mul(1 << doubled).min(BACK_OFF_MAX);
    // FNV-1a with 32 bits (Fowler, Noll and Vo).
    let hash =
        run.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let share = f64::from(hash % 1000) / 1000.0;
    whole.mul_f64(1.0 - share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ended(name: &str, began: u64, at: u64, end: End) -> Run {
        Run {
            name: name.to_owned(),
            began: s(began),
            condition: Condition::Ended { at: s(at), end, config: Some("c".into()) },
        }
    }

    fn known(restart: Restart, runs: &[Run]) -> Known<'_> {
        Known { want: Want::Up, said: None, renew: None, restart, config: "c", waits_for: Vec::new(), runs }
    }

    #[test]
    fn what_never_ran_starts_once_its_turn_has_come() {
        let mut unit = known(Restart::Never, &[]);
        assert_eq!(decide(&unit, s(0)), Decision::Start);
        unit.waits_for = vec!["daq".to_owned()];
        assert_eq!(decide(&unit, s(0)), Decision::Blocked { on: vec!["daq".to_owned()] });
        unit.want = Want::Down;
        assert_eq!(decide(&unit, s(0)), Decision::Rest);
    }

    #[test]
    fn what_runs_is_left_alone_unless_it_is_not_wanted_so() {
        let runs = |config: Option<&str>| {
            let condition = Condition::Running { config: config.map(str::to_owned) };
            [Run { name: "1".to_owned(), began: s(0), condition }]
        };
        for config in [Some("c"), None] {
            assert_eq!(decide(&known(Restart::Never, &runs(config)), s(9)), Decision::Keep);
        }
        let other = runs(Some("other"));
        assert_eq!(
            decide(&known(Restart::Never, &other), s(9)),
            Decision::Stop { run: "1".into(), again: true }
        );
        let own = runs(None);
        let mut unit = Known { want: Want::Down, ..known(Restart::Always, &own) };
        assert_eq!(decide(&unit, s(9)), Decision::Keep);
        unit.said = Some(s(5));
        assert_eq!(decide(&unit, s(9)), Decision::Stop { run: "1".into(), again: false });
        let runs = runs(Some("c"));
        let unit = Known { want: Want::Down, ..known(Restart::Always, &runs) };
        assert_eq!(decide(&unit, s(9)), Decision::Stop { run: "1".into(), again: false });
    }

    #[test]
    fn who_is_started_again_is_as_the_recipe_says() {
        for (restart, end, again) in [
            (Restart::Never, End::Failed, false),
            (Restart::OnFailure, End::Failed, true),
            (Restart::OnFailure, End::Well, false),
            (Restart::OnFailure, End::Asked, false),
            (Restart::Always, End::Well, true),
            (Restart::Always, End::Asked, true),
        ] {
            let runs = [ended("1", 0, 100, end)];
            let decision = decide(&known(restart, &runs), s(200));
            let wanted = if again { Decision::Start } else { Decision::Rest };
            assert_eq!(decision, wanted, "{restart:?} {end:?}");
        }
    }

    #[test]
    fn each_failure_is_waited_for_longer_until_a_person_has_to_come() {
        let mut runs = Vec::new();
        let mut waits = Vec::new();
        for number in 0..BREAKER_FAILURES as u64 {
            runs.push(ended(&number.to_string(), number, number, End::Failed));
            match decide(&known(Restart::OnFailure, &runs), s(number)) {
                Decision::BackOff { until, failures } => {
                    assert_eq!(failures, runs.len());
                    waits.push(until - s(number));
                }
                other => assert_eq!(other, Decision::Degraded { failures: BREAKER_FAILURES }),
            }
        }
        assert_eq!(waits.len(), BREAKER_FAILURES - 1);
        for (number, wait) in waits.iter().enumerate() {
            let whole = BACK_OFF_FIRST * (1 << number);
            assert!(*wait <= whole && *wait >= whole / 2, "{number}: {wait:?}");
        }
        // For ever, and after a person's word not.
        assert!(matches!(decide(&known(Restart::OnFailure, &runs), s(100_000)), Decision::Degraded { .. }));
        let unit = Known { said: Some(s(99)), ..known(Restart::OnFailure, &runs) };
        assert_eq!(decide(&unit, s(100)), Decision::Start);
    }

    #[test]
    fn a_healthy_minute_makes_up_for_failures() {
        let mut runs: Vec<Run> =
            (0..4).map(|number| ended(&number.to_string(), number, number, End::Failed)).collect();
        runs.push(ended("well", 10, 80, End::Failed));
        let decision = decide(&known(Restart::OnFailure, &runs), s(80));
        let Decision::BackOff { until, .. } = decision else { panic!("{decision:?}") };
        assert!(until - s(80) <= BACK_OFF_FIRST);
    }

    #[test]
    fn what_a_person_said_before_the_end_starts_nothing() {
        let runs = [ended("1", 0, 10, End::Well)];
        let unit = Known { said: Some(s(5)), ..known(Restart::Never, &runs) };
        assert_eq!(decide(&unit, s(20)), Decision::Rest);
    }

    #[test]
    fn a_run_that_is_to_be_renewed_ends_and_another_begins() {
        let condition = Condition::Running { config: None };
        let runs = [Run { name: "1".to_owned(), began: s(0), condition }];
        let unit = Known { renew: Some("1".into()), ..known(Restart::Never, &runs) };
        assert_eq!(decide(&unit, s(9)), Decision::Stop { run: "1".into(), again: true });
        let runs = [ended("1", 0, 10, End::Asked)];
        let unit = Known { renew: Some("1".into()), ..known(Restart::Never, &runs) };
        assert_eq!(decide(&unit, s(20)), Decision::Start);
        let runs = [ended("1", 0, 10, End::Asked), ended("2", 10, 20, End::Well)];
        let unit = Known { renew: Some("1".into()), ..known(Restart::Never, &runs) };
        assert_eq!(decide(&unit, s(30)), Decision::Rest);
    }

    #[test]
    fn another_configuration_is_a_new_beginning() {
        let runs: Vec<Run> = (0..5).map(|at| ended(&at.to_string(), at, at, End::Failed)).collect();
        assert!(matches!(decide(&known(Restart::OnFailure, &runs), s(9)), Decision::Degraded { .. }));
        let unit = Known { config: "other", ..known(Restart::OnFailure, &runs) };
        assert_eq!(decide(&unit, s(9)), Decision::Start);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_longest(failures in 0_usize..100, name in "[0-9]{1,13}-[0-9]{1,7}") {
            let wait = delay(failures, &name);
            prop_assert!(wait <= BACK_OFF_MAX && wait >= BACK_OFF_FIRST / 2);
            prop_assert_eq!(wait, delay(failures, &name));
        }

        #[test]
        fn a_unit_that_is_not_wanted_never_starts(
            ends in proptest::collection::vec((0_u64..1000, 0_u64..1000, 0_u8..3), 0..10), now in 0_u64..2000
        ) {
            let end = |kind| match kind { 0 => End::Well, 1 => End::Asked, _ => End::Failed };
            let runs: Vec<Run> = ends
                .iter()
                .map(|(began, ran, kind)| ended("1", *began, began + ran, end(*kind)))
                .collect();
            for restart in [Restart::Never, Restart::OnFailure, Restart::Always] {
                let unit = Known { want: Want::Down, ..known(restart, &runs) };
                prop_assert_eq!(decide(&unit, s(now)), Decision::Rest);
            }
        }
    }
}
