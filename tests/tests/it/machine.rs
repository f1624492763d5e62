//! What a recipe asks of the machine: display, sound, identity, devices, limits, addresses. Each as root and as an
//! ordinary user, each with what is said where the machine does not have it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;

/// A client that opens a display as libX11 does (the X11 protocol's connection setup), and asks about priorities.
const PROBE: &str = r#"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
static int display(int with_cookie) {
    const char *name = getenv("DISPLAY"), *file = getenv("XAUTHORITY");
    if (!name) return puts("no DISPLAY") < 0;
    unsigned char record[512], setup[64] = {'l', 0, 11}, answer[8];
    struct sockaddr_un to = {AF_UNIX, ""};
    snprintf(to.sun_path, sizeof to.sun_path, "/tmp/.X11-unix/X%d", atoi(name + 1));
    int s = socket(AF_UNIX, SOCK_STREAM, 0), length = 12;
    if (connect(s, (void *)&to, sizeof to)) { printf("%s: %s\n", to.sun_path, strerror(errno)); return 1; }
    if (with_cookie) {
        FILE *f = fopen(file ? file : "", "r");
        if (!f) { printf("no XAUTHORITY\n"); return 1; }
        int got = fread(record, 1, sizeof record, f);
        setup[6] = 18; setup[8] = 16;
        memcpy(setup + 12, "MIT-MAGIC-COOKIE-1", 18);
        memcpy(setup + 32, record + got - 16, 16);
        length = 48;
    }
    write(s, setup, length);
    if (read(s, answer, 8) != 8) { puts("hung up"); return 1; }
    puts(answer[0] == 1 ? "accepted" : "refused");
    return 0;
}
int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    if (!strcmp(verb, "display")) return display(1);
    if (!strcmp(verb, "stranger")) return display(0);
    if (!strcmp(verb, "fifo")) {
        struct sched_param wish = {atoi(words[2])};
        int done = sched_setscheduler(0, SCHED_FIFO, &wish);
        printf("%s\n", done ? strerror(errno) : "real-time");
        return done != 0;
    }
    return 64;
}
"#;

/// A bench with `acme` built; its recipe can then be given what it asks of the machine, which is in no digest.
pub(super) struct Machine {
    pub(super) bench: Bench,
    recipe: String,
    _server: Server,
}

impl Machine {
    pub(super) fn new(bench: Bench) -> Self {
        Self::of(bench, &Mirror::runnable(), compile::program(PROBE))
    }

    /// With another archive and another program.
    pub(super) fn of(bench: Bench, mirror: &Mirror, program: Vec<u8>) -> Self {
        let (bench, server) = bench.with_mirror(mirror);
        let package =
            Package::new("acme", "1.0").field("Depends", "libc6 (>= 2.14)").program("usr/bin/acme", program);
        bench.put("acme.deb", package.deb());
        for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
            drop(bench.hatchway(&step).ok());
        }
        let recipe = bench.read("recipes/acme/recipe.toml");
        Self { bench, recipe, _server: server }
    }

    /// With these keys in `[run]`, and this behind it.
    pub(super) fn asks(&self, run: &str, more: &str) -> &Self {
        let recipe = self.recipe.replace("[run]\n", &format!("[run]\n{run}\n"));
        assert!(recipe != self.recipe || run.is_empty(), "the recipe has no [run]");
        self.bench.put("recipes/acme/recipe.toml", format!("{recipe}\n{more}\n"));
        self
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        self.bench.hatchway(&[&["run", "-q", "acme"], arguments].concat())
    }

    pub(super) fn shell(&self, bind: &[&str], script: &str) -> Outcome {
        let bind = bind.iter().flat_map(|bind| ["--bind", bind]);
        let words: Vec<&str> =
            ["shell", "-q", "acme"].into_iter().chain(bind).chain(["--", "-c", script]).collect();
        self.bench.hatchway(&words)
    }

    /// With variables of a session.
    pub(super) fn session(&self, variables: &str, arguments: &str) -> Outcome {
        self.bench.script(&format!("{variables} \"$HATCHWAY\" run -q acme {arguments}"))
    }
}

