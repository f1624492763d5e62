//! The container rung: the same spec as for the fhs rung, in a container of this machine's engine.
//!
//! This process stays: it is the way of signals in, and of the exit record out ([`super::lease`]). The tool's streams are this
//! process's own, handed over as descriptors. When it is gone, the shim inside ends the unit.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hatchway_envs::lock::write_atomically;
use hatchway_envs::sandbox::{self, HostFacts, InsidePath, Lease as Way, Outside, Spec, Within};
use hatchway_images::container::{Container, LEASE, Specification, State};
use hatchway_images::engine::Engine;
use hatchway_wire::attend::LeaseReport;
use hatchway_wire::control;
use hatchway_wire::{ExitReason, ExitRecord, Outcome, Stamp, Usage, VERSION};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::termios::{OptionalActions, Termios};

use super::broker::Broker;
use super::lease::Lease;
use super::packets::{Listener, Received};
use super::{Run, run_folder, shim};
use crate::context::Context;
use crate::error::Error;
use crate::export;
use crate::report::one_line;

/// Names in the run's folder.
pub(super) const BOOTSTRAP: &str = "bootstrap.json";
pub(super) const SOCKET: &str = "lease";
/// How long the shim may take from the container's start to its first word. A cold disk takes seconds.
const CONNECT_MAX_S: u32 = 60;
/// Sent by the kernel, for a key at the terminal, rather than by a process: `SI_KERNEL`, sigaction(2).
const FROM_KERNEL: i32 = 0x80;

/// Runs the tool to its end.
///
/// # Errors
/// What the rung cannot give, an engine that is not there or refuses, a shim that is not heard.
pub(super) fn run(run: &Run<'_>, spec: &Spec, host: &HostFacts) -> Result<ExitCode, Error> {
    let at = InsidePath::new(LEASE).map_err(sandbox::Error::from)?;
    let mut within = sandbox::plan_within(spec, host, Way { at, front: in_front() })?;
    within.outside.ceiling = super::limits::ceiling(&run.located.recipe.run);
    if let Some(form) = run.request.explain {
        let lines = within.outside.lines();
        super::explain(
            run.context,
            form,
            &within.bootstrap,
            &super::Asked { whom: "the engine", lines: &lines },
        );
        return Ok(ExitCode::SUCCESS);
    }
    within.bootstrap.missing =
        super::interpreter::missing(run.context, run.located, run.tree, &within.bootstrap.process);
    let engine = Engine::find(std::env::var("DOCKER_HOST").ok().as_deref())?;
    // An engine that takes long to load it can be left by Ctrl-C: what it has by then is its own.
    let image = image(run, &engine)?;
    // From now on a signal is for the unit: nothing half-made is left.
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::io("block signals of", "this process")(errno.into()))?;
    let record = in_container(run, &engine, image, &within)?;
    let code = record.code;
    write(run.context, run.folder, &record);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The image's id in the engine, which gets it if it has it not.
fn image(run: &Run<'_>, engine: &Engine) -> Result<String, Error> {
    let program = Some(run.request.program.as_str());
    let known = export::known(run.context, run.tree);
    if let Some(id) = engine.image_of(&export::tagged(run.located, run.tree), run.tree, &known)? {
        return Ok(id);
    }
    let image = export::image(run.context, run.located, run.lock, run.tree, program)?;
    let (_, _, id) = export::load(run.context, engine, &image)?;
    Ok(id)
}

