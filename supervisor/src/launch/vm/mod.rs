//! The vm rung: the same spec as for the fhs rung, in a guest of QEMU's that is made from the tree and a kernel of the lock.
//!
//! This process stays: it carries the tool's streams between the caller and the guest's ports ([`relay`]), passes signals
//! on, and writes the exit record that comes out. When it is gone, the guest's init ends the unit and switches off.

pub(crate) mod cache;
mod prepare;
mod relay;
pub(super) mod streams;
mod terminal;
mod visits;
mod watcher;

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hatchway_envs::lock::LockedPackage;
use hatchway_envs::sandbox::{self, Given, Guest, HostFacts, Spec};
use hatchway_vm::kernel::Kernel;
use hatchway_vm::qemu::accel::{self, Accel, Choice};
use hatchway_vm::qemu::{self, Command};
use hatchway_wire::control;
use hatchway_wire::guest::{CHANNELS, CONTROL, EXEC, GuestOrder};
use hatchway_wire::{ExitReason, ExitRecord, Usage, VERSION};
use nix::sys::signal::SigSet;

use super::Run;
use super::broker::Broker;
use super::run_folder;
use crate::dirs::is_root;
use crate::error::Error;
use prepare::Prepared;
use relay::{Outcome, Relay, Served};
use visits::Visits;

pub(super) use streams::nonblocking;
pub(crate) use terminal::Terminal;

/// Names in the run's folder.
pub(super) const INITRAMFS: &str = "initramfs";
pub(super) const LOG: &str = "qemu.log";
pub(super) const CONSOLE: &str = "console.log";
/// How long a guest may take to its first message. Under KVM it takes a second, in software some seconds, and more on a
/// machine that does something else.
const KVM_MAX: Duration = Duration::from_secs(10);
const TCG_MAX: Duration = Duration::from_secs(180);
/// The same for a first try in software: of some hundred guests one has been seen that never said a word, on a busy machine.
const TCG_FIRST_MAX: Duration = Duration::from_secs(60);
/// Bytes of QEMU's log that are shown.
const LOG_MAX: usize = 4096;

/// Runs the tool to its end.
///
/// # Errors
/// What a guest cannot have, a kernel or a QEMU that is not there, a guest that is not heard.
pub(super) fn run(run: &Run<'_>, spec: &Spec, host: &HostFacts) -> Result<ExitCode, Error> {
    let kernel = kernel(run)?;
    let recipe = &run.located.recipe;
    let given = Given {
        landlock: Kernel::landlock(release_of(kernel)),
        devices: super::devices::of_guest(recipe, &run.request.bind)?,
        limited: recipe.run.limits.is_some(),
    };
    let mut guest = sandbox::plan_guest(spec, host, &given)?;
    let lines = super::devices::serial_lines(run.context, recipe, &run.request.bind)?;
    let terminal = Terminal::find();
    let order = order(run, &guest, &terminal);
    let mut command = command(run, spec, &order);
    command.lines.clone_from(&lines);
    if let Some(form) = run.request.explain {
        explain(run, form, &guest, &command);
        return Ok(ExitCode::SUCCESS);
    }
    guest.bootstrap.missing =
        super::interpreter::missing(run.context, run.located, run.tree, &guest.bootstrap.process);
    let order = GuestOrder { bootstrap: guest.bootstrap.clone(), ..order };
    let program = qemu::program()?;
    let prepared = Prepared::new(run, spec, kernel, &guest, order)?;
    prepared.fill(&mut command);
    // From now on a signal is for the unit: nothing half-made is left.
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::io("block signals of", "this process")(errno.into()))?;
    let ended = in_guest(run, &program, &mut command, &prepared, &terminal)?;
    conclude(run, &guest, ended)
}

fn kernel<'a>(run: &'a Run<'_>) -> Result<&'a LockedPackage, Error> {
    let name = run.located.recipe.package.name.to_string();
    run.lock.kernel.as_ref().ok_or(Error::NoGuestKernel { name, base: run.lock.base.clone() })
}

/// `linux-image-6.1.0-57-cloud-amd64` is of that release.
fn release_of(kernel: &LockedPackage) -> &str {
    kernel.name.trim_start_matches("linux-image-")
}

