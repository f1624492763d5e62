//! The programs of the host that serve a tool: an X server, a sound server, a filter of D-Bus messages. Each parses what
//! the tool sends, so each is in a sandbox: a hole in it must not be a way out.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hatchway_tests::bench::{Bench, is_root};

use super::machine::{Machine, for_both};

/// Stands in for the X server: looks around, says what it could do, and becomes the real one.
const SPY: &str = r#"#!/bin/sh
{
    grep -E '^(NoNewPrivs|Seccomp|CapEff|CapPrm|CapBnd|CapAmb):' /proc/self/status
    cat HOME/secret
    cat WORK/recipes/acme/recipe.toml
    for place in HOME WORK /var/tmp /usr /etc /root; do echo spied >$place/MARK && echo "wrote $place"; done
    echo spied >/tmp/MARK && echo "scratch $(cat /tmp/MARK)"
    echo mine >mine && echo "own $(cat mine)" && rm mine
    grep -c : /proc/net/dev
    ls -d /home /root /var/lib /run/user /var/spool 2>/dev/null
    read -r first </proc/1/comm && echo "first $first"
    command -v python3 >/dev/null && echo python
    python3 -c 'import socket; socket.create_connection(("127.0.0.1", PORT), 5)' && echo connected
    unshare -n true && echo "new namespace"
    mount -t tmpfs none /tmp && echo mounted
    echo done
} >/tmp/report 2>/dev/null
grep . /tmp/report >&2
exec /usr/bin/Xvfb "$@"
"#;

#[test]
fn what_takes_over_an_x_server_is_in_a_sandbox() {
    for_both(|machine| {
        machine.asks("display = \"nested\"", "");
        let bench = &machine.bench;
        let (home, work) = (bench.path("home"), bench.path("work"));
        std::fs::write(home.join("secret"), "the person's secret\n").unwrap();
        for folder in [&home, &work] {
            // Nothing but the sandbox keeps it out, whoever it runs as.
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let text = |path: &Path| path.display().to_string();
        let mark = format!("hatchway-spied-{}", std::process::id());
        // It listens on the host, where the same line would connect.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let spy = SPY.replace("HOME", &text(&home)).replace("WORK", &text(&work)).replace("MARK", &mark);
        let spy = spy.replace("PORT", &port.to_string());
        assert!(bench.script(&probe(&spy)).stdout.contains("connected"), "the probe itself");
        let bin = bench.path("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("Xvfb"), spy).unwrap();
        std::fs::set_permissions(bin.join("Xvfb"), PermissionsExt::from_mode(0o755)).unwrap();
        let outcome = machine.session(&format!("PATH={}:$PATH", text(&bin)), "-- display").ok();
        assert_eq!(outcome.stdout, "accepted\n", "package xvfb\n{outcome}");
        let log = bench.script("cat \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/companions.log").stdout;
        let said: Vec<String> =
            log.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let said = said.join("\n");
        let expected = "CapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\n\
                        CapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\nscratch spied\nown mine\n1\n\
                        first hatchway-shim\npython\ndone\n";
        assert!(said.starts_with(expected), "{said}");
        for place in [home.as_path(), &work, Path::new("/var/tmp"), Path::new("/tmp")] {
            assert!(!place.join(&mark).exists(), "{} was written", place.display());
        }
    });
}

/// The line of the spy that tries to connect.
fn probe(spy: &str) -> String {
    spy.lines().find(|line| line.contains("create_connection")).unwrap().to_owned()
}

/// What the kernel says of a process of the host, and whether it sees the host's home folders.
const LOOK: &str = r#"look() {
    for pid in $(pgrep -f "$1"); do
        test "$(cat /proc/$pid/comm)" = hatchway-shim && continue
        grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/$pid/status | tr -s '\t\n' ' '
        test "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" && echo "the host's network"
        test -e "/proc/$pid/root$HATCHWAY_DATA_DIR/store" && echo "sees the store"
        test -e /proc/$pid/root/usr/bin && echo confined
    done
}
"#;
const CONFINED: &str = "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 confined\n";

/// A sound server and a bus of the session in `$d`: a listening socket is enough for what stands before it to start.
const SERVERS: &str = "
            d=$(mktemp -d); chmod 755 $d
            cat >listen.py <<'END'
import os, socket, sys, time
for name in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX); s.bind(name); os.chmod(name, 0o777); s.listen(); globals()[name] = s
print(flush=True); time.sleep(600)
END
            python3 listen.py $d/native $d/bus >ready & server=$!; trap 'kill $server' EXIT
            while [ ! -s ready ]; do sleep 0.05; done
            export PULSE_SERVER=unix:$d/native DBUS_SYSTEM_BUS_ADDRESS=unix:path=$d/bus";

