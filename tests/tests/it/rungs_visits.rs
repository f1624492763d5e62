//! Rows of the suite for all rungs about who comes to a tool that runs: another program beside it, and what it uses.

use std::fs;
use std::process::{Child, Stdio};

use super::rungs::{PTY, Rungs, until};

/// The tool: it says that it is ready, and runs until somebody makes a file.
const TOOL: &str =
    "echo kept > /tmp/of-the-tool; echo ready; until test -e /tmp/end; do sleep 0.1; done; exit 4";

fn started(rungs: &Rungs, rung: &str) -> Child {
    drop(fs::remove_file(rungs.bench.path("work/out")));
    let line = format!("{}; exec $RUN -c '{TOOL}' > out 2> err < /dev/null", rungs.prefix(rung));
    let child = rungs.bench.shell(&line).stdin(Stdio::null()).spawn().unwrap();
    until("it does not begin", || {
        fs::read_to_string(rungs.bench.path("work/out")).is_ok_and(|text| text.contains("ready"))
    });
    child
}

fn ended(rungs: &Rungs, mut tool: Child) {
    drop(rungs.bench.script("$HATCHWAY exec acme -- touch /tmp/end").ok());
    assert_eq!(tool.wait().unwrap().code(), Some(4), "{}", rungs.bench.read("err"));
    rungs.nothing_is_left();
}

#[test]
fn another_program_runs_beside_the_tool_and_as_the_tool_does() {
    another_program(&Rungs::new("env = { ACME = \"a b\" }\nstate = [\"/var/lib/acme\"]"));
}

pub(super) fn another_program(rungs: &Rungs) {
    for rung in rungs.names() {
        let tool = started(rungs, rung);
        let script = |line: &str| rungs.bench.script(line);
        let outcome = script(
            "head -c 1000000 /dev/urandom > big; $HATCHWAY exec acme -- dash -c 'cat; echo other >&2; exit 7' < big > copy 2> err2; echo $?; cmp big copy && cat err2",
        );
        assert_eq!(outcome.stdout, "7\nother\n", "{rung}\n{outcome}");
        let outcome = script("$HATCHWAY exec acme --env MORE=c -- dash -c 'echo $ACME $MORE; cat /tmp/of-the-tool; echo x > /var/lib/acme/x; cat /proc/1/comm; pwd' < /dev/null").ok();
        assert_eq!(outcome.stdout, "a b c\nkept\nhatchway-shim\n/home/tool\n", "{rung}\n{outcome}");
        // What holds for the tool holds for it.
        let ask = "grep -E -e ^Cap -e ^NoNewPrivs -e ^Seccomp: -e ^Uid -e ^Groups /proc/$p/status";
        let line = format!(
            "$HATCHWAY exec acme -- dash -c 'for p in /proc/[0-9]*; do case $(tr \"\\0\" \" \" < $p/cmdline 2>/dev/null) in */tmp/of-the-tool*until*) p=${{p#/proc/}}; {ask}; break;; esac; done; echo; p=self; {ask}' < /dev/null"
        );
        let outcome = script(&line).ok();
        let (tools, own) = outcome.stdout.split_once("\n\n").unwrap_or_default();
        assert!(tools.contains("NoNewPrivs:\t1") && tools.contains("Seccomp:\t2"), "{rung}\n{outcome}");
        assert_eq!(tools, own.trim_end(), "{rung}\n{outcome}");
        // A folder as a stream would be a way out: on the fhs rung and in a container it is refused, and a guest gets bytes alone.
        if rung != "vm" {
            let outcome = script("$HATCHWAY exec acme -- dash -c 'ls /proc/self/fd/0/..' < /");
            assert!(
                outcome.code == Some(127) && outcome.stderr.contains("a way out of the sandbox"),
                "{rung}\n{outcome}"
            );
        }
        // A command that is too long is refused, and the unit goes on.
        let outcome =
            script("$HATCHWAY exec acme -- echo $(head -c 40000 /dev/zero | tr '\\0' x) < /dev/null");
        assert!(outcome.code == Some(125) && outcome.stderr.contains("longer than"), "{rung}\n{outcome}");
        // A reader that rests gets everything.
        let outcome =
            script("$HATCHWAY exec acme -- head -c 2000000 /dev/zero < /dev/null | (sleep 5; wc -c)").ok();
        assert_eq!(outcome.stdout, "2000000\n", "{rung}\n{outcome}");
        // Codes, and what is not there.
        for (command, code, said) in [
            ("dash -c 'kill -SEGV $$'", 139, ""),
            ("/usr/bin/none", 127, "error: `/usr/bin/none` is not in the tree\nhint: "),
            ("/usr/bin/text", 126, "error: "),
        ] {
            let outcome = script(&format!("$HATCHWAY exec acme -- {command} < /dev/null"));
            assert_eq!(outcome.code, Some(code), "{rung}: {command}\n{outcome}");
            assert!(outcome.stderr.starts_with(said), "{rung}: {command}\n{outcome}");
        }
        ended(rungs, tool);
    }
}