/// All but what the plan is still to be given.
fn order(run: &Run<'_>, guest: &Guest, terminal: &Terminal) -> GuestOrder {
    let ceiling = super::limits::ceiling(&run.located.recipe.run);
    let mut limits: Vec<(String, String)> = Vec::new();
    let mut limit =
        |file: &str, value: Option<String>| limits.extend(value.map(|value| (file.to_owned(), value)));
    limit("memory.max", ceiling.memory.map(|bytes| bytes.to_string()));
    // Swap would let it go on slowly.
    limit("memory.swap.max", ceiling.memory.map(|_| "0".to_owned()));
    limit("pids.max", ceiling.tasks.map(|tasks| tasks.saturating_add(1).to_string()));
    limit("cpu.max", ceiling.cpu_us.map(|quota| format!("{quota} 100000")));
    GuestOrder {
        version: VERSION,
        bootstrap: guest.bootstrap.clone(),
        modules: Vec::new(),
        state: guest.state.clone(),
        network: guest.network,
        limits,
        devices: guest.devices.clone(),
        terminals: terminal.streams(),
        window: terminal.window(),
    }
}

/// QEMU's command line, but for what is made on the way.
fn command(run: &Run<'_>, spec: &Spec, order: &GuestOrder) -> Command {
    let wish = run.located.recipe.run.vm.as_ref();
    let mut ports = vec![CONTROL];
    ports.extend(streams::of(order.terminals).into_iter().map(|stream| stream.port()));
    ports.push(EXEC);
    ports.extend(order.bootstrap.channels_fd.map(|_| CHANNELS));
    Command {
        name: spec.unit.clone(),
        accel: Accel::Tcg,
        cpus: wish.and_then(|vm| vm.cpus).unwrap_or_else(prepare::processors),
        memory: prepare::memory(&run.located.recipe.run),
        kernel: "vmlinuz".into(),
        initramfs: run.folder.join(INITRAMFS),
        disks: Vec::new(),
        ports,
        network: order.network,
        lines: Vec::new(),
        wine: run.lock.runner == hatchway_envs::wine::RUNNER,
    }
}

fn explain(run: &Run<'_>, form: super::Form, guest: &Guest, command: &Command) {
    let mut lines = vec![format!("{} processors, {} bytes of memory", command.cpus, command.memory)];
    let kernel = run.lock.kernel.as_ref().map(|kernel| format!("{} {}", kernel.name, kernel.version));
    lines.extend(kernel.map(|kernel| format!("the kernel of {kernel}")));
    lines.push(format!("the tree {} as a disk", run.tree.short()));
    lines.extend((!guest.state.is_empty()).then(|| "state as a disk".to_owned()));
    lines.extend(guest.files.iter().map(|file| format!("a copy of `{file}`")));
    lines.extend(guest.network.then(|| "a network card".to_owned()));
    lines.extend(command.lines.iter().map(|line| format!("the serial line `{}`", line.display())));
    super::explain(run.context, form, &guest.bootstrap, &super::Asked { whom: "QEMU", lines: &lines });
}

/// Starts the guest, and a second time where it is not heard: in software then, since KVM may turn out not to work.
fn in_guest(
    run: &Run<'_>,
    program: &Path,
    command: &mut Command,
    prepared: &Prepared,
    terminal: &Terminal,
) -> Result<Outcome, Error> {
    let memory = accel::memory(&prepared.cache);
    let (uid, gid) = prepared.user.unwrap_or_else(own_ids);
    let choice = match run.context.config.vm_accel() {
        Some(accel) => Choice { accel, why: None, ..accel::choose(uid, gid, &memory) },
        None => accel::choose(uid, gid, &memory),
    };
    command.accel = choice.accel;
    command.kernel = prepared.kernel(choice.accel);
    let user = prepared.user.map(|(uid, gid)| (uid, choice.group.unwrap_or(gid)));
    let patience = if choice.accel == Accel::Kvm { KVM_MAX } else { TCG_FIRST_MAX };
    let ended = start(run, program, command, (prepared, user), terminal)?.run(patience)?;
    let Outcome::Unheard { why } = &ended else { return Ok(ended) };
    let why = format!("{why}{}", said(run));
    // Nothing of the tool has run, and nothing of its input was read.
    let next = if choice.accel == Accel::Kvm {
        drop(accel::remember_failure(&memory));
        command.kernel = prepared.kernel(Accel::Tcg);
        "KVM does not run it on this machine: software emulation instead"
    } else {
        // It may have been the entry.
        command.kernel = prepared.image();
        "it is started once more"
    };
    run.context.printer.say(format!("the guest is not heard ({why}): {next}"));
    command.accel = Accel::Tcg;
    start(run, program, command, (prepared, user), terminal)?.run(TCG_MAX)
}

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn start<'a>(
    run: &'a Run<'_>,
    program: &Path,
    command: &Command,
    (prepared, user): (&Prepared, Option<(u32, u32)>),
    terminal: &'a Terminal,
) -> Result<Relay<'a>, Error> {
    let path = run.folder.join(LOG);
    let log = File::create(&path).map_err(Error::io("create", &path))?;
    let running = command.start(program, user, log, prepared.lock())?;
    let served = Served { broker: Broker::new(prepared.destinations.clone()), visits: visitors(run)? };
    Relay::new(running, (terminal, served), &run.context.printer, prepared.grace)
}