pub(super) fn for_both(test: impl Fn(&Machine)) {
    for bench in [Bench::new(), Bench::ordinary()] {
        test(&Machine::new(bench));
    }
}

#[test]
fn a_nested_display_is_the_tools_own_and_ends_with_it() {
    for_both(|machine| {
        machine.asks("display = \"nested\"", "");
        assert_eq!(machine.run(&["--", "display"]).ok().stdout, "accepted\n", "install the package `xvfb`");
        assert_eq!(machine.run(&["--", "stranger"]).ok().stdout, "refused\n", "a display without a cookie");
        let script =
            "display=$(\"$HATCHWAY\" shell -q acme -- -c 'echo $DISPLAY'); pgrep -f \"Xvfb $display \"
            ls \"/tmp/.X11-unix/X${display#:}\" 2>/dev/null; echo \"${display%%[0-9]*} is left $?\"";
        let outcome = machine.bench.script(script);
        assert_eq!(outcome.stdout, ": is left 2\n", "{outcome}");
        let explained = machine.run(&["--explain"]).ok().stdout;
        assert!(explained.contains("start the display server in a sandbox of its own: `"), "{explained}");
        assert!(explained.contains(" at `/tmp/.X11-unix/X"), "{explained}");
    });
}

#[test]
fn a_nested_display_is_a_window_of_the_persons() {
    for_both(|machine| {
        machine.asks("display = \"nested\"", "");
        // The person's display is one in memory here; Xephyr draws its window on it.
        let script = "mkfifo ready; Xvfb -displayfd 3 -screen 0 1400x900x24 3>ready 2>outer.log & server=$!
            read -r number <ready
            DISPLAY=:$number \"$HATCHWAY\" run -q acme -- display; echo code $?
            DISPLAY=:$number \"$HATCHWAY\" run -q acme --explain | grep -c Xephyr
            kill $server; wait $server; rm ready";
        let outcome = machine.bench.script(script);
        assert!(
            outcome.stdout.starts_with("accepted\ncode 0\n1\n"),
            "packages xvfb and xserver-xephyr\n{outcome}"
        );
    });
}

#[test]
fn a_shared_display_is_the_persons_and_said_to_be() {
    for_both(|machine| {
        machine.asks("display = \"shared\"", "");
        let none = machine.run(&["--", "display"]);
        assert_eq!(none.code, Some(125), "{none}");
        assert!(none.stderr.contains("neither DISPLAY nor WAYLAND_DISPLAY is set"), "{none}");
        let remote = machine.session("DISPLAY=localhost:10.0", "-- display");
        assert!(remote.stderr.contains("not one of this host"), "{remote}");
        let script = "cookie=00112233445566778899aabbccddeeff
            mkfifo ready; xauth -q -f server.auth add :0 . $cookie
            Xvfb -displayfd 3 -auth server.auth -screen 0 640x480x24 3>ready 2>outer.log & server=$!
            read -r number <ready
            xauth -q -f own.auth add :$number . $cookie
            export DISPLAY=:$number
            XAUTHORITY=own.auth \"$HATCHWAY\" run -q acme -- display
            XAUTHORITY=none.auth \"$HATCHWAY\" run -q acme -- stranger
            kill $server; wait $server; rm ready";
        let outcome = machine.bench.script(script);
        assert_eq!(outcome.stdout, "accepted\nrefused\n", "packages xvfb and xauth\n{outcome}");
        assert!(outcome.stderr.contains("can read what is typed"), "{outcome}");
    });
}