fn in_container(run: &Run<'_>, engine: &Engine, image: String, within: &Within) -> Result<ExitRecord, Error> {
    let bootstrap = run.folder.join(BOOTSTRAP);
    let mut file = fs::OpenOptions::new();
    let mut file = file
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&bootstrap)
        .map_err(Error::io("create", &bootstrap))?;
    let text = serde_json::to_vec(&within.bootstrap).map_err(sandbox::Error::from)?;
    file.write_all(&text).map_err(Error::io("write", &bootstrap))?;
    let socket = run.folder.join(SOCKET);
    let listener = Listener::new(run.folder, SOCKET).map_err(Error::io("listen at", &socket))?;
    if let Some(remapped) = run.remapped {
        [&bootstrap, &socket].into_iter().try_for_each(|path| remapped.give(path))?;
    }
    let container = engine.create(&Specification {
        unit: within.bootstrap.unit.clone(),
        incarnation: within.bootstrap.incarnation.clone(),
        image,
        shim: shim()?,
        bootstrap: bootstrap.clone(),
        lease: socket.clone(),
        grace: Duration::from_millis(
            within.bootstrap.grace_ms.saturating_add(within.bootstrap.services_ms()),
        ),
        outside: Outside::clone(&within.outside),
    })?;
    container.start()?;
    if let (Some(remapped), Some(pid)) = (run.remapped, container.first_process()?) {
        remapped.delegate(pid)?;
    }
    let lease = connected(&listener, &container)?;
    // Nobody else comes in, and what the shim has read nobody needs.
    drop(listener);
    drop(fs::remove_file(&socket));
    let mut channels = Channels::new(within).map_err(Error::io("make a way for", "the channels"))?;
    let theirs = channels.as_mut().and_then(|channels| channels.theirs.take());
    let given = lease.give_streams(theirs.as_ref().map(AsFd::as_fd));
    given.map_err(Error::io("hand over the streams through", &socket))?;
    run.held.iter().for_each(|held| lease.keep(held.as_fd()));
    drop(theirs);
    drop(fs::remove_file(&bootstrap));
    // From here on the tool may have done something: whatever goes wrong, it has a record.
    let terminal = terminal();
    let ended = come_and_go(run, &lease, channels);
    if let Ok(Some(mut record)) = ended {
        record.exit_file.clone_from(&spec_exit(run));
        return Ok(record);
    }
    if let Some(settings) = terminal {
        // The shim had no time to.
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &settings).ok();
    }
    let reason = match ended {
        // With the container, which goes next, the tool ends.
        Err(error) => ExitReason::Engine { message: one_line(&error), outcome: None },
        Ok(_) => lost(&container.state()),
    };
    Ok(without_word(run, within, reason))
}

/// Serves the unit and those who come to it, until its record is here.
fn come_and_go(
    run: &Run<'_>,
    lease: &Lease,
    channels: Option<Channels>,
) -> Result<Option<ExitRecord>, Error> {
    let door = run.folder.join(control::SOCKET);
    let visitors = Listener::new(run.folder, control::SOCKET).map_err(Error::io("listen at", &door))?;
    let ended = serve(run, (lease, &visitors), channels);
    drop(fs::remove_file(&door));
    ended
}

fn spec_exit(run: &Run<'_>) -> Option<sandbox::HostPath> {
    sandbox::HostPath::try_from(run.folder.join(run_folder::EXIT).as_path()).ok()
}

/// Waits for the shim's first word, as long as the container lives.
fn connected(listener: &Listener, container: &Container) -> Result<Lease, Error> {
    for _ in 0..CONNECT_MAX_S {
        if let Some(lease) = listener.accept(1).map_err(Error::io("hear from", LEASE))? {
            return Ok(lease.into());
        }
        let state = container.state();
        if !state.running {
            break;
        }
    }
    let said = container.log();
    let said = said.trim();
    let what = if said.is_empty() { "nothing" } else { said };
    Err(Error::Engine(format!("the shim in the container is not heard; it said: {what}")))
}

/// The unit's channels.
struct Channels {
    broker: Broker,
    way: OwnedFd,
    /// For the shim.
    theirs: Option<OwnedFd>,
}

impl Channels {
    fn new(within: &Within) -> std::io::Result<Option<Self>> {
        let Some(broker) = Broker::new(within.bootstrap.destinations()) else { return Ok(None) };
        let (way, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        super::vm::nonblocking(&way)?;
        Ok(Some(Self { broker, way, theirs: Some(theirs) }))
    }

    fn watches(&self) -> Vec<PollFd<'_>> {
        self.broker.watches(self.way.as_fd())
    }

    /// Carries what there is; false when the unit is not listened to any more.
    fn turn(&mut self, run: &Run<'_>) -> bool {
        let warn = |words: String| run.context.printer.warn(words);
        match self.broker.turn(self.way.as_fd()) {
            Ok(words) => words.into_iter().for_each(warn),
            Err(broken) => {
                warn(format!("the channels are closed: the unit sent {broken}"));
                return false;
            }
        }
        true
    }
}

