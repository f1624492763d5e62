//! Rows of the suite for all rungs about what goes in and out by channels: serial lines and TCP ports.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::rungs::Rungs;

/// What a tool does with a channel: `tcp ADDRESS PORT` sends what it reads and says what comes until the end; `line FILE COUNT` sends
/// what it reads and says so many bytes that come.
pub(super) const CLIENT: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[65536];

static int copy(int from, int to, long most) {
    int all = most < 0;
    if (all) most = 1L << 60;
    while (most > 0) {
        ssize_t count = read(from, buffer, most < (long) sizeof buffer ? (size_t) most : sizeof buffer);
        if (count < 0) { perror("read"); return 2; }
        if (count == 0) return all ? 0 : 3;
        most -= count;
        for (ssize_t done = 0, now; done < count; done += now) {
            now = write(to, buffer + done, (size_t) (count - done));
            if (now < 0) { perror("write"); return 4; }
        }
    }
    return 0;
}

int main(int count, char **words) {
    int line = count == 4 && !strcmp(words[1], "line");
    int fd;
    if (line) {
        fd = open(words[2], O_RDWR | O_NOCTTY);
        if (fd < 0) { perror(words[2]); return 5; }
    } else {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short) atoi(words[3])) };
        inet_pton(AF_INET, words[2], &to.sin_addr);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *) &to, sizeof to)) { perror("connect"); return 6; }
    }
    pid_t child = fork();
    if (child == 0) {
        int code = copy(0, fd, -1);
        if (!line) shutdown(fd, SHUT_WR);
        _exit(code);
    }
    int code = copy(fd, 1, line ? atol(words[3]) : -1), sent = 0;
    waitpid(child, &sent, 0);
    return code ? code : WEXITSTATUS(sent);
}
"#;

/// A server on this machine's loopback, which ends with the test's process.
pub(super) fn server(each: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    serve(TcpListener::bind("127.0.0.1:0").unwrap(), each)
}

fn serve(listener: TcpListener, each: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
    at
}

/// Says again what it hears.
fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Hears all of it, and then answers with all of it.
pub(super) fn answer(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    if stream.read_to_end(&mut bytes).is_ok() {
        stream.write_all(&bytes).ok();
        stream.shutdown(Shutdown::Write).ok();
    }
}

/// A recipe with this channel, and everything to run its tool's client.
fn rungs(run: &str, channel: &str) -> Rungs {
    let rungs = Rungs::new(run);
    add(&rungs, channel);
    rungs
}

/// Gives the recipe of these rungs the channel.
pub(super) fn add(rungs: &Rungs, channel: &str) {
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, format!("{text}\n[[channel]]\nname = \"motion\"\n{channel}\n")).unwrap();
}

/// `$CLIENT` is the tool's client with the channel bound.
fn prefix(rungs: &Rungs, rung: &str, bind: &str) -> String {
    format!(
        "{}\nCLIENT=\"$HATCHWAY run -q acme --rung {rung} {bind} --program /usr/bin/client --\"\n",
        rungs.prefix(rung)
    )
}

#[test]
fn a_serial_line_is_carried_both_ways() {
    serial_line(&rungs("", "kind = \"serial\"\nat = \"/dev/ttyUSB0\""));
}

