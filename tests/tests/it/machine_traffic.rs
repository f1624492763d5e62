//! What passes the network card of a guest from a disk image. The guest has a system of its own: Debian's kernel and busybox.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout};

use hatchway_tests::bench::Bench;
use hatchway_tests::guest;
use hatchway_tests::package::sha256;

use super::machines::{LONG, reason, signal};

/// More than all buffers on the way hold, each byte there is, and no period that one of them could have.
const BYTES: usize = 1_000_003;

/// A guest that is up.
struct Guest {
    bench: Bench,
    run: Child,
    line: BufReader<ChildStdout>,
    image: String,
    echo: SocketAddr,
    shell: SocketAddr,
}

/// Two that nobody has, and not the same.
fn free() -> [SocketAddr; 2] {
    let held = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

impl Guest {
    fn start(network: &str) -> Self {
        let bench = Bench::new();
        let folder = bench.path("work/recipes/acme");
        fs::create_dir_all(&folder).unwrap();
        let image = sha256(&fs::read(guest::disk(&folder, "disk")).unwrap());
        let [echo, shell] = free();
        let ports = format!("[\"{echo}:{}\", \"{shell}:{}\"]", guest::ECHO, guest::SHELL);
        let text = format!(
            "schema = 1\n[package]\nname = \"acme\"\n[run]\nnetwork = \"{network}\"\n\
             vm = {{ image = \"disk.qcow2\", memory = \"256M\", serial = [\"stdio\"], ports = {ports} }}\n"
        );
        fs::write(folder.join("recipe.toml"), text).unwrap();
        let mut run = bench.start(&["run", "acme"]);
        let mut line = BufReader::new(run.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("ready\r\n") {
            if line.read_line(&mut said).unwrap() == 0 {
                panic!("{said}\n{}", bench.shown(&run.wait_with_output().unwrap()));
            }
        }
        Self { bench, run, line, image, echo, shell }
    }

    /// What its shell says to a line.
    fn asked(&self, line: &str) -> String {
        let answer = exchanged(self.shell, format!("{line}\n").into_bytes());
        String::from_utf8(answer).unwrap()
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.run.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Presses its power button, and sees that nothing is left of it.
    fn end(mut self) {
        signal("INT", self.run.id());
        let mut said = String::new();
        self.line.read_to_string(&mut said).unwrap();
        assert!(said.contains("power button\r\n"), "{said}");
        assert_eq!(self.run.wait().unwrap().code(), Some(0), "{}", self.errors());
        assert_eq!(reason(&self.bench)["requested"]["outcome"]["exit"]["code"], 0);
        let image = fs::read(self.bench.path("work/recipes/acme/disk.qcow2")).unwrap();
        assert_eq!(sha256(&image), self.image, "the image was written to");
        let left = fs::read_dir(self.bench.path("data/state/acme/guest")).unwrap().count();
        assert_eq!(left, 0, "a disk was left");
        assert!(TcpStream::connect(self.echo).is_err(), "somebody answers for a guest that is gone");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Where a test ends before its guest. QEMU ends with it.
        drop(self.run.kill());
        drop(self.run.wait());
    }
}

/// Sends all of it while it reads what comes, until the other end has no more to say.
fn exchanged(at: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        sending.write_all(&bytes).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    sender.join().unwrap();
    answer
}

fn bytes(mut state: u32) -> Vec<u8> {
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(BYTES).collect()
}

#[test]
fn bytes_pass_a_forwarded_port_both_ways_and_the_guest_reaches_nothing_else() {
    let guest = Guest::start("loopback");
    // One after the other, and several at a time, each with its own answer.
    assert!(exchanged(guest.echo, bytes(1)) == bytes(1), "what came back is not what was sent");
    let sent = [2, 3, 4].map(bytes);
    let asked = sent.clone().map(|bytes| {
        let at = guest.echo;
        std::thread::spawn(move || exchanged(at, bytes))
    });
    for (asked, sent) in asked.into_iter().zip(sent) {
        assert!(asked.join().unwrap() == sent, "what came back is not what was sent");
    }
    // This machine's loopback is 10.0.2.2 where a guest reaches it.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let said = guest.asked(&format!("nc -w 5 10.0.2.2 {port} < /dev/null && echo reached || echo nothing"));
    assert_eq!(said, "nothing\n");
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "the guest reached this machine");
    guest.end();
}

#[test]
fn a_guest_with_the_hosts_network_reaches_this_machine() {
    let guest = Guest::start("host");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut heard = String::new();
        BufReader::new(&stream).read_line(&mut heard).unwrap();
        stream.write_all(format!("heard {heard}").as_bytes()).unwrap();
    });
    assert_eq!(guest.asked(&format!("echo word | nc -w 20 10.0.2.2 {port}")), "heard word\n");
    answering.join().unwrap();
    guest.end();
}
