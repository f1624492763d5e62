//! A bus of the test's own with services on it, and a tool that talks to them: Debian's `dbus-send`, through the filter.

use hatchway_tests::bench::{Bench, Outcome, is_root};
use hatchway_tests::host;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};

use super::machine::Machine;

/// Whom root becomes for a session of somebody, Debian's `nobody`: a bus lets in nobody without an account.
const PERSON: &str = "65534";

fn machine(bench: Bench) -> Machine {
    let suite = Suite::new("bookworm", Libc::Hosts).with(host::with_programs("dbus-bin", &["dbus-send"]));
    let program = std::fs::read("/usr/bin/dbus-send").expect("install the package `dbus-bin`");
    let machine = Machine::of(bench, &Mirror::new(vec![suite], Key::new(1)), program);
    machine.bench.put("service.py", include_str!("dbus/service.py"));
    machine
}

/// Runs a script with a bus at `$BUS` and services on it. `$SEND` calls a method of a name through the tool's bus.
fn with_bus(machine: &Machine, address: &str, script: &str) -> Outcome {
    // Root's tool is run for a person; an ordinary user is one.
    let (person, user) = if is_root() && !machine.bench.is_ordinary() {
        let person = format!("setpriv --reuid {PERSON} --regid {PERSON} --clear-groups --inh-caps=-all --");
        (person, format!("--user {PERSON}:{PERSON}"))
    } else {
        (String::new(), String::new())
    };
    let text = format!(
        "set -e; mkdir person; test -z \"{user}\" || chown {PERSON}:{PERSON} person; cd person
        mkfifo ready serving; address={address}
        {person} dbus-daemon --session --nofork --nopidfile --nosyslog --address=$address --print-address=3 3>ready 2>log & daemon=$!
        trap 'kill $daemon' EXIT; read -r said <ready
        {person} python3 ../service.py \"$address\" org.example.Allowed org.example.Other >serving & service=$!
        read -r said <serving
        cd ..; export DBUS_SESSION_BUS_ADDRESS=$address; RUN=\"$HATCHWAY run -q acme {user}\"
        CALL='-- --print-reply --session --type=method_call'
        set +e
        {script}
        trap - EXIT; kill $service $daemon; wait; rm -r person"
    );
    machine.bench.script(&text)
}

const OWN: &str =
    "--dest=org.freedesktop.DBus / org.freedesktop.DBus.RequestName string:org.example.Mine uint32:0";
const PATH: &str = "unix:path=$PWD/bus";

fn for_both(test: impl Fn(&Machine)) {
    for bench in [Bench::new(), Bench::of_nobody()] {
        test(&machine(bench));
    }
}

#[test]
fn a_tool_talks_to_the_names_it_was_given_and_to_no_other() {
    for_both(|machine| {
        machine.asks("dbus = { session = { talk = [\"org.example.Allowed\"] } }", "");
        let script = format!(
            "for name in Allowed Other Absent; do
                $RUN $CALL --dest=org.example.$name / org.example.Call >out 2>&1; echo $name $?
                grep -o 'method return\\|ServiceUnknown' out | head -n 1
            done
            $RUN $CALL {OWN} >out 2>&1; echo own $?; grep -o 'AccessDenied\\|ServiceUnknown' out | head -n 1
            $RUN $CALL --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -o 'org.example.*' "
        );
        let outcome = with_bus(machine, PATH, &script);
        let expected = "Allowed 0\nmethod return\nOther 1\nServiceUnknown\nAbsent 1\nServiceUnknown\nown 1\nServiceUnknown\n\
                        org.example.Allowed\"\n";
        assert_eq!(outcome.stdout, expected, "packages dbus-daemon, xdg-dbus-proxy\n{outcome}");
    });
}

#[test]
fn a_tool_takes_a_name_that_it_was_given() {
    for_both(|machine| {
        machine.asks("dbus = { session = { own = [\"org.example.*\"] } }", "");
        let script = format!(
            "$RUN $CALL {OWN} | grep -o 'uint32 1'; $RUN --explain | grep -c '^start the filter of D-Bus'"
        );
        let outcome = with_bus(machine, PATH, &script);
        assert_eq!(outcome.stdout, "uint32 1\n1\n", "{outcome}");
    });
}

