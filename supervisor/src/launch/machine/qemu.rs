//! A guest on QEMU, from its start to its end.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hatchway_vm::machine::Serial;
use hatchway_vm::qemu::accel::{self, Accel, Choice};
use hatchway_vm::qemu_image::argv::{self, Given};
use hatchway_vm::qemu_image::{Ended, Guest, PRESS_AGAIN, Start, Why, overlay};
use hatchway_vm::usb::Uevents;
use hatchway_wire::guest::Stream;
use hatchway_wire::{ExitReason, Outcome};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::door::Door;
use super::{End, FOLDER, Run, door, explain, private, remove, requested, tell};
use crate::error::Error;
use crate::launch::vm::streams::{Inward, Outward, flags};
use crate::recipe::SerialLine;

/// The program, as Debian's `qemu-system-x86` has it.
const PROGRAM: &str = "qemu-system-x86_64";
/// Where the kernel tells about devices.
const SYS: &str = "/sys";
/// How often something is looked after that nobody tells about.
const LOOK: Duration = Duration::from_secs(1);
/// Signals that ask for the end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

pub(super) fn run(run: &Run<'_>) -> Result<Option<End>, Error> {
    let choice = accel(run);
    let accel = choice.accel;
    let folder = run.folder.join(FOLDER);
    // Ours, so that nobody puts a link into it; what the unit's user owns lies in folders in it.
    let above = run.state.join("guest");
    let place = &above.join(if run.vm.keep { "kept" } else { &run.incarnation });
    if let Some(form) = run.explain {
        let overlays = [place.join("disk0.qcow2")];
        let places = vec![None; run.machine.usb.len()];
        let given = Given { accel, folder: &folder, overlays: &overlays, places: &places, snapshot: None };
        let words = argv::arguments(&run.machine, &given)?;
        explain(run.context, form, &[[vec![PROGRAM.to_owned()], words].concat()]);
        return Ok(None);
    }
    private(&folder, run.user)?;
    fs::create_dir_all(&above).map_err(Error::io("create", &above))?;
    clear(&above);
    private(place, run.user)?;
    let overlays = if run.vm.keep {
        let images = std::slice::from_ref(&run.image);
        overlay::kept(&run.machine.disks, images, overlay::Place { disks: place, notes: &above }, run.user)?
    } else {
        overlay::fresh(&run.machine.disks, place, run.user)?
    };
    // From now on a signal is for the guest.
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::io("block signals of", "this process")(errno.into()))?;
    let started = Guest::start(&Start {
        machine: &run.machine,
        accel,
        folder: &folder,
        overlays: &overlays,
        snapshot: None,
        user: run.user.map(|(uid, gid)| (uid, choice.group.unwrap_or(gid))),
        program: Path::new(PROGRAM),
        sys: Path::new(SYS),
    });
    if !run.vm.keep {
        // QEMU has it open: whatever happens from here on, nothing of it stays.
        remove(place);
    }
    // Only now: QEMU would inherit it, and be deaf to its parent's end.
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::io("block signals of", "this process")(errno.into()))?;
    let mut guest = started?;
    let pid = i32::try_from(guest.pid()).ok();
    if accel == Accel::Tcg {
        let why = choice.why.map(|why| format!(": {why}")).unwrap_or_default();
        run.context.printer.say(format!("note: QEMU runs the guest in software{why}"));
    }
    tell(run, &guest.terminals().unwrap_or_default());
    closed(run, &guest);
    let watched = door(run, Some(guest.pid()))
        .and_then(|door| Watch::new(run, door))
        .and_then(|watch| watch.until_end(run, &mut guest));
    let reason = watched.unwrap_or_else(|error| failed(run, &mut guest, &error));
    drop(guest);
    Ok(Some(End { reason, program: PROGRAM.to_owned(), pid }))
}

/// Says which USB devices the guest will not get, and what mends it.
fn closed(run: &Run<'_>, guest: &Guest) {
    let uid = run.user.map_or(0, |(uid, _)| uid);
    for node in guest.closed_usb() {
        run.context.printer.warn(format!(
            "QEMU runs as {uid}, who may not write to `{}`: the guest does not get that device. A udev rule opens it              (`SUBSYSTEM==\"usb\", ATTR{{idVendor}}==\"…\", OWNER=\"{uid}\"`), or `--user` names somebody who may",
            node.display()
        ));
    }
}

/// Something of this process's own went wrong while the guest ran: it is asked to end like by a person, and the record says why.
fn failed(run: &Run<'_>, guest: &mut Guest, error: &Error) -> ExitReason {
    let message = error.to_string();
    run.context.printer.warn(format!("{message}; the guest is asked to end"));
    let outcome = match guest.stop(run.grace) {
        Ok((ended, _)) => outcome(&ended),
        Err(_) => None,
    };
    ExitReason::Engine { message, outcome }
}

