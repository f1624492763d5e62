//! The services that a tool needs beside it, started by systemd, which is the first process of a process namespace of its own.
//!
//! PID 1 of the unit is the inner half, which gives up every privilege before the tool starts. So the *keeper* is forked while
//! there are privileges. It starts systemd one namespace further down, in a control group and with a `/proc` and `/sys` of its
//! own, waits until the services are up, copies what they print to the tool's standard error, and ends systemd when the inner
//! half is through with it, or gone. What systemd expects of whoever starts it in a container: its CONTAINER_INTERFACE page.
mod judge;

use crate::apply::{Failure, reason};
use crate::channel::{Channel, Received};
use crate::init::Asked;
use hatchway_sys::process::{
    Fork, end_at_once, fork_apart, fork_into, reset_signal_actions, start_unblocked,
};
use hatchway_wire::Services;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where every Debian since 9 has it.
const SYSTEMD: &str = "/lib/systemd/systemd";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const GROUPS: &str = "/sys/fs/cgroup";
/// systemd's control group below the unit's: a group that has others in it must have no processes.
const OWN_GROUP: &str = "/sys/fs/cgroup/services";
/// Where systemd says that everything is up (sd_notify(3)).
const NOTIFY: &str = "/run/hatchway/notify";
/// Bytes that are copied at a time: so many a pipe takes without waiting once it takes any (`PIPE_BUF`, pipe(7)).
const CHUNK: usize = 4096;

/// How long `systemctl` may take. In software emulation a busy one takes seconds.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes that are kept of what it prints.
const SAID_MAX: usize = 64 << 10;
/// How long a reader may rest at the end, in milliseconds.
const REST_MAX: u16 = 1000;

/// From the inner half.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Start them. With it comes the tool's standard error.
    Begin,
}

/// To the inner half.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Up,
    Failed {
        message: String,
        hint: Option<String>,
    },
    /// systemd is gone, while the tool goes on.
    Ended {
        how: String,
    },
}

/// The inner half's side. When it is dropped, the services are ended.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: Channel,
}

impl Keeper {
    /// Forks it, as long as this process may do everything. It has nothing of this process's: a copy of a stream would keep it open,
    /// and one of the attendant's socket would hide this process's end.
    pub(crate) fn fork(services: &Services) -> Result<Self, Failure> {
        let failed = |source: io::Error| Failure::new("start what keeps the services", source);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let message = serde_json::to_vec(services).map_err(|error| failed(error.into()))?;
        fork_apart(theirs.into(), &message, keep).map_err(failed)?;
        Ok(Self { channel: ours })
    }