#[test]
fn who_comes_gets_a_terminal_and_gives_the_callers_back() {
    visitors_terminal(&Rungs::new(""));
}

pub(super) fn visitors_terminal(rungs: &Rungs) {
    for rung in rungs.names() {
        let tool = started(rungs, rung);
        let inside = r#"tty; stty size; trap "echo interrupted" INT; echo ready; while test -z "$x"; do read x; done; echo got $x; stty size; exit 5"#;
        let script = format!(
            "{PTY}{}",
            r#"until(b"ready")
os.write(master, b"\x03")
until(b"interrupted")
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 102, 0, 0))
time.sleep(1)
os.write(master, b"word\n")
until(b"44 102")
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), termios.tcgetattr(slave) == before)
lines = seen.decode().replace("\r", "").replace("^C", "").split("\n")
print([line for line in lines if line.startswith(("/dev/pts", "33", "44", "interrupted", "got"))])
"#
        );
        rungs.bench.put("visit.py", script);
        let outcome = rungs
            .bench
            .script(&format!("WORDS=\"$HATCHWAY exec acme -- dash\" INSIDE='{inside}' python3 visit.py"))
            .ok();
        let (first, rest) = outcome.stdout.split_once('\n').unwrap_or_default();
        assert_eq!(first, "5 True", "{rung}\n{outcome}");
        assert!(
            rest.contains("/dev/pts/") && rest.ends_with("'33 101', 'interrupted', 'got word', '44 102']\n"),
            "{rung}\n{outcome}"
        );
        ended(rungs, tool);
    }
}

#[test]
fn what_somebody_began_ends_with_them_or_with_the_tool() {
    end_of_a_visit(&Rungs::new(""));
}

pub(super) fn end_of_a_visit(rungs: &Rungs) {
    for rung in rungs.names() {
        let tool = started(rungs, rung);
        let outcome = rungs.bench.script(
            "rm -f said; $HATCHWAY exec acme -- dash -c 'trap \"echo term; exit 9\" TERM; echo ready; while :; do sleep 0.1; done' > said < /dev/null & \
             until grep -q ready said; do sleep 0.1; done; kill -TERM $!; wait $!; echo $?; cat said",
        );
        assert_eq!(outcome.stdout, "9\nready\nterm\n", "{rung}\n{outcome}");
        // Killed without a word: the program is, too, and the tool goes on.
        let count = "$HATCHWAY exec acme -- dash -c 'n=0; for p in /proc/[0-9]*; do tr \"\\0\" \" \" < $p/cmdline 2>/dev/null | grep -q \"[:] visitor\" && n=$((n+1)); done; echo $n' < /dev/null";
        let outcome = rungs.bench.script(&format!(
            "rm -f said; $HATCHWAY exec acme -- dash -c 'trap \"\" TERM HUP; echo ready; while :; do sleep 0.1; : visitor; done' > said < /dev/null & \
             until grep -q ready said; do sleep 0.1; done; {count}; kill -KILL $!; wait $! 2> /dev/null"
        ));
        assert_eq!(outcome.stdout, "1\n", "{rung}\n{outcome}");
        until("the program outlives who began it", || rungs.bench.script(count).ok().stdout == "0\n");
        let visitor = rungs
            .bench
            .shell("exec $HATCHWAY exec acme -- sleep 1741")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("it does not run", || {
            let asked = rungs.bench.script("$HATCHWAY stats acme --json").json();
            asked[0]["processes"].as_u64().is_some_and(|count| count >= 4)
        });
        ended(rungs, tool);
        let mut visitor = visitor;
        assert!(!visitor.wait().unwrap().success(), "{rung}");
    }
}