#[test]
fn shared_sound_is_the_sessions_socket_with_its_cookie_and_said_to_be() {
    for_both(|machine| {
        machine.asks("audio = \"shared\"", "");
        let none = machine.session("XDG_RUNTIME_DIR=$PWD", "-- fifo 1");
        assert!(none.code == Some(125) && none.stderr.contains("no sound server"), "{none}");
        let runtime = machine.bench.path("runtime");
        fs::create_dir_all(runtime.join("pulse")).unwrap();
        let _server = UnixListener::bind(runtime.join("pulse/native")).unwrap();
        let cookie = machine.bench.put("cookie", "0123456789");
        for path in [runtime.clone(), runtime.join("pulse"), runtime.join("pulse/native")] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let script = format!(
            "export XDG_RUNTIME_DIR={} PULSE_COOKIE={}; HATCHWAY_DATA_DIR=$HATCHWAY_DATA_DIR \
             \"$HATCHWAY\" shell -q acme -- -c 'test -S \"${{PULSE_SERVER#unix:}}\" && echo socket; \
             read -r line <\"$PULSE_COOKIE\"; echo \"$line\"'",
            runtime.display(),
            cookie.display()
        );
        let outcome = machine.bench.script(&script);
        assert_eq!(outcome.stdout, "socket\n0123456789\n");
        assert!(outcome.stderr.contains("have it load code"), "{outcome}");
    });
}

