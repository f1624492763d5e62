//! What a running tool sees and leaves: exit codes, bound files, state, users.

use std::io::{BufRead, BufReader};
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;
use hatchway_tests::{compile, host, snapshot};

use super::acme;

/// A bench on which `acme` is built.
fn built(bench: Bench) -> (Bench, Server) {
    let (bench, server) = bench.with_mirror(&Mirror::runnable());
    bench.put("acme.deb", acme().deb());
    for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
        drop(bench.hatchway(&step).ok());
    }
    (bench, server)
}

/// Runs `acme` with its licence bound.
fn run(bench: &Bench, arguments: &[&str]) -> Outcome {
    let head = ["run", "-q", "acme", "--bind", "license=acme.deb", "--"];
    bench.hatchway(&[&head[..], arguments].concat())
}

/// Every test here holds for root and for an ordinary user.
fn for_both(test: impl Fn(&Bench)) {
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server) = built(bench);
        test(&bench);
    }
}

#[test]
fn exit_code_and_output_are_the_tools_own() {
    for_both(|bench| {
        let outcome = run(bench, &["exit", "7"]);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
            (Some(7), "", "leaving\n")
        );
        assert_eq!(run(bench, &["abort"]).code, Some(128 + 6));
        assert_eq!(run(bench, &["root"]).code, Some(0), "a tool never runs as root");
        assert_eq!(run(bench, &["echo", "a b", "-c", ""]).stdout, "<a b><-c><>\n");
    });
}

#[test]
fn state_survives_and_everything_else_vanishes() {
    for_both(|bench| {
        assert_eq!(run(bench, &["count"]).stdout, "/var/lib/acme/count has 1\n");
        assert_eq!(run(bench, &["count"]).stdout, "/var/lib/acme/count has 2\n");
        assert_eq!(std::fs::read(bench.state("/var/lib/acme").join("count")).unwrap(), b"xx");
        for path in ["/tmp/x", "/home/x", "/var/tmp/x", "/run/x"] {
            let first = run(bench, &["add", path]);
            assert_eq!(run(bench, &["add", path]).stdout, first.stdout, "{path}");
        }
    });
}

#[test]
fn the_host_is_not_there_and_the_package_is() {
    for_both(|bench| {
        assert_eq!(run(bench, &["show", "/usr/share/acme/greeting"]).stdout, "hello from acme\n");
        let host = bench.path("work/acme.deb").display().to_string();
        let outcome = run(bench, &["show", &host]);
        assert_eq!(outcome.stdout, "[bench]/work/acme.deb: No such file or directory\n");
        assert!(run(bench, &["show", "/etc/shadow"]).stdout.contains("No such file or directory"));
        assert!(run(bench, &["show", "/etc/passwd"]).stdout.lines().count() <= 4);
    });
}

#[test]
fn the_package_itself_cannot_be_changed() {
    for_both(|bench| {
        drop(run(bench, &["add", "/usr/share/acme/greeting"]));
        drop(run(bench, &["add", "/usr/bin/acme"]));
        assert_eq!(run(bench, &["show", "/usr/share/acme/greeting"]).stdout, "hello from acme\n");
        for tree in bench.store().names("trees") {
            bench.store().check_tree(&tree);
        }
    });
}

#[test]
fn an_unbound_file_is_told_and_a_wrong_binding_refused() {
    let (bench, _server) = built(Bench::new());
    snapshot!(
        bench.hatchway(&["run", "acme", "--", "license"]),
        r#"
exit 1
--- stdout
/etc/acme/license.dat: No such file or directory
--- stderr
warning: the file slot `license` (/etc/acme/license.dat) is not bound; bind it with `--bind license=FILE`
"#
    );
    snapshot!(
        bench.hatchway(&["run", "acme", "--bind", "licence=acme.deb"]),
        r#"
exit 125
--- stderr
error: `--bind licence=acme.deb`: there is no slot `licence`; it has license
"#
    );
    snapshot!(
        bench.hatchway(&["run", "acme", "--bind", "license=none.dat"]),
        r#"
exit 125
--- stderr
error: cannot resolve `none.dat`
  because: No such file or directory (os error 2)
"#
    );
    snapshot!(
        bench.hatchway(&["run", "acme", "--bind", "license"]),
        r#"
exit 125
--- stderr
error: `--bind license`: it has the form SLOT=VALUE
"#
    );
}

