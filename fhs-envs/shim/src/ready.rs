//! Whether the tool is ready: looked for from inside, where its network and its files are. What the tool says itself (`sd_notify`, a
//! descriptor) is heard from its start on; what has to be tried is tried from when somebody wants to know.
use crate::apply::{Failure, reason};
use crate::health::nothing;
use crate::reaper::outcome;
use crate::spawn::{Spawned, Streams, spawn};
use hatchway_wire::attend::Report;
use hatchway_wire::ready::{Readiness, Ready, line_of};
use hatchway_wire::{Bootstrap, Outcome, Process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, recv, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitStatus;
use rustix::time::{ClockId, clock_gettime};
use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// From a look that found nothing to the next, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take: where the tool takes none, its queue may be full.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long a tool that has closed its descriptor may take to be gone before that counts.
const CLOSED: Duration = Duration::from_millis(500);
/// How long a command may take, as a check of health may.
const COMMAND_MAX: Duration = Duration::from_secs(10);
/// Bytes of a message at most; of a longer one nothing is taken, as systemd does.
const MESSAGE_MAX: usize = 4096;
/// Messages that are taken before this process rests. A tool that sends more waits, or is told that the queue is full.
const MESSAGES_MAX: usize = 32;
const REST: Duration = Duration::from_millis(100);

/// How it is looked.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    wanted: Option<&'a Ready>,
    process: &'a Process,
    /// Where the tool says that it is.
    notify: String,
    /// Where the tool says it: its notify socket, or the other end of its descriptor.
    heard: Option<OwnedFd>,
    state: Readiness,
    status: Option<String>,
    /// The tool's start, by the clock of files' times.
    since: (i64, i64),
    /// Nothing is heard until then.
    rests: Option<Instant>,
    /// Somebody has wanted to know.
    begun: bool,
    next: Instant,
    again: Duration,
    /// Connections under way, and until when.
    trying: (Vec<OwnedFd>, Instant),
    /// The program that runs, when it has run for too long, and whether it has.
    running: Option<(Pid, Instant, bool)>,
}