pub(super) fn serial_line(rungs: &Rungs) {
    let bind = format!("--bind motion=tcp:{}", server(echo));
    for rung in rungs.names() {
        let prefix = prefix(rungs, rung, &bind);
        // Each byte there is, as it is; and more than any buffer has room for.
        let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        fs::write(rungs.bench.path("work/all"), &all).unwrap();
        for count in [256, 300_000] {
            let line = format!(
                "{prefix}head -c {count} all > sent; $CLIENT line /dev/ttyUSB0 {count} < sent | cmp - sent && echo same"
            );
            let outcome = rungs.bench.script(&line).ok();
            assert_eq!(outcome.stdout, "same\n", "{rung}\n{outcome}");
        }
        // A terminal that is the tool's, and nobody else's.
        let line = format!(
            "{prefix}$HATCHWAY run -q acme --rung {rung} {bind} --program /usr/bin/dash -- -c 'stat -L -c \"%a %F\" /dev/ttyUSB0; test -O /dev/ttyUSB0 && echo own; stty -F /dev/ttyUSB0 | grep -o -e -echo -e -icanon'"
        );
        let outcome = rungs.bench.script(&line).ok();
        assert_eq!(outcome.stdout, "600 character special file\nown\n-icanon\n-echo\n", "{rung}\n{outcome}");
        // Without one there is none.
        let outcome = rungs.shell(rung, "$RUN -c 'ls /dev/ttyUSB0'");
        assert!(
            outcome.code != Some(0) && outcome.stderr.contains("the channel `motion` is not bound"),
            "{rung}\n{outcome}"
        );
    }
    rungs.nothing_is_left();
}

#[test]
fn a_line_whose_device_is_away_waits_and_goes_on() {
    let rungs = rungs("", "kind = \"serial\"");
    for rung in rungs.names() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let bind = format!("--bind motion=tcp:{at}");
        let script = format!("{}exec $CLIENT line /dev/motion 10", prefix(&rungs, rung, &bind));
        let mut command = rungs.bench.shell(&script);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"first").unwrap();
        if rung == "fhs" {
            // Who connects is a process without a voice.
            thread::sleep(Duration::from_secs(2));
        } else {
            let mut said = String::new();
            let mut errors = BufReader::new(child.stderr.take().unwrap());
            errors.read_line(&mut said).unwrap();
            assert!(
                said.contains(&format!("tcp:{at} does not answer: Connection refused")),
                "{rung}: {said}"
            );
            thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        }
        // It is switched on, answers once, and is switched off; then it is there again.
        serve(TcpListener::bind(at).unwrap(), |mut stream| {
            let mut bytes = [0; 5];
            if stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).ok();
            }
        });
        let mut output = child.stdout.take().unwrap();
        let mut got = [0; 5];
        output.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"first", "{rung}");
        // What is written before its end is noticed goes to the device that is switched off.
        thread::sleep(Duration::from_secs(3));
        input.write_all(b"again").unwrap();
        drop(input);
        output.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"again", "{rung}");
        assert!(child.wait().unwrap().success(), "{rung}");
    }
    rungs.nothing_is_left();
}

#[test]
fn a_tcp_port_is_carried_both_ways() {
    tcp_port(&rungs("", "kind = \"tcp\"\nat = \"10.9.8.7:5025\""));
}

pub(super) fn tcp_port(rungs: &Rungs) {
    let bind = format!("--bind motion=tcp:{}", server(answer));
    for rung in rungs.names() {
        let prefix = prefix(rungs, rung, &bind);
        let line = format!(
            "{prefix}head -c 3000000 /dev/urandom > big; $CLIENT tcp 10.9.8.7 5025 < big | cmp - big && echo same"
        );
        assert_eq!(rungs.bench.script(&line).ok().stdout, "same\n", "{rung}");
        // Many at a time, each with its own answer.
        let inside = "for i in $(seq 30); do (echo $i | /usr/bin/client tcp 10.9.8.7 5025) & done | sort -n | tr \"\\n\" \" \"; wait";
        let line = format!(
            "{prefix}$HATCHWAY run -q acme --rung {rung} {bind} --program /usr/bin/dash -- -c '{inside}'"
        );
        let all: String = (1..=30).map(|number| format!("{number} ")).collect();
        assert_eq!(rungs.bench.script(&line).ok().stdout, all, "{rung}");
        // Beside it there is nothing.
        let line = format!("{prefix}echo | $CLIENT tcp 10.9.8.7 5026");
        let outcome = rungs.bench.script(&line);
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(6), "connect: Connection refused\n"),
            "{rung}"
        );
    }
    // A server that is not there is an error, and no end.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("--bind motion=tcp:{}", free.local_addr().unwrap());
    drop(free);
    for rung in rungs.names() {
        let outcome =
            rungs.bench.script(&format!("{}echo | $CLIENT tcp 10.9.8.7 5025", prefix(rungs, rung, &bind)));
        assert!(outcome.code != Some(0) && outcome.stderr.contains("Connection reset"), "{rung}\n{outcome}");
    }
    rungs.nothing_is_left();
}

