//! How a run ends: codes, signals, records, and that nothing is left.
use crate::support::{Ran, World, eventually, processes, ways};
use hatchway_wire::{ExitReason, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn program(world: &mut World, program: &str) -> Ran {
    world.spec.program = program.to_owned();
    world.spec.args.clear();
    world.run()
}

#[test]
fn the_tool_s_own_code_is_passed_on() {
    for way in ways() {
        for code in [0, 1, 7, 125, 255] {
            let ran = World::new(way).script(&format!("exit {code}")).run();
            assert_eq!(ran.code, code, "{way:?} {}", ran.err);
            assert_eq!(ran.record.reason, ExitReason::Exit { code });
            assert_eq!((ran.record.unit.as_str(), ran.record.incarnation.as_str()), ("trial", "1"));
            assert_eq!(ran.record.tool_pid, Some(2));
            assert!(ran.record.ended.monotonic_ns > ran.record.started.monotonic_ns);
            assert!(ran.record.usage.max_rss_kib > 0);
        }
    }
}

#[test]
fn a_signal_is_128_and_its_number_and_is_recorded() {
    for way in ways() {
        for signal in [9, 11, 15] {
            let ran = World::new(way).script(&format!("kill -{signal} $$")).run();
            assert_eq!(ran.code, 128 + signal, "{way:?}");
            assert_eq!(ran.record.reason, ExitReason::Signal { signal, core: false });
        }
    }
}

#[test]
fn a_program_that_cannot_be_started_is_explained() {
    for way in ways() {
        let mut world = World::new(way);
        let cases = [
            ("nowhere", 127, "is in no folder of PATH"),
            ("/opt/vendor/nowhere", 127, "is not in the tree"),
            ("/opt/vendor/not-executable", 126, "is not executable"),
            ("/opt/vendor", 126, "is a folder"),
            ("/opt/vendor/wrong-format", 126, "is not a program for this machine"),
            (
                "/opt/vendor/no-interpreter",
                126,
                "the interpreter `/opt/missing/python` in its first line is not",
            ),
        ];
        for (name, code, words) in cases {
            let ran = program(&mut world, name);
            assert_eq!(ran.code, code, "{way:?} {name} {}", ran.err);
            assert!(ran.err.contains(words) && ran.err.contains("\nhint: "), "{way:?} {name} {}", ran.err);
            assert!(matches!(ran.record.reason, ExitReason::ExecFailed { .. }), "{:?}", ran.record.reason);
        }
        std::fs::rename(world.path("tree/usr/lib64"), world.path("tree/usr/gone")).unwrap();
        let ran = program(&mut world, "/usr/bin/cat");
        assert_eq!(ran.code, 126, "{}", ran.err);
        assert!(ran.err.contains("its dynamic loader `/lib64/ld-linux"), "{way:?} {}", ran.err);
    }
}

#[test]
fn sigterm_is_passed_on_and_the_record_says_so() {
    for way in ways() {
        let world = World::new(way).script("trap 'echo bye; exit 4' TERM; echo >/run/x; touch /tmp/a; while :; do sleep 0.05; done # ask-4711");
        let child = world.start();
        eventually("the tool runs", || !processes("ask-4711").is_empty());
        std::thread::sleep(std::time::Duration::from_millis(200));
        kill(pid(&child), Signal::SIGTERM).unwrap();
        let ran = world.finish(child);
        assert_eq!((ran.code, ran.out.as_str()), (4, "bye\n"), "{way:?} {}", ran.err);
        let outcome = Outcome::Exit { code: 4 };
        assert_eq!(
            ran.record.reason,
            ExitReason::Requested { signal: 15, forced: false, outcome },
            "{way:?}"
        );
    }
}

#[test]
fn a_tool_that_ignores_sigterm_is_killed_after_the_grace_period() {
    for way in ways() {
        let world = World::new(way).script("trap '' TERM; while :; do sleep 0.05; done # deaf-4712");
        let child = world.start();
        eventually("the tool runs", || !processes("deaf-4712").is_empty());
        std::thread::sleep(std::time::Duration::from_millis(200));
        kill(pid(&child), Signal::SIGTERM).unwrap();
        let ran = world.finish(child);
        assert_eq!(ran.code, 137, "{way:?}");
        let outcome = Outcome::Signal { signal: 9, core: false };
        assert_eq!(ran.record.reason, ExitReason::Requested { signal: 15, forced: true, outcome }, "{way:?}");
    }
}

#[test]
fn orphans_end_with_the_tool_even_if_they_ignore_sigterm() {
    for way in ways() {
        let script = "(sleep 4713.5 &) ; (trap '' TERM; exec sleep 4714.5) >/dev/null 2>&1 </dev/null & sleep 0.1; exit 3";
        let ran = World::new(way).script(script).run();
        assert_eq!(ran.code, 3, "{way:?} {}", ran.err);
        assert_eq!(processes("sleep 471"), Vec::<i32>::new(), "{way:?}");
    }
}

#[test]
fn a_killed_attendant_takes_everything_along() {
    for way in ways() {
        let world = World::new(way).script("trap '' TERM HUP; sleep 4715.5 & sleep 4715.25");
        let mut child = world.start();
        eventually("both sleeps run", || processes("sleep 4715.").len() >= 2);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("nothing is left", || processes("sleep 4715.").is_empty());
        let own = world.path("hatchway-shim").display().to_string();
        eventually("no shim is left", || processes(&own).is_empty());
    }
}

#[test]
fn a_killed_inner_half_takes_everything_along_and_is_recorded() {
    for way in ways() {
        let world = World::new(way).script("trap '' TERM HUP; sleep 4718.5 & sleep 4718.25");
        let child = world.start();
        eventually("both sleeps run", || processes("sleep 4718.").len() >= 2);
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let inner = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(inner), Signal::SIGKILL).unwrap();
        let ran = world.finish(child);
        assert_eq!(ran.code, 125, "{way:?} {}", ran.err);
        let outcome = Outcome::Signal { signal: 9, core: false };
        assert_eq!(ran.record.reason, ExitReason::Lost { outcome }, "{way:?}");
        assert_eq!(ran.err, "error: the inner half of the shim ended without a word\n", "{way:?}");
        eventually("nothing is left", || processes("sleep 4718.").is_empty());
    }
}

#[test]
fn other_signals_are_passed_on() {
    for way in ways() {
        let world = World::new(way).script("trap 'exit 21' USR1; while :; do sleep 0.05; done # user-4716");
        let child = world.start();
        eventually("the tool runs", || !processes("user-4716").is_empty());
        std::thread::sleep(std::time::Duration::from_millis(200));
        kill(pid(&child), Signal::SIGUSR1).unwrap();
        assert_eq!(world.finish(child).code, 21, "{way:?}");
    }
}

#[test]
fn a_plan_of_another_version_is_refused() {
    for way in ways() {
        let world = World::new(way).script("true");
        let mut plan = world.plan();
        plan.version = 99;
        let output = world.start_plan(&plan).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("version 99") && text.contains("hint: "), "{text}");
    }
}