#[test]
fn the_bus_itself_is_out_of_reach() {
    for_both(|machine| {
        let allowed = "dbus = { session = { talk = [\"org.example.Allowed\"] } }";
        machine.asks(allowed, "");
        let raw = "/usr/bin/acme --print-reply --dest=org.example.Other --type=method_call / org.example.Call >/dev/null 2>&1";
        let tries = |address: &str| {
            format!(
                "\"$HATCHWAY\" shell -q acme ${{RUN#* acme}} -- -c 'DBUS_SESSION_BUS_ADDRESS={address} {raw}; echo raw $?; \
                 {raw}; echo filtered $?; echo $DBUS_SESSION_BUS_ADDRESS'"
            )
        };
        let script = tries("'$DBUS_SESSION_BUS_ADDRESS'");
        let outcome = with_bus(machine, PATH, &script);
        assert!(outcome.stdout.starts_with("raw 1\nfiltered 1\nunix:path=/run/user/"), "{outcome}");
        // An abstract socket goes by the network namespace, and with the host's network Landlock is the wall.
        let abstract_ = "unix:abstract=hatchway-test-$$";
        for network in ["loopback", "host"] {
            machine.asks(&format!("{allowed}\nnetwork = \"{network}\""), "");
            let outcome = with_bus(machine, abstract_, &tries("'$DBUS_SESSION_BUS_ADDRESS'"));
            let root = is_root() && !machine.bench.is_ordinary();
            let refused = outcome.stderr.contains("another user's session is not shown");
            assert!(
                if root { refused } else { outcome.stdout.starts_with("raw 1\nfiltered 1\n") },
                "{outcome}"
            );
        }
    });
}

#[test]
fn the_filter_ends_with_the_tool_however_that_ends() {
    for_both(|machine| {
        machine.asks("dbus = { session = {} }", "");
        let own = "pgrep -f \"xdg-dbus-proxy --fd=1 $DBUS_SESSION_BUS_ADDRESS\"";
        let script = format!(
            "$RUN --program /bin/bash -- -c 'exit 3'; echo code $?; {own}; echo none $?
            $RUN --program /bin/bash -- -c 'read -r line </dev/zero' & shim=$!
            until {own} >/dev/null; do sleep 0.05; done; sleep 0.3
            kill -KILL $shim; wait $shim 2>/dev/null; n=0
            while {own} >/dev/null && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done; {own}; echo none $?
            $RUN --program /bin/bash -- -c 'read -r -t 2 line </dev/ptmx; exit 4' & shim=$!
            until {own} >/dev/null; do sleep 0.05; done; sleep 0.3
            kill $({own}); wait $shim; echo code $?"
        );
        let outcome = with_bus(machine, PATH, &script);
        assert_eq!(outcome.stdout, "code 3\nnone 1\nnone 1\ncode 4\n", "{outcome}");
    });
}

#[test]
fn what_cannot_be_had_is_said() {
    for_both(|machine| {
        machine.asks("dbus = { session = {} }", "");
        let none = machine.run(&[]);
        assert!(none.code == Some(125) && none.stderr.contains("there is none"), "{none}");
        machine.asks("dbus = { system = {} }", "");
        let none = machine.session("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "");
        assert!(none.code == Some(125) && none.stderr.contains("`/nowhere` is not there"), "{none}");
        let there = machine.bench.put("socket", "");
        let script = format!("PATH=/nowhere DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", there.display());
        let none = machine.session(&script, "");
        assert!(
            none.code == Some(125) && none.stderr.contains("hint: `apt install xdg-dbus-proxy`"),
            "{none}"
        );
        machine.asks("dbus = { session = { talk = [\"org.freedesktop.systemd1\"] } }", "");
        let refused = machine.run(&[]);
        assert!(refused.stderr.contains("starts programs outside of the sandbox"), "{refused}");
    });
}

#[test]
fn roots_units_have_the_system_bus_under_the_uid_of_an_account() {
    assert!(is_root(), "run this test as root: it runs a bus of the system's kind");
    let machine = machine(Bench::new());
    machine.asks("dbus = { system = { talk = [\"org.example.Allowed\"] } }", "");
    let policy = "<busconfig><type>system</type><listen>unix:path=bus</listen><auth>EXTERNAL</auth><policy context='default'>\
                  <allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/><allow user='*'/></policy></busconfig>";
    machine.bench.put("bus.conf", policy);
    let script = "set -e; mkfifo ready serving; address=unix:path=$PWD/bus
        dbus-daemon --config-file=bus.conf --nofork --nopidfile --nosyslog --address=$address --print-address=3 3>ready 2>log & daemon=$!
        trap 'kill $daemon' EXIT; read -r said <ready
        python3 service.py \"$PWD/bus\" org.example.Allowed >serving & service=$!
        read -r said <serving; set +e
        export DBUS_SYSTEM_BUS_ADDRESS=$address
        CALL='-- --print-reply --system --type=method_call'
        $HATCHWAY run -q acme --user nobody $CALL --dest=org.example.Allowed / org.example.Call | grep -o 'method return'
        $HATCHWAY run -q acme $CALL --dest=org.example.Allowed / org.example.Call; echo $?
        $HATCHWAY run -q acme --user nobody --program /bin/bash -- -c 'read -r -t 3 line </dev/ptmx' & shim=$!
        for i in $(seq 1200); do pid=$(pgrep -f \"xdg-dbus-proxy --fd=1 $address\") && break; sleep 0.05; done; stat -c %u /proc/$pid; wait $shim
        trap - EXIT; kill $service $daemon; wait";
    let outcome = machine.bench.script(script);
    assert_eq!(outcome.stdout, "method return\n125\n65534\n", "{outcome}");
    assert!(outcome.stderr.contains("a bus lets in only users with an account"), "{outcome}");
}