impl<'a> Look<'a> {
    /// Just before the tool starts, as the tool's user. What the tool is given comes back: a descriptor and its number.
    pub(crate) fn new(bootstrap: &'a Bootstrap) -> Result<(Self, Option<(OwnedFd, i32)>), Failure> {
        let process = &bootstrap.process;
        let wanted = bootstrap.ready.as_ref();
        let notify = notify_path(bootstrap);
        let (mut heard, mut given) = (None, None);
        match wanted {
            Some(Ready::Notify) => {
                let made = listen(&notify);
                heard = Some(made.map_err(|error| Failure::new("make the tool's notify socket", error))?);
            }
            Some(Ready::Fd { number }) => {
                let failed = |errno| Failure::new("make a pipe for the tool", errno);
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
                rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).map_err(failed)?;
                heard = Some(read);
                given = Some((write, *number));
            }
            _ => {}
        }
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let look = Self {
            wanted,
            process,
            notify,
            heard,
            state: if wanted.is_some() { Readiness::Starting { last: None } } else { Readiness::Ready },
            status: None,
            since: (now.tv_sec, now.tv_nsec),
            rests: None,
            begun: false,
            next: Instant::now(),
            again: AGAIN_FIRST,
            trying: (Vec::new(), Instant::now()),
            running: None,
        };
        Ok((look, given))
    }

    /// The tool alone is told where to say it: who comes to it, and what checks it, must not speak for it.
    pub(crate) fn process_of_tool(&self) -> Cow<'a, Process> {
        if self.wanted != Some(&Ready::Notify) {
            return Cow::Borrowed(self.process);
        }
        let mut process = self.process.clone();
        process.env.retain(|(name, _)| name != "NOTIFY_SOCKET");
        process.env.push(("NOTIFY_SOCKET".to_owned(), self.notify.clone()));
        Cow::Owned(process)
    }

    /// What there is to tell.
    pub(crate) fn seen(&self) -> (Readiness, Option<String>) {
        (self.state.clone(), self.status.clone())
    }

    fn is_over(&self) -> bool {
        !matches!(self.state, Readiness::Starting { .. })
    }

    /// Whether something is to be tried.
    fn tries(&self) -> bool {
        self.begun
            && !self.is_over()
            && self.heard.is_none()
            && !matches!(self.wanted, Some(Ready::Log { .. }))
    }

    /// Descriptors to wait for.
    pub(crate) fn watches(&self) -> impl Iterator<Item = PollFd<'_>> {
        let trying = self.trying.0.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT));
        // Of a descriptor nothing more is read once it has said so; it stays open, or a second word would kill the tool.
        let hears =
            self.rests.is_none() && !(self.is_over() && matches!(self.wanted, Some(Ready::Fd { .. })));
        let heard = self.heard.iter().filter(move |_| hears);
        heard.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).chain(trying)
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let tries = match self.running {
            Some((_, late, false)) => Some(late),
            Some(_) => None,
            None if !self.trying.0.is_empty() => Some(self.trying.1),
            None => self.tries().then_some(self.next),
        };
        [self.rests, tries].into_iter().flatten().min()
    }

    /// Does what can be done without waiting.
    pub(crate) fn turn(&mut self, is_watched: bool) {
        self.begun |= is_watched;
        let now = Instant::now();
        self.rests = self.rests.filter(|end| *end > now);
        if self.rests.is_none() {
            self.hear(now);
        }
        if let Some((pid, late, false)) = self.running
            && now >= late
        {
            self.running = Some((pid, late, true));
            // The only failure is that nobody is there any more.
            killpg(pid, Signal::SIGKILL).ok();
        }
        if self.running.is_none() && self.tries() {
            self.try_once(now);
        }
    }

    fn hear(&mut self, now: Instant) {
        match (self.wanted, &self.heard) {
            (Some(Ready::Notify), Some(socket)) => {
                let mut said = Vec::new();
                let mut text = [0; MESSAGE_MAX];
                let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
                // Descriptors that come with a message are closed by the kernel: who waits for that (`BARRIER=1`) goes on.
                while said.len() < MESSAGES_MAX
                    && let Ok((_, length)) = recv(socket, &mut text[..], flags)
                {
                    said.push(text.get(..length).map(Message::read).unwrap_or_default());
                }
                self.rests = (!said.is_empty()).then(|| now + REST);
                for message in said {
                    self.status = message.status.or(self.status.take());
                    if message.ready {
                        self.state = Readiness::Ready;
                    }
                }
            }
            (Some(Ready::Fd { .. }), Some(pipe)) if !self.is_over() => {
                let mut bytes = [0; MESSAGE_MAX];
                match rustix::io::read(pipe, &mut bytes[..]) {
                    // It may be about to end, which says more.
                    Ok(0) => (self.heard, self.next) = (None, now + CLOSED),
                    Ok(count) if bytes[..count].contains(&b'\n') => self.state = Readiness::Ready,
                    Ok(_) => self.rests = Some(now + REST),
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }

    fn try_once(&mut self, now: Instant) {
        if !self.trying.0.is_empty() {
            return self.go_on_connecting(now);
        }
        if now < self.next {
            return;
        }
        match self.wanted {
            Some(Ready::Tcp { port }) => self.begin_connecting(*port, now),
            Some(Ready::Unix { path }) => self.found(takes_connections(path.as_str()), now),
            Some(Ready::File { path }) => self.found(written_since(path.as_str(), self.since), now),
            Some(Ready::Command { program, args }) => self.start(program, args, now),
            Some(Ready::Fd { .. }) => {
                self.state = Readiness::Failed { why: "it has closed it without a line".to_owned() };
            }
            Some(Ready::Notify | Ready::Log { .. }) | None => {}
        }
    }

    fn found(&mut self, found: Result<(), String>, now: Instant) {
        match found {
            Ok(()) => self.state = Readiness::Ready,
            Err(why) => {
                self.state = Readiness::Starting { last: Some(line_of(&why)) };
                self.next = now + self.again;
                self.again = (self.again * 3 / 2).min(AGAIN_MAX);
            }
        }
    }

    /// The tool may listen at either of the two addresses that its loopback interface has.
    fn begin_connecting(&mut self, port: u16, now: Instant) {
        self.trying.1 = now + CONNECT_MAX;
        let mut refused = None;
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            match begin_connection(SocketAddr::new(address, port)) {
                Ok(None) => {
                    self.trying.0.clear();
                    return self.found(Ok(()), now);
                }
                Ok(Some(socket)) => self.trying.0.push(socket),
                // The first is the one that everybody has.
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        if self.trying.0.is_empty() {
            let why = refused.map_or_else(String::new, |error| reason(&error));
            self.found(Err(why), now);
        }
    }

    fn go_on_connecting(&mut self, now: Instant) {
        let mut why = None;
        let mut connected = false;
        self.trying.0.retain(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                return true;
            }
            match rustix::net::sockopt::socket_error(socket) {
                Ok(Ok(())) => connected = true,
                Ok(Err(errno)) | Err(errno) => why = Some(reason(&errno.into())),
            }
            false
        });
        if !connected && now >= self.trying.1 {
            self.trying.0.clear();
            why = Some("nobody takes it within a second".to_owned());
        }
        if connected {
            self.trying.0.clear();
            self.found(Ok(()), now);
        } else if self.trying.0.is_empty() {
            self.found(Err(why.unwrap_or_default()), now);
        }
    }

    fn start(&mut self, program: &str, args: &[String], now: Instant) {
        let process = Process { program: program.to_owned(), args: args.to_owned(), ..self.process.clone() };
        let spawned = nothing().map(|streams| spawn(&process, &Streams::Given(streams)));
        let why = match spawned {
            // It could not become the program, and has said why.
            Ok(Ok(Spawned::Child)) => hatchway_sys::process::end_at_once(1),
            Ok(Ok(Spawned::Running(pid))) => {
                self.running = Some((pid, now + COMMAND_MAX, false));
                return;
            }
            Ok(Ok(Spawned::Failed(Report::ExecFailed { message, .. }))) => message,
            Ok(Ok(Spawned::Failed(_))) => "it did not start".to_owned(),
            Ok(Err(failure)) => format!("cannot {}: {}", failure.operation, failure.source),
            Err(error) => reason(&error),
        };
        self.found(Err(why), now);
    }

    /// Takes note of a process that has changed; false where it is another's.
    pub(crate) fn collected(&mut self, pid: i32, status: WaitStatus) -> bool {
        let Some((_, _, killed)) = self.running.filter(|(own, ..)| own.as_raw() == pid) else { return false };
        let Some(outcome) = outcome(status) else { return true };
        self.running = None;
        let found = match outcome {
            _ if killed => Err(format!("it took more than {} s", COMMAND_MAX.as_secs())),
            Outcome::Exit { code: 0 } => Ok(()),
            Outcome::Exit { code } => Err(format!("exit code {code}")),
            Outcome::Signal { signal, .. } => Err(format!("signal {signal}")),
        };
        self.found(found, Instant::now());
        true
    }
}

/// In the tool's own folder of sockets: it is the tool's user who makes it.
fn notify_path(bootstrap: &Bootstrap) -> String {
    let usual = || format!("/run/user/{}", bootstrap.process.uid);
    let folder = bootstrap.notify_folder.as_ref().map_or_else(usual, |folder| folder.as_str().to_owned());
    format!("{folder}/hatchway-notify")
}

fn listen(path: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    match bind(&socket, &address) {
        // The folder is one of the host's, and an earlier run has left it.
        Err(Errno::ADDRINUSE) => {
            rustix::fs::unlink(path)?;
            bind(&socket, &address)?;
        }
        done => done?,
    }
    Ok(socket)
}

/// What of a message counts (sd_notify(3)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    ready: bool,
    status: Option<String>,
}

