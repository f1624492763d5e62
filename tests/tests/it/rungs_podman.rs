//! The container rung with root's Podman: rows of the suite for all rungs, asked of another engine by its socket.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use super::rungs::{self, CONTAINER_DIFFERS, Differs, Rungs, until};
use super::{rungs_channels, rungs_ends, rungs_limits, rungs_visits};

const CONTROL_GROUPS: Differs<'_> = &[(
    "control groups are seen from their own root",
    "*",
    "Podman ignores the wish for a namespace of control groups where a machine has them of version 1",
)];

#[test]
fn with_podman_a_tool_sees_the_same() {
    let rungs = Rungs::with_podman("");
    let old = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let more = if old { CONTROL_GROUPS } else { &[] };
    rungs::same_answers(&rungs, &[("container", &[CONTAINER_DIFFERS, more].concat())]);
    rungs::removed_image(&rungs);
    rungs.nothing_is_left();
}

#[test]
fn with_podman_streams_codes_and_terminals_are_the_tools() {
    let rungs = Rungs::with_podman("state = [\"/var/lib/acme\"]");
    rungs::streams(&rungs);
    rungs::exit_codes(&rungs);
    rungs::terminal(&rungs);
    rungs::state(&rungs);
}

#[test]
fn with_podman_every_end_has_its_reason_and_leaves_nothing() {
    let rungs = Rungs::with_podman("");
    rungs_ends::signals(&rungs);
    rungs::stopped_and_told_to_go_on(&rungs);
    rungs_ends::ended_by_the_engine(&rungs);
    rungs_ends::killed_caller(&rungs);
    rungs_ends::killed_inner_half(&rungs);
}

#[test]
fn with_podman_limits_hold_and_too_much_memory_is_told_apart() {
    rungs_limits::too_much_memory(&Rungs::with_podman("limits = { memory = \"64M\", tasks = 20 }"));
    rungs_limits::share_of_a_processor(&Rungs::with_podman("limits = { cpu = 0.5 }"));
}

#[test]
fn with_podman_others_come_to_the_tool() {
    let rungs = Rungs::with_podman("env = { ACME = \"a b\" }\nstate = [\"/var/lib/acme\"]");
    rungs_visits::statistics(&rungs);
    rungs_visits::another_program(&rungs);
    rungs_visits::visitors_terminal(&rungs);
    rungs_visits::end_of_a_visit(&rungs);
}

#[test]
fn with_podman_a_serial_line_and_a_port_are_carried_both_ways() {
    let rungs = Rungs::with_podman("");
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    rungs_channels::add(&rungs, "kind = \"serial\"\nat = \"/dev/ttyUSB0\"");
    rungs_channels::serial_line(&rungs);
    fs::write(&recipe, &text).unwrap();
    rungs_channels::add(&rungs, "kind = \"tcp\"\nat = \"10.9.8.7:5025\"");
    rungs_channels::tcp_port(&rungs);
    fs::write(&recipe, text).unwrap();
    rungs_ends::killed_relay(&rungs);
}

#[test]
fn with_podman_a_tool_does_not_notice_that_the_service_is_killed() {
    let mut rungs = Rungs::with_podman("");
    let inside = "echo ready; while read line; do echo heard $line; test \"$line\" && exit 6; done";
    let line = format!("{}; exec $RUN -c '{inside}' > out 2> err", rungs.prefix("container"));
    let mut child = rungs.bench.shell(&line).stdin(Stdio::piped()).spawn().unwrap();
    until("it does not begin", || {
        fs::read_to_string(rungs.bench.path("work/out")).is_ok_and(|text| text.contains("ready"))
    });
    rungs.podman.as_mut().unwrap().kill_and_start();
    child.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6), "{}", rungs.bench.read("err"));
    assert_eq!(rungs.bench.read("out"), "ready\nheard word\n");
    rungs.nothing_is_left();
}