/// The same wishes are put to the tool's server and to a session's: the one refuses what the other does.
#[test]
fn the_tools_own_sound_server_loads_no_code_for_it() {
    for_both(|machine| {
        machine.asks("audio = true", "");
        let script = r#"d=$(mktemp -d); chmod 755 "$d"; mkfifo go
            wait_for() { for try in $(seq 1200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; echo "no: $*"; }
            env -i PATH="$PATH" HOME="$d" pulseaudio --daemonize=no -n --use-pid-file=no --exit-idle-time=-1 \
                --disable-shm=yes --log-target=stderr -L "module-null-sink sink_name=outer" \
                -L "module-native-protocol-unix socket=$d/native auth-anonymous=1 auth-cookie-enabled=0" 2>session.log &
            server=$!
            wait_for test -S "$d/native"
            export PULSE_SERVER="unix:$d/native"
            "$HATCHWAY" shell -q acme -- -c 'test -S "${PULSE_SERVER#unix:}" && echo socket; read -r line' <go >shown &
            tool=$!
            exec 4>go
            wait_for test -s shown; cat shown
            own() { PULSE_SERVER="unix:$(echo "$HATCHWAY_DATA_DIR"/run/units/acme/*/sound/native)" pactl "$@"; }
            speaker() { own list short sinks | grep -q speaker; }
            wait_for speaker; speaker && echo speaker
            for at in pactl own; do
                $at load-module module-pipe-sink "file=$d/$at" >/dev/null 2>&1 && echo "$at loads"
                test -e "$d/$at" && echo "$at makes files"
                $at load-module module-native-protocol-tcp port=47199 >/dev/null 2>&1 && echo "$at listens"
            done
            own exit >/dev/null 2>&1; speaker && echo "still there"
            echo >&4; wait $tool; kill $server; wait $server
            ls "$HATCHWAY_DATA_DIR"/run/units/acme/*/sound/native 2>/dev/null; echo end"#;
        let outcome = machine.bench.script(script);
        let expected = "socket\nspeaker\npactl loads\npactl makes files\npactl listens\nstill there\nend\n";
        assert_eq!(outcome.stdout, expected, "packages pulseaudio and pulseaudio-utils\n{outcome}");
    });
}

#[test]
fn a_licence_identity_is_what_was_bound() {
    for_both(|machine| {
        machine.asks("", "[identity]\nneeds = [\"mac\", \"machine-id\", \"hostname\"]");
        let unbound = machine.shell(&[], "true");
        assert!(unbound.stderr.contains("--bind identity.mac=…"), "{unbound}");
        let id = "00112233445566778899aabbccddeeff";
        let bind = [
            "identity.mac=00:1b:21:0a:0b:0c",
            "identity.interface=eno1",
            &format!("identity.machine-id={id}"),
            "identity.hostname=scanner1",
        ];
        let script = "read -r id </etc/machine-id; echo $id; echo $HOSTNAME; read -r name </etc/hostname; echo $name; \
                      while read -r name rest; do echo $name; done </proc/net/dev";
        let outcome = machine.shell(&bind, script).ok();
        assert!(outcome.stdout.starts_with(&format!("{id}\nscanner1\nscanner1\n")), "{outcome}");
        assert!(outcome.stdout.contains("eno1:\n") && outcome.stdout.contains("lo:\n"), "{outcome}");
        let wrong = machine.shell(&["identity.mac=01:00:5e:00:00:01"], "true");
        assert!(wrong.code == Some(125) && wrong.stderr.contains("no single interface has it"), "{wrong}");
        let wrong = machine.shell(&["identity.mac=00:1b:21:0a:0b:0c", "identity.machine-id=7"], "true");
        let hint = "hint: it is what `cat /etc/machine-id` prints on the machine";
        assert!(wrong.code == Some(125) && wrong.stderr.contains(hint), "{wrong}");
        machine.asks("network = \"host\"", "[identity]\nneeds = [\"mac\"]");
        let host = machine.shell(&["identity.mac=00:1b:21:0a:0b:0c"], "true");
        assert!(host.code == Some(125) && host.stderr.contains("needs a network of its own"), "{host}");
    });
}

#[test]
fn a_device_slot_wants_a_name_that_stays() {
    for_both(|machine| {
        machine.asks("", "[[device]]\nname = \"controller\"\nclass = \"serial\"\nat = \"/dev/ttyUSB0\"");
        let bound =
            |value: &str| machine.shell(&[&format!("controller={value}")], "test -e /dev/ttyUSB0; echo $?");
        let running = bound("/dev/ttyS0");
        assert!(
            running.code == Some(125) && running.stderr.contains("anew at each plugging in"),
            "{running}"
        );
        let away = bound("by-id:hatchway-no-such-device");
        assert_eq!(away.stdout, "1\n", "{away}");
        assert!(away.stderr.contains("as soon as it is"), "{away}");
        let unbound = machine.shell(&[], "true").ok();
        assert!(unbound.stderr.contains("`controller` is not bound"), "{unbound}");
        let explained = machine.run(&["--bind", "controller=usb:0403:6001:A1", "--explain"]).ok();
        assert!(explained.stdout.contains("show usb:0403:6001:A1 at `/dev/ttyUSB0` whenever"), "{explained}");
    });
}

#[test]
fn a_display_that_is_killed_leaves_the_tool_alone_and_a_note() {
    for_both(|machine| {
        machine.asks("display = \"nested\"", "");
        let outcome = machine.bench.script(
            "export DISPLAY=; $HATCHWAY shell -q acme -- -c 'echo up; until test -e /tmp/go || test $SECONDS -gt 60; do read -t 0.1 x <> /dev/ptmx; done; exit 4' > out 2> /dev/null < /dev/null & run=$!
            until grep -q up out 2> /dev/null; do kill -0 $run || exit 9; sleep 0.1; done
            # The sandbox of the X server is a child of the shim; other tests have X servers, too.
            for server in $(pgrep -x Xvfb); do
                above=$server
                while test -n \"$above\" && test $above -gt 1; do
                    parent=$(ps -o ppid= -p $above | tr -d ' ')
                    if test \"$parent\" = $run; then kill -9 $above; echo killed; break; fi
                    above=$parent
                done
            done
            $HATCHWAY exec acme -- bash -c ': > /tmp/go' < /dev/null; wait $run; echo $?; pgrep -P $run; cat \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/exit.json || cat \"$XDG_RUNTIME_DIR\"/hatchway/units/acme/*/exit.json",
        );
        assert!(outcome.stdout.starts_with("killed\n4\n{"), "{outcome}");
        assert!(
            outcome.stdout.contains("the display server ended before the tool, with code 137"),
            "{outcome}"
        );
    });
}