impl Message {
    fn read(text: &[u8]) -> Self {
        let mut message = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            message.ready |= line == b"READY=1";
            if let Some(status) = line.strip_prefix(b"STATUS=") {
                message.status = Some(line_of(&String::from_utf8_lossy(status)));
            }
        }
        message
    }
}

/// A connection, or the socket of one that is under way.
fn begin_connection(to: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &to) {
        Ok(()) => Ok(None),
        Err(Errno::INPROGRESS) => Ok(Some(socket)),
        Err(errno) => Err(errno.into()),
    }
}

fn takes_connections(path: &str) -> Result<(), String> {
    let told = |errno: Errno| reason(&errno.into());
    let address = SocketAddrUnix::new(path).map_err(told)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut last = Errno::PROTOTYPE;
    for kind in [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM] {
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(told)?;
        match connect(&socket, &address) {
            // Somebody listens, and takes nobody now.
            Ok(()) | Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => last = errno,
        }
        if last != Errno::PROTOTYPE {
            break;
        }
    }
    Err(told(last))
}

/// A file that an earlier run has left in the tool's state says nothing of this one.
fn written_since(path: &str, since: (i64, i64)) -> Result<(), String> {
    let stat = rustix::fs::stat(path).map_err(|errno| reason(&errno.into()))?;
    match is_since((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()), since) {
        true => Ok(()),
        false => Err("it is older".to_owned()),
    }
}