#[test]
fn each_of_them_is_confined() {
    // A bus wants an account.
    for machine in [Bench::new(), Bench::of_nobody()].map(Machine::new) {
        machine.asks("display = \"nested\"\naudio = true\ndbus = { system = {} }", "");
        let script = format!(
            "{LOOK}{SERVERS}
            mkfifo go
            \"$HATCHWAY\" run -q acme $USER_WISH --program /bin/bash -- -c 'echo $DISPLAY; read -r line' <go >shown & tool=$!
            exec 4>go
            while [ ! -s shown ]; do kill -0 $tool || break; sleep 0.05; done
            read -r display <shown
            look \"Xvfb $display \"; look \"pulseaudio .*$d/native\"; look \"xdg-dbus-proxy .*$d/bus\"
            echo >&4; wait $tool; echo code $?
            for name in Xvfb.$display pulseaudio.*$d/native xdg-dbus-proxy.*$d/bus; do pgrep -f $name; done; echo end"
        );
        let root = is_root() && !machine.bench.is_ordinary();
        let wish = if root { "--user nobody" } else { "" };
        let outcome = machine.bench.script(&script.replace("$USER_WISH", wish));
        let expected = format!("{CONFINED}{CONFINED}{CONFINED}code 0\nend\n");
        assert_eq!(
            outcome.stdout.replace(" \n", "\n"),
            expected,
            "packages xvfb, pulseaudio and xdg-dbus-proxy\n{outcome}"
        );
    }
}

#[test]
fn a_sound_server_or_a_filter_that_is_killed_leaves_the_tool_alone_and_a_note() {
    // A bus wants an account.
    for machine in [Bench::new(), Bench::of_nobody()].map(Machine::new) {
        machine.asks("audio = true\ndbus = { system = {} }", "");
        let root = is_root() && !machine.bench.is_ordinary();
        let wish = if root { "--user nobody" } else { "" };
        let script = format!(
            "{SERVERS}
            $HATCHWAY run -q acme {wish} --program /bin/bash -- -c 'echo up; until test -e /tmp/go || test $SECONDS -gt 60; do read -t 0.1 x <> /dev/ptmx; done; exit 4' > out 2> err < /dev/null & run=$!
            until grep -q up out; do kill -0 $run || break; sleep 0.1; done
            for pattern in \"pulseaudio .*$d/native\" \"xdg-dbus-proxy .*$d/bus\"; do
                n=$(pgrep -f \"$pattern\" | wc -l); test $n -gt 0 && pkill -KILL -f \"$pattern\" && echo killed
            done
            $HATCHWAY exec acme -- bash -c ': > /tmp/go' < /dev/null; wait $run; echo $?; cat err
            pgrep -f \"$d/native|$d/bus\" | grep -v -x $server; cat \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/exit.json \"$XDG_RUNTIME_DIR\"/hatchway/units/acme/*/exit.json 2> /dev/null"
        );
        let outcome = machine.bench.script(&script);
        assert!(outcome.stdout.starts_with("killed\nkilled\n4\n"), "{outcome}");
        for role in ["the sound server", "the filter of D-Bus messages"] {
            let note = format!("{role} ended before the tool, with code 137");
            assert!(outcome.stdout.contains(&note), "{note}: {outcome}");
        }
    }
}
