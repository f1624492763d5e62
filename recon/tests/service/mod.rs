//! `hatchway-recon serve` as a process of its own, at sockets that are free.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use hatchway_recon::online::Door;
use serde_json::Value;

use crate::desk::Desk;

/// A service that is ready.
pub(crate) struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: BufReader<std::process::ChildStderr>,
    doors: Vec<(String, Door)>,
}

/// A desk with a scan of 10 background frames and 20 others, and its calibration.
pub(crate) fn scanned() -> Desk {
    let desk = Desk::new();
    desk.change("lissajous-2d.toml", "background = [10, 10]", "background = [10, 0]");
    desk.ok(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf", "--calibration", "calibration.mdf"]);
    for port in ["5030", "5031", "18944", "5032"] {
        desk.change("serve-2d.toml", &format!("127.0.0.1:{port}"), "127.0.0.1:0");
    }
    desk
}

impl Service {
    pub(crate) fn new(desk: &Desk) -> Self {
        Self::with(desk, |_| ())
    }

    pub(crate) fn with(desk: &Desk, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hatchway-recon"));
        command.current_dir(desk.folder.path()).args(["serve", "serve-2d.toml", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, stdout, said, doors: Vec::new() };
        service.read_doors();
        service
    }

    fn read_doors(&mut self) {
        loop {
            let line = self.says();
            assert!(!line.is_empty(), "the service ended before it was ready");
            if line == "ready for frames\n" {
                return;
            }
            if let Some((name, door)) = line.trim_end().split_once(" at ") {
                self.doors.push((name.to_owned(), door.parse().unwrap()));
            }
        }
    }

    pub(crate) fn door(&self, name: &str) -> &Door {
        &self.doors.iter().find(|(found, _)| found == name).unwrap().1
    }

    /// The next thing it says.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }

    /// A metric's value now.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let Door::Tcp(address) = self.door("metrics") else { panic!("not TCP") };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
        let line = lines.iter().find(|line| line.starts_with(&format!("hatchway_recon_{name} "))).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Ends it as a supervisor does; gives its counts.
    pub(crate) fn end(mut self) -> Value {
        let pid = i32::try_from(self.child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        let counts = serde_json::from_reader(&mut self.stdout).unwrap();
        assert!(self.child.wait().unwrap().success());
        counts
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed leaves nothing running; one that did not has ended it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A plan whose method is so slow that frames pile up.
pub(crate) fn slow(desk: &Desk, policy: &str) {
    desk.change("serve-2d.toml", "iterations = 20", "iterations = 400");
    desk.change("serve-2d.toml", "policy = \"newest\"", &format!("policy = \"{policy}\""));
    assert!(fs::read_to_string(desk.path("serve-2d.toml")).unwrap().contains(policy));
}
