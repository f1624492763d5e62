//! The recorder of a unit that stays when whoever started it goes: see [`hatchway_wire::unit`].
//!
//! It starts what runs the tool on its rung, which is the attendant of the sandbox or `hatchway run` beside a container or a guest.
//! It holds the other ends of that one's standard streams and knows nothing of how the tool is isolated. When all of it has ended,
//! it completes `exit.json` and lets go of the lock: from then on the unit has ended for everybody.
mod ready;
mod segments;
mod terminal;
mod verdict;

use crate::attendant::timeout;
use crate::channel::{Channel, Received};
use crate::error::{Error, Step};
use crate::reaper::outcome;
use crate::record;
use hatchway_wire::exit::{ExitReason, ExitRecord};
use hatchway_wire::log::{self, DATA_MAX, Full, Stream};
use hatchway_wire::unit::{self, Unit, UnitOrder, UnitReport};
use hatchway_wire::{HostPath, Outcome, Stamp, Usage, VERSION};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use ready::Watch;
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketFlags;
use segments::{Kept, Segments};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use terminal::Terminal;
use verdict::Tail;

/// The record of how it has ended.
const EXIT: &str = "exit.json";
/// Who may be there at a time: well more than those who may stay ([`terminal`]), so that nobody keeps an order to end it away.
const CLIENTS_MAX: usize = 64;
/// Who may wait to be taken.
const BACKLOG: i32 = 16;
/// Milliseconds from one try to the next where the log has no room.
const AGAIN_MS: u64 = 100;
/// How long what is left of an ended unit may take to be gone.
const LEFT_MAX: Duration = Duration::from_secs(5);
/// Bytes that are still read of an ended unit's pipes, which nobody of it can write to any more: more than a pipe holds.
const DRAIN_MAX: usize = 4 << 20;

/// `--unit FOLDER`: stays until the unit has ended; the result is its exit code. Whoever reads [`unit::KEPT`] from standard error knows
/// that the unit is kept from then on.
pub(crate) fn run(folder: &str) -> Result<i32, Error> {
    let path = HostPath::new(folder).map_err(|_| Error::Usage)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path.as_str(), flags, Mode::empty()).step("open the unit's folder")?;
    let unit = read(&folder)?;
    // Not of whoever starts it: nobody's terminal, nobody's job.
    leave_session().step("leave the session")?;
    rustix::thread::set_name(c"hatchway-unit").step("name the process")?;
    hatchway_sys::process::reset_signal_action(Signal::SIGCHLD as i32);
    SigSet::all().thread_block().step("block signals")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step("adopt orphans")?;
    let lock = lock(&folder).step("lock the unit's folder")?;
    has_not_ended(&folder).step("begin a run that has ended")?;
    let door = listen(&folder).step("listen at the unit's socket")?;
    still_locked(&folder, &lock).step("keep a run that another was given")?;
    let log = open_log(&folder).step("open the log")?;
    let watch = Watch::new(unit.ready.as_ref(), folder, &path);
    let recorder = Recorder::start((path, watch), &unit, door, Segments::new(log, unit.logs))?;
    if unit.hears_kept {
        // That nobody hears it changes nothing.
        let _heard = rustix::io::write(rustix::stdio::stderr(), &[unit::KEPT]);
    }
    close_streams().step("let go of the standard streams")?;
    let code = recorder.serve();
    // systemd has a copy of it, and closes that when it comes to it.
    drop(hatchway_sys::lock::unlock(&lock));
    code
}

/// A service of systemd's has a session of its own already, and the kernel gives it no other.
fn leave_session() -> nix::Result<()> {
    match nix::unistd::setsid() {
        Err(_) if nix::unistd::getsid(None) == Ok(nix::unistd::getpid()) => Ok(()),
        other => other.map(drop),
    }
}

