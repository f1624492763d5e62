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
use hatchway_sys::process::{Fork, end_at_once, fork, fork_into, reset_signal_actions, start_unblocked};
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
use std::process::{Command, Stdio};
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
    Failed { message: String, hint: Option<String> },
}

/// The inner half's side. When it is dropped, the services are ended.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: Channel,
}

impl Keeper {
    /// Forks it, as long as this process may do everything.
    pub(crate) fn fork(services: &Services) -> Result<Self, Failure> {
        let failed = |source: io::Error| Failure::new("start what keeps the services", source);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        match fork().map_err(failed)? {
            Fork::Parent(_) => Ok(Self { channel: ours }),
            Fork::Child => {
                drop(ours);
                end_at_once(u8::from(keep(services, &theirs).is_err()))
            }
        }
    }

    /// Has them started and waits until they are up. The result is what the tool's end was asked for with meanwhile.
    pub(crate) fn begin(
        &self,
        errors: BorrowedFd<'_>,
        attendant: &Channel,
    ) -> Result<Option<Asked>, Failure> {
        let failed = |source: io::Error| Failure::new("start the services", source);
        self.channel.send(&Order::Begin, Some(errors)).map_err(failed)?;
        loop {
            let mut fds = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(attendant.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            if let Some(asked) = crate::init::asked(attendant).map_err(failed)? {
                return Ok(Some(asked));
            }
            match self.channel.receive::<Answer>().map_err(failed)? {
                Received::Message(Answer::Up, _) => return Ok(None),
                Received::Message(Answer::Failed { message, hint }, _) => {
                    return Err(Failure { hint, ..failed(io::Error::other(message)) });
                }
                Received::Nothing => {}
                Received::End => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// The keeper, from its beginning to its end.
fn keep(services: &Services, channel: &Channel) -> io::Result<()> {
    rustix::thread::set_name(c"hatchway-keeper")?;
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

/// systemd, and what it has of ours.
struct Running {
    systemd: Pid,
    notify: UnixDatagram,
    /// What the services print.
    printed: File,
    errors: OwnedFd,
    signals: SignalFd,
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
                step("enter systemd's namespaces", enter(systemd))?;
                Ok(Self { systemd, notify, printed, errors, signals })
            }
            Fork::Child => {
                let Err((name, error)) = become_systemd(services);
                crate::complain(&format!("cannot {name}"), Some(&error), None);
                end_at_once(125)
            }
        }
    }

    /// Until the inner half wants them ended, or systemd has ended.
    fn serve(&mut self, services: &Services, channel: &Channel) -> io::Result<()> {
        let late = Instant::now() + Duration::from_millis(services.patience_ms);
        let mut up = false;
        loop {
            let left = late.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            let timeout =
                if up { PollTimeout::NONE } else { PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX) };
            let mut fds =
                [&channel.as_fd(), &self.notify.as_fd(), &self.printed.as_fd(), &self.signals.as_fd()]
                    .map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let printed = fds[2].any().unwrap_or(true);
            if matches!(channel.receive::<Order>()?, Received::End) {
                return Ok(());
            }
            if printed {
                self.copy(channel)?;
            }
            while self.signals.read_signal()?.is_some() {}
            let answer = match self.ended()? {
                Some(how) => Some(Err((format!("systemd has ended: {how}"), None))),
                None if !up && self.is_ready() => Some(judge::look(services, &self.errors)),
                None if !up && Instant::now() >= late => Some(Err(judge::late(services, &self.errors))),
                None => None,
            };
            match answer {
                None => {}
                Some(Ok(())) => {
                    up = true;
                    channel.send(&Answer::Up, None)?;
                }
                // Whoever started the tool is told by the tool's own failure.
                Some(Err(_)) if up => return Ok(()),
                Some(Err((message, hint))) => return channel.send(&Answer::Failed { message, hint }, None),
            }
        }
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

    /// What the services have printed, unless nobody takes it: then they wait, as they would for a terminal.
    fn copy(&mut self, channel: &Channel) -> io::Result<()> {
        let mut bytes = [0; CHUNK];
        let length = match self.printed.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut fds = [
            PollFd::new(self.errors.as_fd(), PollFlags::POLLOUT),
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        if fds[0].any().unwrap_or(true) {
            // A stream that is closed takes nothing more; the services go on.
            File::from(self.errors.try_clone()?).write_all(&bytes[..length]).ok();
        }
        Ok(())
    }

    /// Asks systemd to stop everything, and kills it if that takes too long.
    fn end(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        // Where it cannot be asked, it is killed.
        let asked = systemctl(&["--no-block", "exit", "0"]).is_ok_and(|output| output.status.success());
        while asked && Instant::now() < end && matches!(self.ended(), Ok(None)) {
            let left = end.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            let mut fds =
                [self.printed.as_fd(), self.signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).ok();
            let mut bytes = [0; CHUNK];
            if let Ok(length) = self.printed.read(&mut bytes) {
                let mut fds = [PollFd::new(self.errors.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
                    && let Ok(errors) = self.errors.try_clone()
                {
                    File::from(errors).write_all(&bytes[..length]).ok();
                }
            }
            while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        }
        // With the first process of a namespace end all others. It fails where that has ended already.
        kill(self.systemd, Signal::SIGKILL).ok();
        waitpid(self.systemd, None).ok();
    }
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

/// systemd takes no word from a process whose number it cannot know: what is started from now on has one in its namespace.
fn enter(systemd: Pid) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(systemd.as_raw()).ok_or(io::ErrorKind::NotFound)?;
    let systemd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(setns(systemd, CloneFlags::CLONE_NEWPID)?)
}

/// In the child: a namespace of control groups that begins at its own one, and a `/proc` of its namespace of processes.
fn become_systemd(services: &Services) -> Result<Infallible, Step> {
    step("enter a control group", fs::write(format!("{OWN_GROUP}/cgroup.procs"), "0"))?;
    step("make a namespace of control groups", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step("take away the first view of control groups", unmount(GROUPS, UnmountFlags::DETACH))?;
    step("mount control groups", mount("cgroup2", GROUPS, "cgroup2", quiet, None))?;
    step("mount /proc", mount("proc", "/proc", "proc", quiet, None))?;
    let null =
        step("open /dev/null", rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
    step("take the standard streams", rustix::stdio::dup2_stdin(&null))?;
    step("take the standard streams", rustix::stdio::dup2_stdout(&null))?;
    step("take the standard streams", rustix::stdio::dup2_stderr(&null))?;
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

/// Asks systemd, over its socket for root.
fn systemctl(arguments: &[&str]) -> io::Result<std::process::Output> {
    let mut command = Command::new(SYSTEMCTL);
    command.args(["--no-pager", "--no-ask-password"]).args(arguments);
    command.env_clear().env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    start_unblocked(&mut command);
    command.output()
}