#[test]
fn a_bound_file_is_the_hosts_at_this_moment() {
    for_both(|bench| {
        for text in ["one\n", "two\n"] {
            bench.put("license.dat", text);
            let outcome =
                bench.hatchway(&["run", "-q", "acme", "--bind", "license=license.dat", "--", "license"]);
            assert_eq!(outcome.stdout, text);
        }
    });
}

#[test]
fn a_shell_opens_in_the_same_sandbox() {
    for_both(|bench| {
        let shell = ["shell", "-q", "acme", "--bind", "license=acme.deb", "--", "-c"];
        let say = |script: &str| bench.hatchway(&[&shell[..], &[script]].concat());
        assert_eq!(say("/usr/bin/acme; echo $((6 * 7)); exit 5").stdout, "acme 1.0\n42\n");
        assert_eq!(say("exit 5").code, Some(5));
        assert_eq!(say("echo $$").stdout.trim().len(), 1, "a small process id: a namespace of its own");
        assert_eq!(say("echo /proc/[0-9]*").stdout.split(' ').count(), 2, "no other process is seen");
    });
}

#[test]
fn standard_input_reaches_the_tool() {
    for_both(|bench| {
        let script = "printf 'one\\ntwo' | \"$HATCHWAY\" run -q acme --bind license=acme.deb -- copy";
        assert_eq!(bench.script(script).ok().stdout, "one\ntwo\n");
    });
}

#[test]
fn a_signal_reaches_the_tool_and_shows_in_the_code() {
    for_both(|bench| {
        for (name, number) in [("TERM", 15), ("INT", 2)] {
            let mut child = bench.start(&["run", "-q", "acme", "--bind", "license=acme.deb", "--", "wait"]);
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "waiting\n");
            drop(Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).output().unwrap());
            assert_eq!(child.wait().unwrap().code(), Some(128 + number), "{name}");
        }
    });
}

#[test]
fn a_flag_that_a_locked_recipe_cannot_follow_is_not_passed_over() {
    let (bench, _server) = built(Bench::new());
    let outcome = bench.hatchway(&["run", "acme", "--suite", "trixie", "--bind", "license=acme.deb"]);
    assert!(
        outcome.code == Some(125) || outcome.stderr.contains("--suite"),
        "silently another suite\n{outcome}"
    );
}

#[test]
fn explain_prints_the_plan_and_runs_nothing() {
    for_both(|bench| {
        let outcome = bench
            .hatchway(&["run", "-q", "acme", "--bind", "license=acme.deb", "--explain", "--", "count"])
            .ok();
        assert!(outcome.stdout.lines().count() > 10, "{outcome}");
        assert!(outcome.stdout.contains("/etc/acme/license.dat"), "{outcome}");
        assert!(outcome.stdout.contains("\nset PATH=/"), "{outcome}");
        assert!(outcome.stdout.contains(" `count` in `/") && !outcome.stdout.ends_with("\n\n"), "{outcome}");
        // It made the folder, and gave it to the user who would have run the tool.
        let state = bench.path("data/state");
        assert!(!state.exists(), "explaining made `{}`", state.display());
        let planned = outcome
            .stdout
            .lines()
            .find(|line| line.contains("/data/state/acme/var-lib-acme-"))
            .map(str::to_owned);
        drop(run(bench, &["count"]).ok());
        let made = bench.state("/var/lib/acme").display().to_string();
        let made = made.split_once("/data/").unwrap().1;
        assert!(planned.is_some_and(|line| line.contains(made)), "{made}\n{outcome}");
    });
}

/// A recipe's words could steer the terminal of whoever looked at the plan first.
#[test]
fn explaining_shows_what_a_recipe_says_and_lets_none_of_it_steer_the_terminal() {
    let (bench, _server) = built(Bench::ordinary());
    let recipe = bench.read("recipes/acme/recipe.toml");
    let run = "[run]\nargs = [\"\\u001b[2Jx\"]\nenv = { ACME = \"a\\nb\\u001b]0;x\\u0007\" }\n";
    bench.put("recipes/acme/recipe.toml", recipe.replacen("[run]\n", run, 1));
    let outcome = bench.hatchway(&["run", "-q", "acme", "--bind", "license=acme.deb", "--explain"]).ok();
    assert!(!outcome.stdout.contains(['\u{1b}', '\u{7}']), "{outcome}");
    assert!(outcome.stdout.contains("\nset ACME=a\\nb\\u{1b}]0;x\\u{7}\n"), "{outcome}");
    assert!(outcome.stdout.contains(" `\\u{1b}[2Jx` in `/"), "{outcome}");
}