    /// Has them started and waits until they are up. The result is what the tool's end was asked for with meanwhile.
    pub(crate) fn begin(
        &self,
        errors: BorrowedFd<'_>,
        attendant: &Channel,
    ) -> Result<Option<Asked>, Failure> {
        let failed = |source: io::Error| Failure::new("start the services", source);
        // Keys at a terminal of its own: the kernel sends them to this process, whose terminal it still is.
        let keys = SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT]);
        let keys = SignalFd::with_flags(&keys, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let keys = keys.map_err(|errno| failed(errno.into()))?;
        self.channel.send(&Order::Begin, Some(errors)).map_err(failed)?;
        loop {
            let mut fds = [self.channel.as_fd(), attendant.as_fd(), keys.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let key = keys.read_signal().map_err(|errno| failed(errno.into()))?;
            if let Some(number) = key.and_then(|info| i32::try_from(info.ssi_signo).ok()) {
                return Ok(Some(Asked::new(number)));
            }
            if let Some(asked) = crate::init::asked(attendant).map_err(failed)? {
                return Ok(Some(asked));
            }
            match self.channel.receive::<Answer>().map_err(failed)? {
                Received::Message(Answer::Up, _) => return Ok(None),
                Received::Message(Answer::Failed { message, hint }, _) => {
                    return Err(Failure { hint, ..failed(io::Error::other(message)) });
                }
                Received::Message(Answer::Ended { .. }, _) | Received::Nothing => {}
                Received::End => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// What a person should know, where the services or what keeps them have ended before the tool; it goes on.
    pub(crate) fn lost(&self) -> io::Result<Option<String>> {
        Ok(match self.channel.receive::<Answer>()? {
            Received::Message(Answer::Ended { how }, _) => Some(format!(
                "the services of the tool have ended before it: systemd, which runs them, has ended ({how})"
            )),
            Received::End => Some(
                "what keeps the services of the tool was ended: what they print is lost from now on"
                    .to_owned(),
            ),
            Received::Message(..) | Received::Nothing => None,
        })
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The keeper, from its beginning to its end.
fn keep(socket: OwnedFd, message: &[u8]) -> u8 {
    let channel = Channel::of(socket);
    let kept = serde_json::from_slice(message)
        .map_err(io::Error::from)
        .and_then(|services| serve(&services, &channel));
    u8::from(kept.is_err())
}

fn serve(services: &Services, channel: &Channel) -> io::Result<()> {
    rustix::thread::set_name(c"hatchway-keeper")?;
    no_streams()?;
    channel.wait(PollTimeout::NONE)?;
    let Received::Message(Order::Begin, Some(errors)) = channel.receive::<Order>()? else { return Ok(()) };
    let mut running = match Running::start(services, errors) {
        Ok(running) => running,
        Err((step, error)) => {
            let hint = (error.kind() == io::ErrorKind::NotFound)
                .then(|| "`packages` in the recipe has to bring systemd: `hatchway lock` adds it".to_owned());
            let message = format!("cannot {step}: {}", reason(&error));
            return channel.send(&Answer::Failed { message, hint }, None);
        }
    };
    let served = running.serve(services, channel);
    running.end(Duration::from_millis(services.stop_ms));
    served
}

/// The caller's are the tool's alone.
fn no_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// systemd, and what it has of ours.
struct Running {
    systemd: Pid,
    notify: UnixDatagram,
    /// What the services print.
    printed: File,
    errors: OwnedFd,
    signals: SignalFd,
    /// What they have printed, and nobody has taken yet.
    pending: Vec<u8>,
    /// What is started from here is in systemd's namespace of processes.
    is_inside: bool,
}

/// A step's name, for people, and what went wrong.
type Step = (&'static str, io::Error);

fn step<T, E: Into<io::Error>>(name: &'static str, done: Result<T, E>) -> Result<T, Step> {
    done.map_err(|error| (name, error.into()))
}

impl Running {
    fn start(services: &Services, errors: OwnedFd) -> Result<Self, Step> {
        step("find systemd", fs::metadata(SYSTEMD))?;
        let notify = step("hear from systemd", UnixDatagram::bind(NOTIFY))?;
        step("hear from systemd", notify.set_nonblocking(true))?;
        let printed = step("take what the services print", pipe_of_services(&services.output))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = step("watch systemd", SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags))?;
        step("make a view for systemd", own_view())?;
        let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        match step("start systemd", fork_into(namespaces))? {
            Fork::Parent(systemd) => {
                Ok(Self { systemd, notify, printed, errors, signals, pending: Vec::new(), is_inside: false })
            }
            Fork::Child => {
                let Err((name, error)) = become_systemd(services);
                let text = format!("error: cannot {name}: {}\n", reason(&error));
                // Nobody is left to tell if that fails.
                File::from(errors).write_all(text.as_bytes()).ok();
                end_at_once(125)
            }
        }
    }

    /// Until the inner half wants them ended, or systemd has ended.
    fn serve(&mut self, services: &Services, channel: &Channel) -> io::Result<()> {
        let late = Instant::now() + Duration::from_millis(services.patience_ms);
        let mut up = false;
        loop {
            self.wait(channel, (!up).then_some(late))?;
            if matches!(channel.receive::<Order>()?, Received::End) {
                return Ok(());
            }
            self.copy();
            while self.signals.read_signal()?.is_some() {}
            let ready = self.is_ready();
            let answer = match self.ended()? {
                Some(how) if up => return channel.send(&Answer::Ended { how }, None),
                Some(how) => Err((format!("systemd has ended: {how}"), None)),
                None if up => continue,
                None if ready => self.enter().and_then(|()| judge::look(services, &self.errors)),
                None if Instant::now() >= late => {
                    Err(self.enter().err().unwrap_or_else(|| judge::late(services, &self.errors)))
                }
                None => continue,
            };
            match answer {
                Ok(()) => {
                    up = true;
                    channel.send(&Answer::Up, None)?;
                }
                Err((message, hint)) => {
                    self.copy_rest();
                    return channel.send(&Answer::Failed { message, hint }, None);
                }
            }
        }
    }

    /// Until something has happened. Of what the services print nothing is taken while nobody takes it from here: then they wait,
    /// as they would for a terminal.
    fn wait(&self, channel: &Channel, late: Option<Instant>) -> io::Result<()> {
        let timeout = late.map_or(PollTimeout::NONE, left);
        let others = [channel.as_fd(), self.notify.as_fd(), self.signals.as_fd()];
        let mut fds: Vec<PollFd<'_>> = others.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        fds.push(self.way_of_words());
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What to wait for before more of what they print can be copied.
    fn way_of_words(&self) -> PollFd<'_> {
        match self.pending.is_empty() {
            true => PollFd::new(self.printed.as_fd(), PollFlags::POLLIN),
            false => PollFd::new(self.errors.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// systemd takes no word from a process whose number it cannot know: what is started from now on has one in its namespace.
    /// Before it runs it is closed to this process, as the shim is to everybody.
    fn enter(&mut self) -> Result<(), judge::Complaint> {
        if self.is_inside {
            return Ok(());
        }
        let enter = || -> io::Result<()> {
            let pid = rustix::process::Pid::from_raw(self.systemd.as_raw()).ok_or(io::ErrorKind::NotFound)?;
            let systemd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            Ok(setns(systemd, CloneFlags::CLONE_NEWPID)?)
        };
        enter().map_err(|error| (format!("cannot enter systemd's namespaces: {}", reason(&error)), None))?;
        self.is_inside = true;
        Ok(())
    }

    /// How systemd has ended, if it has.
    fn ended(&self) -> io::Result<Option<String>> {
        Ok(match waitpid(self.systemd, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(format!("exit code {code}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(signal.to_string()),
            Ok(_) | Err(nix::Error::EINTR) => None,
            Err(errno) => return Err(errno.into()),
        })
    }

    /// systemd has said that its first jobs are done, well or not.
    fn is_ready(&self) -> bool {
        let mut text = [0; CHUNK];
        let mut ready = false;
        while let Ok(length) = self.notify.recv(&mut text) {
            ready |= text[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
        }
        ready
    }

    /// What the services have printed, as far as somebody takes it; true where there may be more.
    fn copy(&mut self) -> bool {
        if self.pending.is_empty() {
            let mut bytes = [0; CHUNK];
            // It is open both ways, so it has no end.
            let Ok(length) = self.printed.read(&mut bytes) else { return false };
            self.pending.extend(&bytes[..length]);
        }
        if !writable(&self.errors, PollTimeout::ZERO) {
            return false;
        }
        if let Ok(errors) = self.errors.try_clone() {
            // A stream that is closed takes nothing more; the services go on.
            File::from(errors).write_all(&self.pending).ok();
        }
        self.pending.clear();
        true
    }

    /// All of it, unless nobody takes it for a second.
    fn copy_rest(&mut self) {
        while self.copy() || (!self.pending.is_empty() && writable(&self.errors, REST_MAX)) {}
    }

    /// Asks systemd to stop everything, and kills it if that takes too long.
    fn end(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        // Where it cannot be asked, it is killed.
        let asked = self.enter().is_ok() && systemctl(&["--no-block", "exit", "0"]).is_ok();
        while asked && Instant::now() < end && matches!(self.ended(), Ok(None)) {
            let mut fds = [self.way_of_words(), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, left(end)).ok();
            self.copy();
            while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        }
        self.copy_rest();
        // With the first process of a namespace end all others. It fails where that has ended already.
        kill(self.systemd, Signal::SIGKILL).ok();
        waitpid(self.systemd, None).ok();
    }
}

/// Until then, with one millisecond more, or rounding down would spin.
fn left(end: Instant) -> PollTimeout {
    let left = end.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Whether a chunk goes there without waiting, at the end of this time.
fn writable(to: &OwnedFd, timeout: impl Into<PollTimeout>) -> bool {
    poll(&mut [PollFd::new(to.as_fd(), PollFlags::POLLOUT)], timeout.into()).is_ok_and(|ready| ready > 0)
}

/// A named pipe, which systemd opens as the services' standard output. Open both ways here, so that it never ends.
fn pipe_of_services(at: &str) -> io::Result<File> {
    rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::from(0o600), 0)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(at, flags, Mode::empty())?.into())
}

/// A view of control groups for this process, with a group for systemd.
fn own_view() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    view("sysfs", "/sys", quiet | MountFlags::RDONLY)?;
    view("cgroup2", GROUPS, quiet)?;
    rustix::fs::mkdir(OWN_GROUP, Mode::from(0o755))?;
    Ok(())
}

/// An engine of containers may have made the same view there: the kernel does not mount it twice.
fn view(kind: &str, at: &str, flags: MountFlags) -> io::Result<()> {
    match mount(kind, at, kind, flags, None) {
        Err(Errno::BUSY) => Ok(()),
        other => Ok(other?),
    }
}

/// In the child: a namespace of control groups that begins at its own one, and a `/proc` of its namespace of processes.
fn become_systemd(services: &Services) -> Result<Infallible, Step> {
    step("enter a control group", fs::write(format!("{OWN_GROUP}/cgroup.procs"), "0"))?;
    step("make a namespace of control groups", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step("take away the first view of control groups", unmount(GROUPS, UnmountFlags::DETACH))?;
    step("mount control groups", mount("cgroup2", GROUPS, "cgroup2", quiet, None))?;
    step("mount /proc", mount("proc", "/proc", "proc", quiet, None))?;
    reset_signal_actions();
    step("unblock signals", SigSet::empty().thread_set_mask())?;
    let text = |text: String| {
        CString::new(text).map_err(|_| ("name what to start", io::ErrorKind::InvalidInput.into()))
    };
    let arguments = [SYSTEMD, "--system", "--show-status=no"].map(str::to_owned).into_iter();
    let arguments =
        arguments.chain([format!("--unit={}", services.target)]).map(text).collect::<Result<Vec<_>, _>>()?;
    let environment = [
        "container=hatchway".to_owned(),
        format!("NOTIFY_SOCKET={NOTIFY}"),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "LANG=C.UTF-8".to_owned(),
    ];
    let environment = environment.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    step("execute systemd", nix::unistd::execve(arguments[0].as_c_str(), &arguments, &environment))
}

/// Asks systemd, over its socket for root, and gives what `systemctl` prints. The program is the tree's: it is given no longer than a
/// moment, and heard no longer than a page.
fn systemctl(arguments: &[&str]) -> io::Result<Vec<u8>> {
    let mut command = Command::new(SYSTEMCTL);
    command.args(["--no-pager", "--no-ask-password"]).args(arguments);
    command.env_clear().env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    start_unblocked(&mut command);
    let mut child = command.spawn()?;
    let said = child.stdout.take().map(|output| read_until(&output.into(), Instant::now() + ANSWER_MAX));
    // Whatever it is: it has closed its output, or is to end.
    let ended = matches!(said, Some(Ok(_))) && gone_by(&mut child, Instant::now() + ANSWER_MAX)?;
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    let said = said.transpose()?.unwrap_or_default();
    // `status` of a unit that has failed is no success (systemctl(1), "Exit status"), and says what is wanted.
    match status.success() || !said.is_empty() {
        true => Ok(said),
        false => Err(io::Error::other("systemctl has failed")),
    }
}

fn read_until(from: &OwnedFd, end: Instant) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        if poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], left(end))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = [0; CHUNK];
        match rustix::io::read(from, &mut bytes)? {
            0 => return Ok(said),
            length if said.len() < SAID_MAX => said.extend(&bytes[..length]),
            _ => {}
        }
    }
}

fn gone_by(child: &mut Child, end: Instant) -> io::Result<bool> {
    while Instant::now() < end {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}
