//! What a channel costs on each rung: a serial line and a TCP port to servers of this process, beside a connection to them without
//! any rung.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::{Rows, Stage};
use crate::bench::Bench;
use crate::sh;

/// Rounds over all rungs, in turns.
const ROUNDS: usize = 4;
/// Commands and answers in one round.
const PINGS: usize = 1000;
/// Bytes one way in one round.
const POURED: usize = 8 << 20;
const CLIENT: &str = include_str!("client.c");
const NAME: &str = "bench-client";
const CONTROL: &str = "Package: bench-client\nVersion: 1.0\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\n\
                       Description: measures a channel\n";
/// A line and a port to the server that answers, and to the one that counts.
const CHANNELS: &str = "\n[[channel]]\nname = \"line-echo\"\nkind = \"serial\"\nat = \"/dev/ttyUSB0\"\n\
                        \n[[channel]]\nname = \"line-count\"\nkind = \"serial\"\nat = \"/dev/ttyUSB1\"\n\
                        \n[[channel]]\nname = \"port-echo\"\nkind = \"tcp\"\nat = \"10.9.8.7:5025\"\n\
                        \n[[channel]]\nname = \"port-count\"\nkind = \"tcp\"\nat = \"10.9.8.7:5026\"\n";

/// Kinds of channels, and the ways where the tool finds them: to the server that answers, and to the one that counts.
const KINDS: [(&str, &str, &str); 2] = [
    ("serial line", "line /dev/ttyUSB0", "line /dev/ttyUSB1"),
    ("TCP port", "tcp 10.9.8.7 5025", "tcp 10.9.8.7 5026"),
];
const RUNGS: [&str; 3] = ["fhs", "container", "vm"];

/// One way to a server, with what each round gave.
struct Way {
    name: String,
    median_us: Vec<f64>,
    last_us: Vec<f64>,
    rate: Vec<f64>,
}

impl Way {
    fn new(name: String) -> Self {
        Self { name, median_us: Vec::new(), last_us: Vec::new(), rate: Vec::new() }
    }

    /// From what the tool has said of one round: two times, and one.
    #[expect(clippy::cast_precision_loss, reason = "some MiB are no large number")]
    fn add(&mut self, numbers: &[f64]) -> Result<()> {
        let &[median, last, poured] = numbers else { bail!("the client said {numbers:?}") };
        self.median_us.push(median / 1e3);
        self.last_us.push(last / 1e3);
        self.rate.push(POURED as f64 / (1 << 20) as f64 / (poured / 1e9));
        Ok(())
    }

    fn describe(&self, beside: Option<(&Self, &str)>) -> Result<String> {
        let (p50, p99, rate) = (median(&self.median_us)?, median(&self.last_us)?, median(&self.rate)?);
        let mut text = format!("p50 {p50:.0} µs, p99 {p99:.0} µs, {rate:.1} MiB/s");
        if let Some((other, name)) = beside {
            let pairs = self.median_us.iter().zip(&other.median_us);
            let added: Vec<f64> = pairs.map(|(own, other)| own - other).collect();
            text += &format!("; {:+.0} µs beside {name}", median(&added)?);
        }
        Ok(text)
    }
}

pub(super) fn measure(stage: &Stage) -> Result<Rows> {
    let client = prepare(&stage.bench)?;
    let servers = (serve(echo)?, serve(count)?);
    let mut direct = Way::new("TCP port, without a rung".to_owned());
    let mut ways: Vec<[Way; 2]> =
        RUNGS.map(|rung| KINDS.map(|(kind, ..)| Way::new(format!("{kind}, {rung}")))).into();
    // One round more than counts: the first one makes images and disks.
    for round in 0..=ROUNDS {
        let said = output(&mut without(&client, servers))?;
        if round > 0 {
            direct.add(&said)?;
        }
        for step in 0..RUNGS.len() {
            let index = (round + step) % RUNGS.len();
            let said = output(&mut on_rung(stage, RUNGS[index], servers))?;
            if round > 0 {
                for (way, numbers) in ways[index].iter_mut().zip(said.chunks(3)) {
                    way.add(numbers)?;
                }
            }
        }
    }
    let mut rows = vec![(direct.name.clone(), direct.describe(None)?)];
    for kind in 0..KINDS.len() {
        let fhs = &ways[0][kind];
        for (index, own) in ways.iter().enumerate() {
            let beside = if index == 0 { (&direct, "without a rung") } else { (fhs, "fhs") };
            rows.push((own[kind].name.clone(), own[kind].describe(Some(beside))?));
        }
    }
    let how = format!(
        "{ROUNDS} in turns, each {PINGS} commands of 16 bytes with their answers, then {} MiB one way; medians of the rounds",
        POURED >> 20
    );
    rows.push(("rounds of channels".to_owned(), how));
    Ok(rows)
}

