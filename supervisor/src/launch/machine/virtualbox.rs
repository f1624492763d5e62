//! A guest on this machine's VirtualBox, from its start to its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hatchway_vm::machine::Uuid;
use hatchway_vm::virtualbox::{Call, Programs, Reason, State, Stopped, VirtualBox, argv};
use hatchway_wire::ExitReason;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;

use super::door::Door;
use super::{End, FOLDER, Run, door, explain, private, requested, tell};
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::SerialLine;

const PROGRAM: &str = "VBoxManage";
/// How often the machine's state is asked for: each time a program is started.
const LOOK: Duration = Duration::from_secs(1);
/// Signals that ask for the end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

pub(super) fn run(run: &Run<'_>) -> Result<Option<End>, Error> {
    let (folder, uuid) = machine(&run.state, run.name);
    if let Some(form) = run.explain {
        let calls = argv::create(&run.machine, uuid, &folder)?;
        let line = |call: &Call| [&[PROGRAM.to_owned()], call.words()].concat();
        let mut lines: Vec<Vec<String>> = calls.iter().map(line).collect();
        lines.push([PROGRAM, "startvm", &uuid.to_string(), "--type", "headless"].map(str::to_owned).to_vec());
        explain(run.context, form, &lines);
        return Ok(None);
    }
    not_root()?;
    if run.vm.serial.contains(&SerialLine::Stdio) {
        return Err(Error::Host {
            message: "VirtualBox cannot give a serial line on standard input and output".to_owned(),
            hints: vec!["`serial = [\"socket\"]` has a socket instead, or use `driver = \"qemu\"`".into()],
        });
    }
    let vbox = VirtualBox::find(Programs::default())?;
    private(&folder, None)?;
    private(&run.folder.join(FOLDER), None)?;
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::io("block signals of", "this process")(errno.into()))?;
    made(run, &vbox, uuid, &folder)?;
    let done = started(run, &vbox, uuid);
    if !run.vm.keep {
        let removed = vbox.destroy(&run.machine, uuid, &folder);
        if let (Ok(_), Err(error)) = (&done, removed) {
            run.context.printer.warn(format!("the guest's machine is not removed: {error}"));
        }
    }
    let reason = done?;
    Ok(Some(End { reason, program: PROGRAM.to_owned(), pid: None }))
}

/// The folder of its machine, and which one it is: not by its name alone, since another person's, or another data folder's, is
/// another machine.
pub(super) fn machine(state: &Path, name: &str) -> (PathBuf, Uuid) {
    let folder = state.join("virtualbox");
    let uuid = Uuid::of_name(&format!("{}\n{name}", folder.display()));
    (folder, uuid)
}

pub(super) fn not_root() -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    Err(Error::Host {
        message: "a guest of VirtualBox belongs to the user who starts it, and root starts none".into(),
        hints: vec![
            "run it as the user whose guest it is, who has to be in the group `vboxusers` for USB".into(),
            "or use `driver = \"qemu\"`".into(),
        ],
    })
}

/// The machine as it is now wanted: a kept one is gone on with, another one is made anew.
fn made(run: &Run<'_>, vbox: &VirtualBox, uuid: Uuid, folder: &Path) -> Result<(), Error> {
    match vbox.state(uuid) {
        Ok(state) if !state.is_off() => {
            return Err(Error::Host {
                message: format!("`{}` runs already", run.name),
                hints: vec![format!("`VBoxManage controlvm {uuid} acpipowerbutton` asks it to end")],
            });
        }
        Ok(_) if run.vm.keep => {
            run.context.printer.say(
                "note: a kept machine stays as it was made but for its serial lines; `VBoxManage modifyvm` changes it, and without its folder it is made anew",
            );
            return Ok(vbox.set_lines(&run.machine, uuid)?);
        }
        Ok(_) => vbox.destroy(&run.machine, uuid, folder)?,
        Err(hatchway_vm::Error::VirtualBox(refusal)) if refusal.reason == Some(Reason::NoMachine) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(vbox.create(&run.machine, uuid, folder)?)
}

/// How often in a row VirtualBox may fail to say how a guest is.
const FAILURES_MAX: u32 = 5;

/// Starts it and stays until it is off.
fn started(run: &Run<'_>, vbox: &VirtualBox, uuid: Uuid) -> Result<ExitReason, Error> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&SigSet::all(), flags)
        .map_err(|errno| Error::io("watch signals of", "this process")(errno.into()))?;
    vbox.start(uuid)?;
    tell(run, &[]);
    // Its process is VirtualBox's own, of which it says no number.
    let watched = door(run, None).and_then(|door| watched(run, (vbox, uuid), &signals, door));
    Ok(watched.unwrap_or_else(|error| {
        // Something of this process's own: the guest is asked to end like by a person, and the record says why.
        let message = error.to_string();
        run.context.printer.warn(format!("{message}; the guest is asked to end"));
        drop(vbox.stop(uuid, run.grace));
        ExitReason::Engine { message, outcome: None }
    }))
}

fn watched(
    run: &Run<'_>,
    (vbox, uuid): (&VirtualBox, Uuid),
    signals: &SignalFd,
    mut door: Option<Door>,
) -> Result<ExitReason, Error> {
    let failed = |errno: nix::Error| Error::io("watch signals of", "this process")(errno.into());
    let mut look = Instant::now();
    let mut failures = 0;
    loop {
        let wait = Timespec { tv_sec: LOOK.as_secs().try_into().unwrap_or(1), tv_nsec: 0 };
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        fds.extend(door.iter().flat_map(Door::fds));
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for", "the guest")(errno.into())),
        }
        door.iter_mut().for_each(Door::turn);
        while let Some(info) = signals.read_signal().map_err(failed)? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if let Some(signal) = ENDING.into_iter().find(|signal| *signal as i32 == number) {
                run.context.printer.say(format!(
                    "pressing the guest's power button; it has {} seconds, then it is switched off",
                    run.grace.as_secs()
                ));
                let stopped = vbox.stop(uuid, run.grace)?;
                return Ok(requested(signal, stopped == Stopped::Forced));
            }
        }
        if look.elapsed() < LOOK {
            continue;
        }
        look = Instant::now();
        let state = match vbox.state(uuid) {
            Ok(state) => {
                failures = 0;
                state
            }
            Err(_) if failures < FAILURES_MAX => {
                failures += 1;
                continue;
            }
            Err(error) => {
                // Nobody can say how it is: better off than without a watcher.
                drop(vbox.stop(uuid, Duration::ZERO));
                return Ok(ExitReason::Engine {
                    message: format!("VirtualBox does not answer: {error}"),
                    outcome: None,
                });
            }
        };
        match state {
            State::Off | State::Saved => return Ok(ExitReason::Exit { code: 0 }),
            State::Aborted => {
                let message = "VirtualBox's process of it has ended without switching it off".to_owned();
                return Ok(ExitReason::Engine { message, outcome: None });
            }
            State::Stuck => {
                let message =
                    "VirtualBox has given it up (guru meditation); its log is in Logs beside its settings"
                        .to_owned();
                drop(vbox.stop(uuid, Duration::ZERO));
                return Ok(ExitReason::Engine { message, outcome: None });
            }
            State::Starting | State::Running | State::Paused | State::Stopping | State::Other(_) => {}
        }
    }
}