/// The socket may be there from a first try.
fn visitors(run: &Run<'_>) -> Result<Visits, Error> {
    let path = run.folder.join(control::SOCKET);
    drop(fs::remove_file(&path));
    Visits::new(run.folder).map_err(Error::io("listen at", &path))
}

/// Writes the record, and says what a person should know.
fn conclude(run: &Run<'_>, guest: &Guest, ended: Outcome) -> Result<ExitCode, Error> {
    let (code, record) = match ended {
        Outcome::Ended { code, record: Some(record) } => {
            let own = &guest.bootstrap;
            let (unit, incarnation) = (own.unit.clone(), own.incarnation.clone());
            (code, ExitRecord { unit, incarnation, program: own.process.program.clone(), ..*record })
        }
        Outcome::Ended { code, record: None } => {
            // Whatever it was has been said.
            let message = format!("the shim in the guest ended with code {code} and left no record");
            let record = without_word(guest, ExitReason::Engine { message, outcome: None });
            (code, ExitRecord { code, ..record })
        }
        Outcome::Lost { why, console } => {
            keep(run, &console);
            let message = format!("the guest is gone: {why}{}", said(run));
            run.context.printer.warn(format!("the tool was ended: {message}"));
            let record = without_word(guest, ExitReason::Engine { message, outcome: None });
            (record.code, record)
        }
        Outcome::Broken { why } => {
            run.context.printer.warn(format!("the tool was ended: {why}"));
            let record = without_word(guest, ExitReason::Engine { message: why, outcome: None });
            (record.code, record)
        }
        Outcome::Asked { signal } => {
            let outcome = hatchway_wire::Outcome::Signal { signal, core: false };
            let record = without_word(guest, ExitReason::Requested { signal, forced: true, outcome });
            (record.code, record)
        }
        Outcome::Unheard { why } => {
            return Err(Error::Guest(format!("it is not heard: {why}{}", said(run))));
        }
    };
    let path = run.folder.join(run_folder::EXIT);
    let exit_file = sandbox::HostPath::try_from(path.as_path()).ok();
    super::container::write(run.context, run.folder, &ExitRecord { exit_file, ..record });
    run_folder::tidy(run.folder, &[INITRAMFS, LOG, control::SOCKET]);
    Ok(exit_code(code))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// What the guest's kernel has said last is kept beside the record.
fn keep(run: &Run<'_>, console: &[u8]) {
    if !console.is_empty() {
        drop(fs::write(run.folder.join(CONSOLE), console));
    }
}

/// What QEMU has said.
fn said(run: &Run<'_>) -> String {
    let log = fs::read(run.folder.join(LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_MAX)..]).trim().replace('\n', "; ");
    if text.is_empty() { String::new() } else { format!("; QEMU says: {text}") }
}

/// The record of a unit of which the guest has said nothing.
fn without_word(guest: &Guest, reason: ExitReason) -> ExitRecord {
    let now = super::container::now();
    ExitRecord {
        version: VERSION,
        unit: guest.bootstrap.unit.clone(),
        incarnation: guest.bootstrap.incarnation.clone(),
        program: guest.bootstrap.process.program.clone(),
        started: now,
        ended: now,
        code: reason.code(),
        reason,
        shim_pid: 0,
        tool_pid: None,
        usage: Usage::default(),
        notes: guest.bootstrap.notes.clone(),
        evidence: Vec::new(),
        memory: None,
        logged: None,
        exit_file: None,
    }
}

/// The user that QEMU runs as: the unit's, where this is root.
fn user_of(spec: &Spec) -> Option<(u32, u32)> {
    is_root().then_some((spec.identity.uid, spec.identity.gid))
}