#[test]
fn explain_as_json_has_what_the_lines_say_under_names_that_stay() {
    for_both(|bench| {
        let explain = |form: &[&str]| {
            let head = ["run", "-q", "acme", "--bind", "license=acme.deb", "--explain"];
            bench.hatchway(&[&head[..], form, &["--", "count"]].concat()).ok()
        };
        let plan = explain(&["--json"]).json();
        assert_eq!((&plan["schema"], &plan["unit"]), (&1.into(), &"acme".into()), "{plan}");
        let lines = explain(&[]).stdout;
        let operations = plan["operations"].as_array().unwrap();
        let texts: Vec<&str> = operations.iter().map(|op| op["text"].as_str().unwrap()).collect();
        let expected: Vec<&str> = lines.lines().take(texts.len()).collect();
        assert_eq!(texts, expected);
        let bind = operations.iter().find(|op| op["at"] == "/etc/acme/license.dat").unwrap();
        assert_eq!((&bind["operation"], &bind["kind"]), (&"bind".into(), &"file".into()), "{bind}");
        assert_eq!(plan["process"]["args"], serde_json::json!(["count"]));
        assert!(plan["process"]["seccomp"]["instructions"].as_u64().unwrap() > 100, "{plan}");
        assert!(!bench.path("data/state").exists());
    });
    let (bench, _server) = built(Bench::new());
    let outcome = bench.hatchway(&["run", "acme", "--bind", "license=acme.deb", "--json"]);
    assert!(outcome.code == Some(125) && outcome.stderr.contains("--explain"), "{outcome}");
}

/// 2 may be the tool's own: wrong arguments and a plan that could not be written ended with it.
#[test]
fn what_hatchway_cannot_do_is_125_and_never_the_tools_code() {
    let (bench, _server) = built(Bench::ordinary());
    for arguments in [
        &["run"][..],
        &["shell"],
        &["-q", "run", "--no-such-option"],
        &["shell", "acme", "--share"],
        &["run", "none"],
    ] {
        let outcome = bench.hatchway(arguments);
        assert!(outcome.code == Some(125) && !outcome.stderr.is_empty(), "{arguments:?}\n{outcome}");
    }
    let full = "\"$HATCHWAY\" run -q acme --bind license=acme.deb --explain >/dev/full";
    let outcome = bench.script(full);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.stderr.contains("cannot write to standard output"), "{outcome}");
    for arguments in [["run", "--help"], ["shell", "-h"], ["run", "--version"]] {
        let expected = if arguments[1] == "--version" { 125 } else { 0 };
        assert_eq!(bench.hatchway(&arguments).code, Some(expected), "{arguments:?}");
    }
    for arguments in [&["lock"][..], &["--no-such-option", "run"], &["recipe"], &[]] {
        let expected = if arguments.first() == Some(&"--no-such-option") { 125 } else { 2 };
        assert_eq!(bench.hatchway(arguments).code, Some(expected), "{arguments:?}");
    }
}

#[test]
fn the_end_is_recorded_beside_the_unit() {
    for_both(|bench| {
        assert_eq!(run(bench, &["exit", "7"]).code, Some(7));
        let units = bench.path("data/run/units/acme");
        let newest = std::fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(newest.join("exit.json")).unwrap()).unwrap();
        assert_eq!(record["reason"]["exit"]["code"], 7, "{record}");
    });
}

#[test]
fn a_program_that_is_not_there_is_127_and_one_that_is_no_program_126() {
    for_both(|bench| {
        let with = |program: &str| {
            bench.hatchway(&["run", "-q", "acme", "--bind", "license=acme.deb", "--program", program])
        };
        assert_eq!(with("/usr/bin/none").code, Some(127));
        assert_eq!(with("/usr/share/acme/greeting").code, Some(126));
    });
}