/// A package with the client, which needs nothing; gives the client for this system too.
fn prepare(bench: &Bench) -> Result<PathBuf> {
    let work = bench.scratch.path.join("client");
    let root = work.join("root");
    for folder in ["DEBIAN", "usr/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    sh::run(Command::new("chmod").args(["-R", "0755", "--"]).arg(&root))?;
    let (source, client) = (work.join("client.c"), root.join("usr/bin/client"));
    fs::write(&source, CLIENT)?;
    sh::run(Command::new("gcc").args(["-O2", "-static", "-s", "-o"]).arg(&client).arg(&source))?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("DEBIAN/control"), CONTROL)?;
    let deb = bench.scratch.path.join("client.deb");
    sh::capture(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&root).arg(&deb))?;
    bench.run(&["new", "client.deb", "--name", NAME])?;
    let recipe = bench.scratch.path.join("recipes").join(NAME).join("recipe.toml");
    let text = fs::read_to_string(&recipe)?;
    fs::write(&recipe, text + CHANNELS)?;
    bench.run(&["lock", NAME])?;
    bench.run(&["build", NAME])?;
    Ok(client)
}

/// All ways on a rung, one after the other in one start of the tool.
fn on_rung(stage: &Stage, rung: &str, (echo, count): (SocketAddr, SocketAddr)) -> Command {
    let mut command = stage.command(&["run", "-q", NAME, "--rung", rung, "--program", "/usr/bin/client"]);
    for (name, to) in [("line-echo", echo), ("line-count", count), ("port-echo", echo), ("port-count", count)]
    {
        command.args(["--bind", &format!("{name}=tcp:{to}")]);
    }
    command.arg("--");
    for (_, ping, pour) in KINDS {
        command.args(["ping", &PINGS.to_string()]).args(ping.split(' '));
        command.args(["pour", &POURED.to_string()]).args(pour.split(' '));
    }
    command
}

fn without(client: &Path, (echo, count): (SocketAddr, SocketAddr)) -> Command {
    let mut command = Command::new(client);
    for (verb, size, to) in [("ping", PINGS, echo), ("pour", POURED, count)] {
        command.args([verb, &size.to_string(), "tcp", "127.0.0.1", &to.port().to_string()]);
    }
    command
}

/// What the client says: numbers.
fn output(command: &mut Command) -> Result<Vec<f64>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| sh::shown(command))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "`{}` {}: {said}", sh::shown(command), sh::ended(output.status));
    let said = String::from_utf8(output.stdout)?;
    said.split_whitespace().map(|word| Ok(word.parse()?)).collect()
}

/// A server on this machine's loopback, which ends with this process.
fn serve(each: fn(TcpStream)) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || each(stream));
        }
    });
    Ok(at)
}

/// Says again what it hears.
fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 16 << 10];
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Says one byte when all have come.
fn count(mut stream: TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    let mut left = POURED;
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        left = left.saturating_sub(count);
        if left == 0 {
            // One that is gone has its time already, or fails for itself.
            stream.write_all(b".").ok();
            left = POURED;
        }
    }
}

fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_becomes_figures() {
        let (mut one, mut other) = (Way::new("one".to_owned()), Way::new("other".to_owned()));
        one.add(&[50e3, 90e3, 1e9]).unwrap();
        other.add(&[20e3, 90e3, 1e9]).unwrap();
        assert_eq!(other.describe(None).unwrap(), "p50 20 µs, p99 90 µs, 8.0 MiB/s");
        let text = one.describe(Some((&other, "other"))).unwrap();
        assert!(text.ends_with("; +30 µs beside other"), "{text}");
        assert!(one.add(&[50e3]).is_err());
    }

    #[test]
    fn the_client_measures_the_servers() {
        let scratch = sh::Scratch::new("xtask-test").unwrap();
        let (source, client) = (scratch.path.join("client.c"), scratch.path.join("client"));
        fs::write(&source, CLIENT).unwrap();
        let mut compile = Command::new("gcc");
        compile.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&client).arg(&source);
        sh::run(&mut compile).unwrap();
        let said = output(&mut without(&client, (serve(echo).unwrap(), serve(count).unwrap()))).unwrap();
        assert_eq!(said.len(), 3);
    }
}