/// Some file systems keep whole seconds only.
fn is_since(time: (i64, i64), since: (i64, i64)) -> bool {
    time >= since || time.1 == 0 && time.0 >= since.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn of_a_message_only_two_words_count() {
        let read = |text: &[u8]| Message::read(text);
        assert_eq!(read(b"READY=1"), Message { ready: true, status: None });
        let both = read(b"MAINPID=1\nSTATUS=up\nREADY=1\nFDSTORE=1\n");
        assert_eq!(both, Message { ready: true, status: Some("up".to_owned()) });
        for other in
            [&b"READY=10"[..], b"READY=0", b" READY=1", b"XREADY=1", b"READY", b"\xff\0", b"", b"\n\n"]
        {
            assert_eq!(read(other), Message::default(), "{other:?}");
        }
        let hostile = read(&[&b"STATUS=\x1b[2J\xff"[..], &[b'x'; 4000]].concat()).status.unwrap();
        assert!(hostile.len() <= 256 && hostile.starts_with("\u{fffd}[2J\u{fffd}xxx"), "{hostile}");
        assert_eq!(read(b"STATUS=").status.as_deref(), Some(""));
    }

    #[test]
    fn a_socket_of_any_kind_takes_connections_once_somebody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(takes_connections(&path("none")), Err("no such file or directory".to_owned()));
        let stream = UnixListener::bind(path("stream")).unwrap();
        assert_eq!(takes_connections(&path("stream")), Ok(()));
        drop(stream);
        assert_eq!(takes_connections(&path("stream")), Err("connection refused".to_owned()));
        let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
        assert_eq!(takes_connections(&path("datagrams")), Ok(()));
        let packets =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&packets, &SocketAddrUnix::new(path("packets").as_str()).unwrap()).unwrap();
        assert_eq!(takes_connections(&path("packets")), Err("connection refused".to_owned()));
        rustix::net::listen(&packets, 1).unwrap();
        assert_eq!(takes_connections(&path("packets")), Ok(()));
        assert!(takes_connections(&"x".repeat(200)).is_err());
    }

    #[test]
    fn a_file_that_was_left_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid").to_str().unwrap().to_owned();
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let since = (now.tv_sec, now.tv_nsec);
        assert_eq!(written_since(&path, since), Err("no such file or directory".to_owned()));
        std::fs::write(&path, "1").unwrap();
        assert_eq!(written_since(&path, since), Ok(()));
        assert_eq!(written_since(&path, (since.0 + 60, 0)), Err("it is older".to_owned()));
        // One of a file system without parts of seconds.
        assert!(is_since((5, 0), (5, 999)) && !is_since((5, 1), (5, 999)) && !is_since((4, 0), (5, 0)));
    }

    #[test]
    fn a_connection_of_the_loopback_interface_is_made_or_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert!(begin_connection(at).is_ok());
        drop(listener);
        assert!(!matches!(begin_connection(at), Ok(None)));
    }
}