#[test]
fn servers_that_the_recipe_allows_are_reached() {
    let at = server(answer);
    let rungs = Rungs::new(&format!("network = {{ allow = [\"{at}\"] }}"));
    for rung in rungs.names() {
        let (ip, port) = (at.ip(), at.port());
        let line = format!("{}echo there | $CLIENT tcp {ip} {port}", prefix(&rungs, rung, ""));
        assert_eq!(rungs.bench.script(&line).ok().stdout, "there\n", "{rung}");
        let line = format!("{}echo there | $CLIENT tcp {ip} 1", prefix(&rungs, rung, ""));
        assert_eq!(rungs.bench.script(&line).code, Some(6), "{rung}");
    }
    rungs.nothing_is_left();
}

#[test]
fn on_the_hosts_network_a_tool_reaches_the_hosts_servers() {
    let rungs = Rungs::new("network = \"host\"");
    let at = server(answer);
    for rung in rungs.names() {
        let prefix = prefix(&rungs, rung, "");
        let reached = |ip: &str| {
            let line = format!(
                "{prefix}head -c 3000000 /dev/urandom > big; $CLIENT tcp {ip} {} < big | cmp - big && echo same",
                at.port()
            );
            rungs.bench.script(&line)
        };
        if rung != "vm" {
            assert_eq!(reached("127.0.0.1").ok().stdout, "same\n", "{rung}");
            continue;
        }
        // A guest's loopback is its own. The host's is where QEMU's manual says ("Network emulation", the gateway).
        let own = reached("127.0.0.1");
        assert!(own.stdout.is_empty() && own.stderr.contains("connect: Connection refused"), "{own}");
        assert_eq!(reached("10.0.2.2").ok().stdout, "same\n", "{rung}");
    }
    rungs.nothing_is_left();
}

#[test]
fn a_channel_that_cannot_be_is_refused() {
    let rungs = rungs("", "kind = \"tcp\"\nat = \"127.0.0.1:5025\"");
    for (bind, why) in [
        ("motion=by-id:usb-Galil", "it has the form tcp:ADDRESS:PORT"),
        ("motion=tcp:galil:5025", "with an address in numbers"),
        ("pump=tcp:127.0.0.1:1", "there is no slot `pump`; it has motion"),
    ] {
        let outcome = rungs.bench.hatchway(&["run", "-q", "acme", "--bind", bind]);
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stderr.contains(why), "{outcome}");
    }
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    for (from, to, why) in [
        ("at = \"127.0.0.1:5025\"", "", "a TCP port has `at` with an address and a port"),
        ("at = \"127.0.0.1:5025\"", "at = \"/dev/x\"", "a TCP port has `at` with an address and a port"),
        ("kind = \"tcp\"", "kind = \"serial\"\nport = \"COM1\"", "a serial line is a path below `/dev`"),
        // What would only look like a gate is refused.
        ("kind = \"tcp\"", "kind = \"tcp\"\ngated = true", "gated in [[channel]]"),
        ("[run]", "[run]\nnetwork = \"host\"", "the tool reaches the server itself"),
        ("[run]", "[run]\nnetwork = \"none\"", "a port needs `network = \"loopback\"`"),
    ] {
        fs::write(&recipe, text.replace(from, to)).unwrap();
        let outcome = rungs.bench.hatchway(&["run", "-q", "acme", "--bind", "motion=tcp:127.0.0.1:1"]);
        assert_eq!(outcome.code, Some(125), "{to}\n{outcome}");
        assert!(outcome.stderr.contains(why), "{to}\n{outcome}");
    }
}