fn read(folder: &OwnedFd) -> Result<Unit, Error> {
    let open = rustix::fs::openat(folder, unit::FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut text = Vec::new();
    File::from(open.map_err(|errno| Error::ReadBootstrap(errno.into()))?)
        .read_to_end(&mut text)
        .map_err(Error::ReadBootstrap)?;
    let unit: Unit = serde_json::from_slice(&text).map_err(Error::ParseBootstrap)?;
    if unit.version != VERSION {
        return Err(Error::Version { theirs: unit.version, ours: VERSION });
    }
    if unit.command.is_empty() {
        return Err(Error::Plan);
    }
    Ok(unit)
}

/// Held exclusively by the one recorder of the unit. Whoever started it may have it already, and hands it over as standard input.
fn lock(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let same = |a: rustix::fs::Stat, b: rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let own = rustix::fs::statat(folder, unit::LOCK, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let given = rustix::fs::fstat(rustix::stdio::stdin());
    if let (Ok(own), Ok(given)) = (own, given)
        && same(own, given)
    {
        let copy = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        if hatchway_sys::lock::try_lock_exclusive(&copy)? {
            return Ok(copy);
        }
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, unit::LOCK, flags, Mode::from(0o600))?;
    // Who looks whether it is held holds it for a moment, shared.
    let end = Instant::now() + Duration::from_secs(1);
    while !hatchway_sys::lock::try_lock_exclusive(&file)? {
        if Instant::now() >= end {
            return Err(io::Error::other("another recorder has it"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

/// systemd may start a service long after whoever asked for it has gone on without: its run is somebody else's, or over.
fn has_not_ended(folder: &OwnedFd) -> io::Result<()> {
    match rustix::fs::statat(folder, EXIT, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whoever has waited too long puts another lock into the place of this one and starts another recorder, perhaps just now.
fn still_locked(folder: &OwnedFd, lock: &OwnedFd) -> io::Result<()> {
    let named = rustix::fs::statat(folder, unit::LOCK, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    let own = rustix::fs::fstat(lock)?;
    if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) {
        return Ok(());
    }
    rustix::fs::unlinkat(folder, unit::SOCKET, rustix::fs::AtFlags::empty())?;
    Err(io::Error::other("its lock is another's"))
}

/// The name of a socket may have some hundred bytes only, and that of a folder more: so it is named below a descriptor.
fn listen(folder: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let name = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), unit::SOCKET);
    rustix::net::bind(&socket, &SocketAddrUnix::new(name.as_str())?)?;
    rustix::fs::chmodat(folder, unit::SOCKET, Mode::from(0o600), rustix::fs::AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn open_log(folder: &OwnedFd) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(folder, log::FOLDER, Mode::from(0o750))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, log::FOLDER, flags, Mode::empty())?)
}

fn close_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

fn no_terminal() -> UnitReport {
    UnitReport::Failed { message: "the unit has no terminal".to_owned() }
}

/// Whether no child is left; those that have ended are collected.
fn is_alone() -> bool {
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Somebody who gives orders.
#[derive(Debug)]
struct Client {
    channel: Channel,
    /// No other has had it.
    number: u64,
    /// They are told how far the unit is.
    watches: bool,
}

/// One of the tool's streams.
#[derive(Debug)]
struct Source {
    stream: Stream,
    pipe: OwnedFd,
}

/// The other ends of a child's output.
fn pipes(child: &mut Child) -> Result<Vec<Source>, Error> {
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut sources = Vec::new();
    for (stream, pipe) in [Stream::Out, Stream::Err].into_iter().zip(pipes.into_iter().flatten()) {
        rustix::io::ioctl_fionbio(&pipe, true).step("read without waiting")?;
        // A tool of another user may open its streams anew (`/dev/stdout`); nobody else gets to them.
        rustix::fs::fchmod(&pipe, Mode::from(0o622)).step("let the tool open its streams")?;
        sources.push(Source { stream, pipe });
    }
    Ok(sources)
}

/// As at a login: what runs the tool is in front of it, and does what it does at anybody's.
fn at_terminal(command: &mut Command, terminal: &Terminal) -> io::Result<()> {
    command.stdin(terminal.inner()?).stdout(terminal.inner()?).stderr(terminal.inner()?);
    // Not what it is called at whoever has started the unit: others come to it.
    command.env("TERM", unit::TERM);
    hatchway_sys::process::start_at_terminal(command);
    Ok(())
}

#[derive(Debug)]
struct Recorder<'a> {
    folder: HostPath,
    unit: &'a Unit,
    started: Stamp,
    signals: SignalFd,
    door: OwnedFd,
    clients: Vec<Client>,
    /// How many have come.
    arrivals: u64,
    watch: Watch<'a>,
    child: Child,
    /// It is not waited for yet.
    runs: bool,
    /// Nothing of it is to end by itself.
    killed: bool,
    /// The signal by which somebody has asked it to end.
    asked: Option<i32>,
    sources: Vec<Source>,
    terminal: Option<Terminal>,
    log: Segments,
    /// What was read and finds no room.
    waiting: Option<(Stream, Vec<u8>)>,
    /// The log was full, and the unit is to end then.
    full: bool,
    errors: Tail,
}

impl<'a> Recorder<'a> {
    fn start(
        (folder, watch): (HostPath, Watch<'a>),
        unit: &'a Unit,
        door: OwnedFd,
        log: Segments,
    ) -> Result<Self, Error> {
        let started = record::now();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags).step("watch signals")?;
        let (program, arguments) = unit.command.split_first().ok_or(Error::Plan)?;
        let mut command = Command::new(program);
        command.args(arguments);
        let terminal =
            unit.terminal.then(|| Terminal::open(&unit.unit)).transpose().step("open the terminal")?;
        match &terminal {
            Some(terminal) => at_terminal(&mut command, terminal).step("hand over the terminal")?,
            None => drop(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())),
        }
        // What it is told to end by ends it in order, should this process be killed.
        hatchway_sys::process::end_with_parent(&mut command);
        hatchway_sys::process::start_unblocked(&mut command);
        let mut child = command.spawn().step("start what runs the tool")?;
        let sources = match &terminal {
            Some(terminal) => {
                vec![Source { stream: Stream::Out, pipe: terminal.output().step("read the terminal")? }]
            }
            None => pipes(&mut child)?,
        };
        Ok(Self {
            folder,
            unit,
            started,
            signals,
            door,
            clients: Vec::new(),
            arrivals: 0,
            watch,
            child,
            runs: true,
            killed: false,
            asked: None,
            sources,
            terminal,
            log,
            waiting: None,
            full: false,
            errors: Tail::default(),
        })
    }

    fn serve(mut self) -> Result<i32, Error> {
        let ended = loop {
            self.wait()?;
            self.read_once(DATA_MAX);
            self.serve_clients();
            self.terminal.iter_mut().for_each(Terminal::turn);
            if self.watch.turn() {
                self.tell();
            }
            if let Some(ended) = self.signals()? {
                break ended;
            }
        };
        self.end_orphans();
        self.drain();
        Ok(self.finish(ended))
    }

    fn wait(&mut self) -> Result<(), Error> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.door.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.clients.iter().map(|client| PollFd::new(client.channel.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.terminal.iter().flat_map(Terminal::interest));
        fds.extend(self.watch.watch().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // While something finds no room nothing more is read: the pipe fills, and the tool waits.
        let sources = self.sources.iter().filter(|_| self.waiting.is_none());
        fds.extend(sources.map(|source| PollFd::new(source.pipe.as_fd(), PollFlags::POLLIN)));
        let again = self.waiting.is_some().then(|| Instant::now() + Duration::from_millis(AGAIN_MS));
        let timeout = timeout([again, self.watch.due()].into_iter().flatten().min());
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno).step("wait"),
        }
    }

    /// From each stream in turn, so that one that never rests does not hide the other.
    fn read_once(&mut self, at_most: usize) -> usize {
        if !self.settle() {
            return 0;
        }
        let mut buffer = vec![0; DATA_MAX.min(at_most)];
        let mut total = 0_usize;
        let mut sources = std::mem::take(&mut self.sources);
        sources.retain(|source| {
            if self.waiting.is_some() {
                return true;
            }
            match rustix::io::read(&source.pipe, &mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    total = total.saturating_add(count);
                    self.keep(source.stream, &buffer[..count]);
                    true
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
                Err(_) => false,
            }
        });
        self.sources = sources;
        total
    }

    fn keep(&mut self, stream: Stream, data: &[u8]) {
        self.watch.look(stream, data);
        if stream == Stream::Err || self.terminal.is_some() {
            self.errors.add(data);
        }
        self.terminal.iter_mut().for_each(|terminal| terminal.show(data));
        if self.full {
            return self.log.lose(stream, data.len());
        }
        if let Kept::NoRoom(kept) = self.log.append(stream, data, record::now().realtime_ns) {
            let rest = &data[kept..];
            if self.unit.logs.full == Full::Block && self.runs {
                self.waiting = Some((stream, rest.to_vec()));
                return;
            }
            self.log.lose(stream, rest.len());
            // One that has ended needs no end.
            self.full = self.runs;
            self.pass(Signal::SIGTERM as i32);
        }
    }

    /// Tries again what found no room; true when nothing waits.
    fn settle(&mut self) -> bool {
        if let Some((stream, data)) = self.waiting.take()
            && let Kept::NoRoom(kept) = self.log.append(stream, &data, record::now().realtime_ns)
        {
            self.waiting = Some((stream, data[kept..].to_vec()));
        }
        self.waiting.is_none()
    }

    fn serve_clients(&mut self) {
        while let Ok(connection) = rustix::net::accept_with(&self.door, SocketFlags::CLOEXEC) {
            if self.clients.len() < CLIENTS_MAX {
                self.arrivals = self.arrivals.saturating_add(1);
                let channel = Channel::of(connection);
                self.clients.push(Client { channel, number: self.arrivals, watches: false });
            }
        }
        let mut orders = VecDeque::new();
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain(|client| {
            loop {
                match client.channel.receive::<UnitOrder>() {
                    Ok(Received::Message(order, _)) => {
                        orders.push_back((client.number, order));
                    }
                    Ok(Received::Nothing) => return true,
                    Ok(Received::End) => return false,
                    // Of a newer `hatchway`, which is told so.
                    Err(error) => {
                        let message = format!("this recorder does not know the order: {error}");
                        return client.channel.offer(&UnitReport::Failed { message }, None).is_ok();
                    }
                }
            }
        });
        for (number, order) in orders {
            // Who has gone already is given no seat. Other orders hold: some do not wait for an answer.
            let is_there = clients.iter().any(|client| client.number == number);
            if !is_there && matches!(order, UnitOrder::Attach(_)) {
                continue;
            }
            let (report, stream) = self.obey(&order, number);
            if let Some(client) = clients.iter_mut().find(|client| client.number == number) {
                client.watches |= order == UnitOrder::Watch;
                // Who does not read is not waited for.
                client.channel.offer(&report, stream.as_ref().map(AsFd::as_fd)).ok();
            }
        }
        self.terminal.iter_mut().for_each(|terminal| {
            terminal.keep(|number| clients.iter().any(|client| client.number == number));
        });
        self.clients = clients;
    }

    /// Tells those who want to know how far the unit is; who does not read is left.
    fn tell(&mut self) {
        let report = UnitReport::State(self.watch.standing().clone());
        self.clients.retain(|client| !client.watches || client.channel.offer(&report, None).is_ok());
    }

    /// The answer, and what is handed over with it.
    fn obey(&mut self, order: &UnitOrder, client: u64) -> (UnitReport, Option<OwnedFd>) {
        let report = match order {
            UnitOrder::Signal { signal } => {
                self.asked = Some(*signal);
                self.pass(*signal)
            }
            UnitOrder::Kill => {
                self.killed = true;
                // What runs it may have ended, and something of it not.
                if self.runs { self.pass(Signal::SIGKILL as i32) } else { UnitReport::Done }
            }
            UnitOrder::ClearLog => {
                self.log.clear();
                self.settle();
                UnitReport::Done
            }
            UnitOrder::Watch => UnitReport::State(self.watch.standing().clone()),
            UnitOrder::Attach(order) => match &mut self.terminal {
                Some(terminal) => return terminal.attach(client, order),
                None => no_terminal(),
            },
            UnitOrder::Resize(window) => self
                .terminal
                .as_ref()
                .map_or_else(no_terminal, |terminal| terminal.resize_for(client, *window)),
        };
        (report, None)
    }

    /// As long as it is not waited for, the number is its own.
    fn pass(&self, number: i32) -> UnitReport {
        let pid = i32::try_from(self.child.id()).ok().filter(|_| self.runs).map(Pid::from_raw);
        let sent = Signal::try_from(number)
            .and_then(|signal| pid.map_or(Err(nix::Error::ESRCH), |pid| kill(pid, signal)));
        match sent {
            Ok(()) => UnitReport::Done,
            Err(errno) => UnitReport::Failed { message: errno.desc().to_owned() },
        }
    }

    /// Passes on what is sent to this process; the outcome once what runs the tool has ended.
    fn signals(&mut self) -> Result<Option<Outcome>, Error> {
        while let Some(info) = self.signals.read_signal().step("read a signal")? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number != Signal::SIGCHLD as i32 {
                self.pass(number);
            }
        }
        let child = i32::try_from(self.child.id()).unwrap_or_default();
        loop {
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_pid() == child => {
                    if let Some(outcome) = outcome(status) {
                        self.runs = false;
                        return Ok(Some(outcome));
                    }
                }
                // An orphan of it.
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// Nothing of the unit stays behind. What its own processes have left to us may end by itself, as a guest does whose `hatchway run`
    /// was killed; then it is killed.
    fn end_orphans(&mut self) {
        let linger = Instant::now() + Duration::from_millis(self.unit.linger_ms);
        while !self.killed && Instant::now() < linger {
            if is_alone() {
                return;
            }
            self.serve_clients();
            // What lingers may say something, and would wait for somebody to read it.
            self.read_once(DATA_MAX);
            self.terminal.iter_mut().for_each(terminal::Terminal::turn);
            std::thread::sleep(Duration::from_millis(5));
        }
        let own = format!("/proc/self/task/{}/children", std::process::id());
        let end = Instant::now() + LEFT_MAX;
        while !is_alone() {
            let children = std::fs::read_to_string(&own).unwrap_or_default();
            let left: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            left.iter().for_each(|pid| {
                kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
            });
            if Instant::now() >= end {
                let remark = b"processes of the unit are left, and cannot be killed from here\n";
                self.log.append(Stream::Remark, remark, record::now().realtime_ns);
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What is still in the pipes. Somebody outside the unit may hold them open, and is not waited for.
    fn drain(&mut self) {
        if !self.full {
            self.log.admit_the_rest();
        }
        if let Some((stream, data)) = self.waiting.take()
            && let Kept::NoRoom(kept) = self.log.append(stream, &data, record::now().realtime_ns)
        {
            self.log.lose(stream, data.len().saturating_sub(kept));
        }
        self.terminal.iter_mut().for_each(Terminal::let_go);
        let mut total = 0_usize;
        while total < DRAIN_MAX && !self.sources.is_empty() {
            match self.read_once(DATA_MAX) {
                0 => break,
                count => total = total.saturating_add(count),
            }
        }
    }

    fn finish(mut self, ended: Outcome) -> i32 {
        let path = self.folder.join(EXIT).ok();
        let recorded = path.as_ref().and_then(|path| std::fs::read(path.as_str()).ok());
        let recorded = recorded.and_then(|text| serde_json::from_slice::<ExitRecord>(&text).ok());
        let mut record = recorded.unwrap_or_else(|| self.unrecorded(ended));
        verdict::refine(&mut record, &self.errors);
        if let ExitReason::Requested { outcome, .. } = record.reason
            && self.full
        {
            record.reason = ExitReason::LogFull { outcome: Some(outcome) };
            record.evidence.push(self.log.trouble().map_or_else(
                || format!("the log has {} bytes", self.unit.logs.size),
                |trouble| format!("the log cannot be written: {trouble}"),
            ));
        }
        record.code = record.reason.code();
        record.logged = Some(self.log.logged());
        let code = record.code;
        // What the unit said makes room for why it ended.
        let write = |path: &HostPath| record::write(&record, path, true);
        let written = path.as_ref().map(|path| {
            write(path).or_else(|_| {
                self.log.clear();
                write(path)
            })
        });
        if let (Some(path), Some(Err(error))) = (path, written) {
            let remark = format!("cannot write `{path}`: {error}\n");
            self.log.append(Stream::Remark, remark.as_bytes(), record::now().realtime_ns);
        }
        self.terminal.iter_mut().for_each(Terminal::farewell);
        let socket = self.folder.join(unit::SOCKET).ok();
        socket.iter().for_each(|path| drop(std::fs::remove_file(path.as_str())));
        code
    }

    fn unrecorded(&self, ended: Outcome) -> ExitRecord {
        let reason = verdict::unrecorded(ended, self.asked, &self.errors);
        ExitRecord {
            version: VERSION,
            unit: self.unit.unit.clone(),
            incarnation: self.unit.incarnation.clone(),
            program: String::new(),
            started: self.started,
            ended: record::now(),
            code: reason.code(),
            reason,
            shim_pid: i32::try_from(self.child.id()).unwrap_or_default(),
            tool_pid: None,
            usage: Usage::default(),
            notes: Vec::new(),
            evidence: Vec::new(),
            memory: None,
            logged: None,
            exit_file: self.folder.join(EXIT).ok(),
        }
    }
}