#[test]
fn limits_hold_and_it_is_said_how() {
    for_both(|machine| {
        machine.asks("limits = { memory = \"400M\", tasks = 12 }", "");
        // A terminal whose other end nobody opens keeps its readers waiting.
        let script =
            "exec 9<>/dev/ptmx; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do (read -t 1 x <&9) & done; wait";
        // Where there is no control group all processes of the user count, those of other tests, too: this user has no others.
        let user: &[&str] = if machine.bench.is_ordinary() { &[] } else { &["--user", "63999:63999"] };
        let shell = |script| {
            let words = [&["shell", "-q", "acme"], user, &["--", "-c", script]].concat();
            machine.bench.hatchway(&words)
        };
        let many = shell(script);
        assert!(many.stderr.contains("Resource temporarily unavailable"), "{many}");
        let much = shell("printf -v x %600000000d 1; echo ${#x}");
        assert_ne!(much.stdout, "600000000\n", "{much}");
        let explained = machine.run(&["--explain"]).ok().stdout;
        let by_group = explained.contains("enter the control group");
        let by_process = explained.contains("limit memory of each process (bytes) to 419430400")
            && explained.contains("no control group of version 2");
        assert!(by_group != by_process, "{explained}");
    });
}

#[test]
fn real_time_and_locked_memory_are_given_or_refused() {
    let machine = Machine::new(Bench::new());
    machine.asks("realtime = 10", "");
    let outcome = machine.run(&["--", "fifo", "10"]);
    let given = outcome.stdout == "real-time\n";
    let refused = outcome.code == Some(125) && outcome.stderr.contains("hint: ");
    assert!(given || refused, "{outcome}");
    machine.asks("", "");
    assert_eq!(machine.run(&["--", "fifo", "10"]).stdout, "Operation not permitted\n", "nobody asked for it");
    machine.asks("memlock = \"64K\"", "");
    assert_eq!(machine.shell(&[], "ulimit -l").ok().stdout, "64\n");

    let machine = Machine::new(Bench::ordinary());
    machine.asks("realtime = 100", "");
    assert!(machine.run(&["--", "fifo", "1"]).stderr.contains("no real-time priority: it is 1 to 99"));
    machine.asks("realtime = 99\nmemlock = \"64K\"", "");
    // No ordinary user of a fresh system has it.
    let outcome = machine.run(&["--", "fifo", "99"]);
    assert!(outcome.stdout == "real-time\n" || outcome.stderr.contains("limits.d"), "{outcome}");
    machine.asks("capabilities = [\"CAP_NET_RAW\"]", "");
    assert!(machine.run(&["--", "fifo", "1"]).stderr.contains("no capabilities to give"));
}

#[test]
fn only_harmless_capabilities_are_given() {
    if !hatchway_tests::bench::is_root() {
        let outcome = Machine::new(Bench::new());
        outcome.asks("capabilities = [\"CAP_SYS_NICE\"]", "");
        assert!(outcome.run(&[]).stderr.contains("no capabilities to give"));
        return;
    }
    let machine = Machine::new(Bench::new());
    for name in ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "nonsense"] {
        machine.asks(&format!("capabilities = [\"{name}\"]"), "");
        let outcome = machine.run(&[]);
        assert!(outcome.code == Some(125) && outcome.stderr.contains("a tool may have"), "{outcome}");
    }
    machine.asks("capabilities = [\"CAP_NET_BIND_SERVICE\"]", "");
    let script = "while read -r name value; do case $name in CapEff:|CapBnd:) echo $value;; esac; done </proc/self/status";
    assert_eq!(machine.shell(&[], script).ok().stdout, "0000000000000400\n0000000000000400\n");
}

#[test]
fn an_address_that_is_not_one_is_refused() {
    let machine = Machine::new(Bench::new());
    machine.asks("network = { allow = [\"controller:5025\"] }", "");
    let outcome = machine.run(&["--", "fifo", "1"]);
    assert!(outcome.code == Some(125) && outcome.stderr.contains("names are not resolved"), "{outcome}");
    // With the place, as every error of a recipe.
    assert!(outcome.stderr.contains("recipe.toml:") && outcome.stderr.contains('^'), "{outcome}");
    for wrong in ["UDP:10.0.0.5:1", "udp:host:1", "udp:10.0.0.5", "udp:224.0.0.1:1", "sctp:10.0.0.5:1"] {
        machine.asks(&format!("network = {{ allow = [\"{wrong}\"] }}"), "");
        let outcome = machine.bench.hatchway(&["recipe", "check", "acme"]);
        let said = outcome.stdout.clone() + &outcome.stderr;
        assert!(
            outcome.code == Some(1) && said.contains(&format!("`{wrong}` in `allow` is not")),
            "{outcome}"
        );
    }
}