/// The disk of a guest that is kept, below its state.
pub(super) fn kept(state: &Path) -> PathBuf {
    state.join("guest").join("kept").join("disk0.qcow2")
}

/// As a guest of a tree is run; one that somebody brings is not tried a second time, since it may have begun something.
fn accel(run: &Run<'_>) -> Choice {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = run.user.unwrap_or(own);
    let choice = accel::choose(uid, gid, &accel::memory(&run.context.dirs.cache.join("guests")));
    match run.context.config.vm_accel() {
        Some(accel) => Choice { accel, why: None, ..choice },
        None => choice,
    }
}

/// Removes what runs left that were killed between making a disk and handing it over.
fn clear(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.rsplit_once('-').and_then(|(_, pid)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

/// What is waited for while the guest runs.
struct Watch {
    signals: SignalFd,
    uevents: Option<Uevents>,
    door: Option<Door>,
    line: Option<Line>,
    asked: Option<(Signal, Instant)>,
    pressed: Instant,
    look: Instant,
    /// USB devices are looked after.
    following: bool,
}

impl Watch {
    fn new(run: &Run<'_>, door: Option<Door>) -> Result<Self, Error> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags)
            .map_err(|errno| Error::io("watch signals of", "this process")(errno.into()))?;
        let stdio = run.vm.serial.iter().position(|line| *line == SerialLine::Stdio);
        let line = match stdio.and_then(|number| run.machine.serial.get(number)) {
            Some(Serial::Socket(path)) => Some(Line::new(path)?),
            _ => None,
        };
        // Without the kernel's word a look each second has to do.
        let uevents = if run.machine.usb.is_empty() { None } else { Uevents::open().ok() };
        let now = Instant::now();
        let following = !run.machine.usb.is_empty();
        Ok(Self { signals, uevents, door, line, asked: None, pressed: now, look: now, following })
    }

    /// Serves the guest until it has ended; gives the reason for the record.
    fn until_end(mut self, run: &Run<'_>, guest: &mut Guest) -> Result<ExitReason, Error> {
        let mut forced = false;
        loop {
            if let Some(ended) = guest.wait(Duration::ZERO)? {
                if let Some(line) = &mut self.line {
                    line.rest(&self.signals);
                }
                return Ok(reason(self.asked.map(|(signal, _)| signal), forced, &ended));
            }
            self.sleep(guest)?;
            if self.heard(run, guest)? {
                forced = true;
                guest.kill()?;
                continue;
            }
            if let Some(line) = &mut self.line {
                line.pump();
            }
            self.door.iter_mut().for_each(Door::turn);
            self.follow(run, guest);
        }
    }

    /// Until something happens, or it is time to look.
    fn sleep(&self, guest: &Guest) -> Result<(), Error> {
        let mut fds = vec![
            PollFd::new(guest, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        if let Some(uevents) = &self.uevents {
            fds.push(PollFd::new(uevents, PollFlags::IN));
        }
        if let Some(line) = &self.line {
            fds.extend(line.fds());
        }
        fds.extend(self.door.iter().flat_map(Door::fds));
        let time = Timespec { tv_sec: LOOK.as_secs().try_into().unwrap_or(1), tv_nsec: 0 };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::io("wait for", "the guest")(errno.into())),
        }
    }

    /// Signals: the first one presses the power button, a second one or the end of the time switches off. `true` then.
    fn heard(&mut self, run: &Run<'_>, guest: &mut Guest) -> Result<bool, Error> {
        let failed = |errno: nix::Error| Error::io("watch signals of", "this process")(errno.into());
        while let Some(info) = self.signals.read_signal().map_err(failed)? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            let Some(signal) = ENDING.into_iter().find(|signal| *signal as i32 == number) else {
                if number == Signal::SIGTSTP as i32 {
                    // The shell goes on with us; the guest was never stopped.
                    nix::sys::signal::raise(Signal::SIGSTOP).ok();
                }
                continue;
            };
            if self.asked.is_some() && run.is_kept {
                // Of a unit several may ask for the end, a daemon that begins anew among them; `kill` cuts it off.
                drop(guest.press());
                continue;
            }
            if self.asked.is_some() {
                return Ok(true);
            }
            let again = if run.is_kept { "" } else { ", and another Ctrl-C switches it off" };
            run.context.printer.say(format!(
                "pressing the guest's power button; it has {} seconds{again}",
                run.grace.as_secs()
            ));
            self.asked = Some((signal, Instant::now() + run.grace));
            self.pressed = Instant::now();
            drop(guest.press());
        }
        let Some((_, until)) = self.asked else { return Ok(false) };
        if Instant::now() >= until {
            run.context.printer.warn("the guest's time is over: it is switched off");
            return Ok(true);
        }
        if self.pressed.elapsed() >= PRESS_AGAIN {
            self.pressed = Instant::now();
            drop(guest.press());
        }
        Ok(false)
    }

    fn follow(&mut self, run: &Run<'_>, guest: &mut Guest) {
        let told = self.uevents.as_ref().is_some_and(Uevents::drain);
        if !self.following || !(told || self.look.elapsed() >= LOOK) {
            return;
        }
        self.look = Instant::now();
        match guest.follow_usb() {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => {
                lines.into_iter().for_each(|line| run.context.printer.say(line));
                closed(run, guest);
            }
            // Its end is told by the next wait.
            Err(hatchway_vm::Error::Qemu(hatchway_vm::qemu_image::Fault::Gone)) => {}
            // The guest does without the device rather than end.
            Err(error) => {
                self.following = false;
                run.context.printer.warn(format!("USB devices are not followed any more: {error}"));
            }
        }
    }
}

fn reason(asked: Option<Signal>, forced: bool, ended: &Ended) -> ExitReason {
    match (asked, ended.why) {
        (Some(signal), _) if forced || ended.why == Why::Guest => requested(signal, forced),
        (None, Why::Guest) => ExitReason::Exit { code: 0 },
        _ => {
            let said =
                if ended.said.is_empty() { String::new() } else { format!("; it said: {}", ended.said) };
            let what = match (ended.why, ended.signal) {
                (Why::Asked, _) => "QEMU was asked to end from outside".to_owned(),
                (_, Some(signal)) => format!("QEMU was killed by signal {signal}"),
                _ => "QEMU ended by itself".to_owned(),
            };
            ExitReason::Engine { message: what + &said, outcome: outcome(ended) }
        }
    }
}

/// A guest that is cut off has not ended well, whatever QEMU's code says.
fn outcome(ended: &Ended) -> Option<Outcome> {
    match (ended.signal, ended.code) {
        (Some(signal), _) => Some(Outcome::Signal { signal, core: false }),
        (None, code) => code.filter(|code| *code != 0).map(|code| Outcome::Exit { code }),
    }
}

/// A serial line between the guest and this process's own streams. Nothing of it waits: who reads its output may rest.
struct Line {
    stream: UnixStream,
    inward: Inward<'static>,
    outward: Outward<'static>,
}

impl Line {
    fn new(path: &Path) -> Result<Self, Error> {
        // Its path may be longer than a socket's may be.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let held = fs::File::open(folder).map_err(Error::io("open", folder))?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)));
        let stream = UnixStream::connect(short.join(path.file_name().unwrap_or_default()))
            .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
            .map_err(Error::io("connect to", path))?;
        let kind = if rustix::termios::isatty(stdout()) { Stream::Terminal } else { Stream::Output };
        let inward = Inward::new(Stream::Input, rustix::stdio::stdin());
        Ok(Self { stream, inward, outward: Outward::new(kind, stdout()) })
    }

    fn fds(&self) -> Vec<PollFd<'_>> {
        let ((hear, into), (from, say)) = (self.inward.wants(), self.outward.wants());
        let mut fds = Vec::new();
        if from || into && !self.outward.is_drained() {
            fds.push(PollFd::new(&self.stream, flags(from, PollFlags::IN) | flags(into, PollFlags::OUT)));
        }
        if hear {
            fds.push(PollFd::from_borrowed_fd(self.inward.from(), PollFlags::IN));
        }
        if say {
            fds.push(PollFd::from_borrowed_fd(stdout(), PollFlags::OUT));
        }
        fds
    }

    /// Both ways, as much as goes without waiting.
    fn pump(&mut self) {
        self.say();
        if self.inward.wants().0 && ready(self.inward.from(), PollFlags::IN) {
            // Its end is not the guest's.
            self.inward.read();
        }
        if self.inward.wants().1 {
            self.inward.write(self.stream.as_fd());
        }
    }

    /// What the guest has said.
    fn say(&mut self) {
        if self.outward.wants().0 {
            self.outward.read(self.stream.as_fd(), false);
        }
        while self.outward.wants().1 && ready(stdout(), PollFlags::OUT) {
            // When nobody reads it any more, the guest goes on all the same.
            self.outward.write();
        }
    }

    /// The guest has ended: what it said last goes out, unless somebody who waits for that has enough of it.
    fn rest(&mut self, signals: &SignalFd) {
        loop {
            self.say();
            let waits = self.outward.wants().1;
            if !waits && self.outward.is_drained() {
                return;
            }
            let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            fds.extend(self.fds());
            if poll(&mut fds, None).is_err() {
                continue;
            }
            while let Ok(Some(info)) = signals.read_signal() {
                if ENDING.iter().any(|signal| u32::try_from(*signal as i32) == Ok(info.ssi_signo)) {
                    return;
                }
            }
            if self.inward.wants().0 && ready(self.inward.from(), PollFlags::IN) {
                self.inward.read();
            }
            if self.inward.wants().1 {
                self.inward.write(self.stream.as_fd());
            }
        }
    }
}

fn stdout() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

fn ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&none)), Ok(1))
}