#[test]
fn a_tool_that_stops_everybody_is_ended_all_the_same() {
    let rungs = Rungs::new("");
    for rung in rungs.names() {
        drop(fs::remove_file(rungs.bench.path("work/out")));
        let inside = "echo ready; while :; do kill -STOP -1; done 2> /dev/null";
        let line = format!("{}; exec $RUN -c '{inside}' > out 2> err < /dev/null", rungs.prefix(rung));
        let mut tool = rungs.bench.shell(&line).stdin(Stdio::null()).spawn().unwrap();
        until("it does not begin", || {
            fs::read_to_string(rungs.bench.path("work/out")).is_ok_and(|text| text.contains("ready"))
        });
        // Whether the kernel lets the tool stop them or not, nobody waits for ever.
        for _ in 0..3 {
            let outcome = rungs.bench.script("$HATCHWAY exec acme -- sleep 1 < /dev/null > /dev/null 2>&1 & sleep 4; $HATCHWAY stats acme > /dev/null && echo answers; kill -KILL $! 2> /dev/null; wait");
            assert_eq!(outcome.stdout, "answers\n", "{rung}\n{outcome}");
        }
        assert!(
            std::process::Command::new("kill")
                .args(["-TERM", &tool.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert!(tool.wait().is_ok());
    }
    rungs.nothing_is_left();
}

#[test]
fn whether_a_tool_is_well_is_said() {
    let rungs = Rungs::new("");
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let check = "test ! -e /tmp/sick || exit 3; test ! -e /tmp/slow || sleep 60";
    let health = format!(
        "command = [\"dash\", \"-c\", \"{check}\"], every = \"500ms\", timeout = \"5s\", failures = 2"
    );
    fs::write(&recipe, format!("{text}\n[service]\nhealth = {{ {health} }}\n")).unwrap();
    for rung in rungs.names() {
        let tool = started(&rungs, rung);
        let inside =
            |line: &str| drop(rungs.bench.script(&format!("$HATCHWAY exec acme -- {line} < /dev/null")).ok());
        let becomes = |health: &str| {
            until(&format!("{rung}: it does not become {health}"), || {
                let seen = rungs.bench.script("$HATCHWAY stats acme --json");
                seen.code == Some(0) && seen.json()[0]["health"] == health
            });
        };
        becomes("healthy");
        inside("touch /tmp/sick");
        becomes("unhealthy");
        let table = rungs.bench.script("$HATCHWAY stats acme").ok().stdout;
        assert!(table.contains("\n  not well: its check has failed too often in a row"), "{rung}\n{table}");
        inside("rm /tmp/sick");
        becomes("healthy");
        inside("touch /tmp/slow");
        becomes("unhealthy");
        ended(&rungs, tool);
        let said = rungs.bench.read("err");
        for why in ["exit code 3", "it took more than 5000 ms"] {
            let line = format!("s the tool is not well: its check has failed 2 times in a row ({why})\n");
            assert!(said.starts_with("warning: after ") && said.contains(&line), "{rung}\n{said}");
        }
        let notes = rungs.record()["notes"].to_string();
        assert!(
            notes.contains("the tool is well again") && notes.contains("(exit code 3)"),
            "{rung}\n{notes}"
        );
    }
}

#[test]
fn what_a_unit_uses_is_said() {
    statistics(&Rungs::new(""));
}

pub(super) fn statistics(rungs: &Rungs) {
    let outcome = rungs.bench.script("$HATCHWAY stats acme");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), "nothing runs\n"));
    let outcome = rungs.bench.script("$HATCHWAY exec acme -- true");
    assert_eq!(outcome.code, Some(125));
    assert!(outcome.stderr.starts_with("error: `acme` does not run\nhint: "), "{outcome}");
    for rung in rungs.names() {
        let tool = started(rungs, rung);
        let asked = || rungs.bench.script("$HATCHWAY stats --json").ok().json()[0].clone();
        let before = asked();
        assert_eq!(before["tool"], "acme");
        assert!(before["processes"].as_u64().unwrap() >= 2, "{rung}: {before}");
        assert!(before["threads"].as_u64() >= before["processes"].as_u64(), "{rung}: {before}");
        let resident = before["resident_bytes"].as_u64().unwrap();
        assert!((1 << 18..1 << 28).contains(&resident), "{rung}: {before}");
        drop(rungs.bench.script("$HATCHWAY exec acme -- dash -c 'i=0; while test $i -lt 200000; do i=$((i+1)); done' < /dev/null").ok());
        let after = asked();
        assert!(after["cpu_us"].as_u64() > before["cpu_us"].as_u64(), "{rung}: {before} {after}");
        assert!(after["uptime_ms"].as_u64() > before["uptime_ms"].as_u64(), "{rung}: {before} {after}");
        let table = rungs.bench.script("$HATCHWAY stats").ok().stdout;
        assert!(table.starts_with("TOOL ") && table.contains("\nacme "), "{rung}\n{table}");
        // Two runs: one has to be chosen.
        if rung == "fhs" {
            let second = started(rungs, rung);
            let refused = rungs.bench.script("$HATCHWAY exec acme -- true");
            assert!(
                refused.stderr.contains("`acme` runs 2 times: ")
                    && refused.stderr.contains("hint: choose one with `--run`"),
                "{refused}"
            );
            let line = "for run in $($HATCHWAY stats --json | python3 -c 'import json, sys; [print(one[\"run\"]) for one in json.load(sys.stdin)]'); do $HATCHWAY exec acme --run $run -- touch /tmp/end < /dev/null; done";
            drop(rungs.bench.script(line).ok());
            for mut child in [tool, second] {
                assert_eq!(child.wait().unwrap().code(), Some(4));
            }
            continue;
        }
        ended(rungs, tool);
    }
    rungs.nothing_is_left();
}