#[test]
fn datagrams_reach_a_distant_address_and_come_back() {
    if !hatchway_tests::bench::is_root() {
        panic!("run this test as root: it makes a network of its own");
    }
    for bench in [Bench::new(), Bench::ordinary()] {
        let machine = Machine::new(bench);
        machine.asks("network = { allow = [\"udp:10.9.8.7:5025\", \"tcp:10.9.8.7:5025\"] }", "");
        // The shell reads byte by byte, and of a datagram the rest is lost: each byte comes in one of its own.
        // As an ordinary user the network is one of a user namespace in which it may set it up, and then is itself again.
        let (unshare, again) = match machine.bench.is_ordinary() {
            true => ("unshare -rn", "unshare -U --map-user=1000 --map-group=1000 "),
            false => ("unshare -n", ""),
        };
        let script = "ip link set lo up; ip addr add 10.9.8.7/32 dev lo; ip addr add 10.9.8.8/32 dev lo
            python3 -c \"
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(30); s.bind((\\\"10.9.8.7\\\", 5025)); print(flush=True)
for _ in range(2):
    d, a = s.recvfrom(99)
    for byte in d[:-1][::-1] + d[-1:]: s.sendto(bytes([byte]), a)
\" >ready & while [ ! -s ready ]; do sleep 0.05; done
            \"$HATCHWAY\" shell -q acme -- -c \"
                exec 3<>/dev/udp/10.9.8.7/5025 4<>/dev/udp/10.9.8.7/5025
                echo one >&4; read -t 30 -r x <&4; echo two >&3; read -t 30 -r y <&3; echo got \\$x \\$y
                (echo x >/dev/udp/10.9.8.8/5025) 2>&1
                (exec 3<>/dev/tcp/10.9.8.7/5025 && read -r z <&3) 2>&1 || echo no connection
                true\"; wait";
        let outcome = machine.bench.script(&format!(
            "{unshare} sh -c '{}'",
            script.replace("\"$HATCHWAY\"", &format!("{again}\"$HATCHWAY\""))
        ));
        assert!(outcome.stdout.contains("got eno owt"), "{outcome}");
        assert!(outcome.stdout.contains("10.9.8.8/5025: Network is unreachable"), "{outcome}");
        assert!(outcome.stdout.contains("no connection"), "UDP is not TCP\n{outcome}");
    }
}

#[test]
fn a_distant_address_is_reached_and_nothing_beside_it() {
    if !hatchway_tests::bench::is_root() {
        panic!("run this test as root: it makes a network of its own");
    }
    let machine = Machine::new(Bench::new());
    machine.asks("network = { allow = [\"10.9.8.7:5025\"] }", "");
    // A network with a machine in it, made for this test: nothing leaves it.
    let script =
        "unshare -n sh -c 'ip link set lo up; ip addr add 10.9.8.7/32 dev lo; ip addr add 10.9.8.8/32 dev lo
        python3 -c \"
import socket
s = socket.create_server((\\\"10.9.8.7\\\", 5025)); print(flush=True)
c, _ = s.accept(); c.sendall(c.recv(9)[::-1])
\" >ready & while [ ! -s ready ]; do sleep 0.05; done
        \"$HATCHWAY\" shell -q acme -- -c \"
            exec 3<>/dev/tcp/10.9.8.7/5025; echo abc >&3; read -r x <&3; read -r y <&3; echo got \\$x\\$y
            (exec 3<>/dev/tcp/10.9.8.8/5025) 2>&1
            (exec 3<>/dev/tcp/10.9.8.7/5026) 2>&1
            true\"; wait'";
    let outcome = machine.bench.script(script);
    assert!(outcome.stdout.contains("got cba"), "{outcome}");
    assert!(outcome.stdout.contains("10.9.8.8/5025: Network is unreachable"), "{outcome}");
    assert!(outcome.stdout.contains("10.9.8.7/5026: Connection refused"), "{outcome}");
}