/// Passes signals in and channels both ways until the record comes out; `None` when the way ended without one.
fn serve(
    run: &Run<'_>,
    (lease, visitors): (&Lease, &Listener),
    mut channels: Option<Channels>,
) -> Result<Option<ExitRecord>, Error> {
    let failed = |errno: nix::Error| Error::io("watch signals of", "this process")(errno.into());
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&SigSet::all(), flags).map_err(failed)?;
    loop {
        channels = channels.and_then(|mut channels| channels.turn(run).then_some(channels));
        let mut fds =
            vec![PollFd::new(lease, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        fds.push(PollFd::new(visitors, PollFlags::IN));
        fds.extend(channels.iter().flat_map(Channels::watches));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for", "the container")(errno.into())),
        }
        // One that cannot be taken now is no reason to end the tool.
        while let Ok(Some(visitor)) = visitors.next() {
            lease.visit(&visitor);
        }
        while let Some(info) = signals.read_signal().map_err(failed)? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            let ours = [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGURG, Signal::SIGTTIN, Signal::SIGTTOU];
            if !ours.iter().any(|signal| *signal as i32 == number) {
                lease.signal(number, info.ssi_code == FROM_KERNEL);
            }
        }
        loop {
            match lease.receive().map_err(Error::io("hear from", LEASE))? {
                Received::Message(LeaseReport::Ended { record }, _) => return Ok(Some(*record)),
                // As the tool is, until the shell goes on with it.
                Received::Message(LeaseReport::Stopped { .. }, _) => drop(raise(Signal::SIGSTOP)),
                Received::Nothing => break,
                Received::End => return Ok(None),
            }
        }
    }
}

/// The way ended without a record: the shim was killed, and with it the container.
fn lost(state: &State) -> ExitReason {
    let killed = Outcome::Signal { signal: Signal::SIGKILL as i32, core: false };
    match state {
        State { oom: true, .. } => ExitReason::Oom { kills: 1 },
        State { known: true, running: false, error, .. } if !error.is_empty() => {
            ExitReason::Engine { message: error.clone(), outcome: Some(killed) }
        }
        State { known: true, .. } => ExitReason::Engine {
            message: "the container was killed from outside".to_owned(),
            outcome: Some(killed),
        },
        State { known: false, .. } => ExitReason::Engine {
            message: "the container is gone, and its engine does not know how it ended".to_owned(),
            outcome: None,
        },
    }
}

/// The record of a unit whose shim has sent none.
fn without_word(run: &Run<'_>, within: &Within, reason: ExitReason) -> ExitRecord {
    let message = match &reason {
        ExitReason::Oom { .. } => "the unit took more memory than it may".to_owned(),
        ExitReason::Engine { message, .. } => message.clone(),
        _ => String::new(),
    };
    run.context.printer.warn(format!("the tool was ended: {message}"));
    let now = now();
    ExitRecord {
        version: VERSION,
        unit: within.bootstrap.unit.clone(),
        incarnation: within.bootstrap.incarnation.clone(),
        program: within.bootstrap.process.program.clone(),
        started: now,
        ended: now,
        code: reason.code(),
        reason,
        shim_pid: 0,
        tool_pid: None,
        usage: Usage::default(),
        notes: within.bootstrap.notes.clone(),
        evidence: Vec::new(),
        memory: None,
        logged: None,
        exit_file: spec_exit(run),
    }
}

pub(super) fn now() -> Stamp {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    };
    Stamp { realtime_ns: read(ClockId::Realtime), tai_ns: 0, monotonic_ns: read(ClockId::Monotonic) }
}

/// As the shim writes it on the fhs rung: whole or not at all. The tool has run, whatever becomes of its record.
pub(super) fn write(context: &Context, folder: &Path, record: &ExitRecord) {
    let path = folder.join(run_folder::EXIT);
    let text = serde_json::to_string_pretty(record).map_err(sandbox::Error::from);
    let written =
        text.map_err(Error::from).and_then(|text| Ok(write_atomically(&path, (text + "\n").as_bytes())?));
    if let Err(error) = written {
        context.printer.warn(format!("how the tool ended is not recorded: {}", one_line(&error)));
    }
}

/// Whether this process may read the keys of its terminal.
fn in_front() -> bool {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let group = streams.into_iter().find_map(|stream| rustix::termios::tcgetpgrp(stream).ok());
    group.is_some_and(super::is_own_group)
}

/// The settings of the terminal that keys come from.
fn terminal() -> Option<Termios> {
    rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()
}