/// The package and the recipe's edit are named from what the cache knows; nobody is asked.
#[test]
fn the_package_of_a_missing_interpreter_or_loader_is_named() {
    let suite = host::suite("bookworm")
        .with(Package::new("tcl", "1.0-1"))
        .with(Package::new("lua5.4", "1.0-1"))
        .with(Package::new("musl", "1.0-1").program("lib/ld-musl-x86_64.so.1", compile::musl()));
    let mirror = Mirror::new(vec![suite], Key::new(1));
    let lsb = "/lib64/ld-lsb-x86-64.so.3";
    let cases = [
        (
            "#!/usr/bin/tclsh -x",
            126,
            "hint: `tcl` of bookworm has it: `packages = [\"tcl\"]` in [environment]",
        ),
        ("#! /usr/bin/lua5.4", 126, "hint: `lua5.4` of bookworm has it"),
        (
            "#!/usr/bin/env tclsh",
            127,
            "error: `tclsh`, which starts the program, is not in the tree\nhint: `tcl` of bookworm",
        ),
        (
            "#!/usr/bin/env wish",
            127,
            "hint: `apt-file search /wish` on a Debian bookworm says which package has it",
        ),
        (
            "#!/opt/tcl/bin/tclsh",
            126,
            "; and the usual one does as well: `links = { \"/opt/tcl/bin/tclsh\" = \"/usr/bin/tclsh\" }`",
        ),
        // Both were taken for names without the carriage return, of which nothing was missing.
        (
            "#!/bin/sh\r",
            126,
            "the interpreter `/bin/sh\\r` in its first line is not: the line ends in a carriage return\n\
             hint: the first line of `/usr/bin/acme-5` ends in a carriage return",
        ),
        (
            "#!/usr/bin/env sh\r",
            127,
            "error: `sh\\r`, which starts the program, is not in the tree\nhint: the first line of",
        ),
        ("/lib/ld-musl-x86_64.so.1", 126, "hint: `musl` of bookworm has it: `packages = [\"musl\"]`"),
        ("/lib/ld-linux.so.2", 126, "`architectures = [\"amd64\", \"i386\"]` in [environment]"),
        (
            lsb,
            126,
            "hint: the usual one does as well: `links = { \"/lib64/ld-lsb-x86-64.so.3\" = \"/lib64/ld-linux-x86-64.so.2\" }`",
        ),
    ];
    let mut package = Package::new("acme", "1.0");
    for (number, (start, ..)) in cases.iter().enumerate() {
        let script = start.starts_with("#!").then(|| format!("{start}\n").into_bytes());
        let bytes = script.unwrap_or_else(|| compile::program_by_loader(start));
        package = package.program(&format!("usr/bin/acme-{number}"), bytes);
    }
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, server) = bench.with_mirror(&mirror);
        bench.put("acme.deb", package.deb());
        for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
            drop(bench.hatchway(&step).ok());
        }
        drop(server.requests());
        for (number, (start, code, says)) in cases.iter().enumerate() {
            let outcome = bench.hatchway(&["run", "-q", "acme", "--program", &format!("acme-{number}")]);
            assert!(
                outcome.code == Some(*code) && outcome.stderr.contains(says),
                "{start}: {says}\n{outcome}"
            );
        }
        assert!(server.requests().is_empty(), "a mirror was asked");
        // One of them as the hint says.
        let recipe = bench.read("recipes/acme/recipe.toml");
        let links = format!("links = {{ \"{lsb}\" = \"/lib64/ld-linux-x86-64.so.2\" }}\n");
        let patch = "patch = { \"/usr/bin/acme-5\" = \"acme-5.patch\" }\n";
        bench.put("recipes/acme/recipe.toml", format!("{recipe}\n[environment]\n{links}{patch}"));
        let script = "printf '#!/bin/sh\\r\\n' >acme-5; sed 's/\\r$//' acme-5 >new; diff -u acme-5 new >recipes/acme/acme-5.patch";
        assert_eq!(bench.script(script).code, Some(1), "the two differ");
        drop(bench.hatchway(&["lock", "acme"]).ok());
        for program in ["acme-5", &format!("acme-{}", cases.len() - 1)] {
            drop(bench.hatchway(&["run", "-q", "acme", "--program", program]).ok());
        }
    }
}

#[test]
fn a_shared_folder_is_there_at_its_path() {
    for_both(|bench| {
        let path = bench.put("data.txt", "shared\n");
        // Everybody may write it, so that only the mount is in the way.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let folder = bench.path("work").display().to_string();
        let file = bench.path("work/data.txt").display().to_string();
        let share = format!("{folder}:ro");
        let run = |verb| {
            bench.hatchway(&[
                "run",
                "-q",
                "acme",
                "--bind",
                "license=acme.deb",
                "--share",
                &share,
                "--",
                verb,
                &file,
            ])
        };
        assert_eq!(run("show").stdout, "shared\n");
        assert!(run("add").stdout.contains("Read-only file system"), "{}", run("add"));
    });
}
