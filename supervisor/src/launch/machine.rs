//! A guest from a disk image that somebody brings: from the recipe to a machine, and its run in the foreground.
//!
//! This process stays: it presses the power button when it is told to end, has USB devices follow their names, and writes the
//! record of the end. QEMU and its socket folder belong to the unit's user; when this process is gone, QEMU ends.

mod door;
mod qemu;
pub(crate) mod snapshots;
mod virtualbox;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::write_atomically;
use hatchway_envs::sandbox;
use hatchway_vm::machine::{
    self, Disk, Display, Format, Identity, Mac, Machine, Network, Serial, Share, Uuid,
};
use hatchway_vm::usb;
use hatchway_wire::{ExitReason, ExitRecord, Outcome, Stamp, Usage, VERSION};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::bindings::Bindings;
use super::{Form, container, run_folder};
use door::Door;
use rustix::fs::OFlags;

use crate::context::Context;
use crate::error::Error;
use crate::recipe::{self, Driver, IdentityItem, Located, SerialLine, System, Vm};

/// The folder of a guest's sockets, in its run's folder.
pub(crate) const FOLDER: &str = "machine";
/// How long a guest may take to shut down where the recipe says nothing: Windows with updates takes longer, and says so.
const GRACE_S: u32 = 60;
/// What a guest has where the recipe says nothing.
const MEMORY: u64 = 2 << 30;
/// As many processors as both drivers can give.
const CPUS_MAX: u32 = 64;
/// The least that both drivers can give.
const MEMORY_MIN: u64 = 4 << 20;
/// The first three bytes of an address that nobody bought, QEMU's custom; the others are a name's own.
const MAC_HEAD: &str = "52:54:00";

/// What the command line adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The run that it is, where a recorder keeps it and its folder.
    pub(crate) kept: Option<&'a str>,
    /// The unit that it is, where that is not called as the guest is.
    pub(crate) unit: Option<&'a str>,
    pub(crate) bind: &'a [String],
    pub(crate) share: &'a [String],
    pub(crate) user: Option<&'a str>,
    pub(crate) explain: Option<Form>,
}

/// What a driver needs to run it.
struct Run<'a> {
    context: &'a Context,
    name: &'a str,
    /// The name of the unit.
    unit: &'a str,
    /// A recorder keeps it: others are answered how it is.
    is_kept: bool,
    vm: &'a Vm,
    machine: Machine,
    /// Which image it is, in one line.
    image: String,
    /// Where what is kept of it lies.
    state: PathBuf,
    /// The run's own folder.
    folder: PathBuf,
    incarnation: String,
    /// Whom QEMU runs as; this process's own user otherwise.
    user: Option<(u32, u32)>,
    grace: Duration,
    explain: Option<Form>,
    began: Stamp,
}

/// How it ended, and what the record says of it.
struct End {
    reason: ExitReason,
    program: String,
    pid: Option<i32>,
}

/// Runs it to its end.
///
/// # Errors
/// What the recipe asks for and a driver cannot give, an image that is not what it should be, a driver that is not there.
pub(crate) fn run(context: &Context, located: &Located, wish: &Wish<'_>) -> Result<ExitCode, Error> {
    let recipe = &located.recipe;
    let name = recipe.package.name.as_str();
    let Some(vm) = recipe.image() else { return Err(Error::Usage("the recipe names no disk image".into())) };
    let what = recipe.unsupported();
    if !what.is_empty() {
        return Err(Error::Unsupported { name: name.to_owned(), what });
    }
    let bindings = Bindings::new(recipe, wish.bind)?;
    let (user, mode) = super::identity(name, wish.user)?;
    let incarnation = wish.kept.map_or_else(super::incarnation, str::to_owned);
    let unit = wish.unit.unwrap_or(name);
    let folder = run_folder::path(context, unit, &incarnation)?;
    let disk = disk(located, vm, &bindings)?;
    let state = context.dirs.state(name);
    let mut run = Run {
        context,
        name,
        unit,
        is_kept: wish.kept.is_some(),
        vm,
        image: String::new(),
        machine: compose(context, recipe, vm, wish, &bindings, &folder.join(FOLDER), disk)?,
        state,
        folder,
        incarnation,
        user: matches!(mode, sandbox::Mode::Root { .. }).then_some((user.uid, user.gid)),
        grace: grace(recipe).unwrap_or_default(),
        explain: wish.explain,
        began: container::now(),
    };
    if run.explain.is_none() {
        fs::create_dir_all(&run.state).map_err(Error::io("create", &run.state))?;
        run.image = known(&run)?;
        run_folder::make(&run.folder)?;
    }
    let ended = match vm.driver {
        Driver::Qemu => qemu::run(&run),
        Driver::Virtualbox => virtualbox::run(&run),
    };
    // Its sockets lead nowhere any more.
    remove(&run.folder.join(FOLDER));
    run_folder::tidy(&run.folder, &[hatchway_wire::control::SOCKET]);
    match ended {
        Ok(Some(end)) => record(&run, end),
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            if run.explain.is_none() && !run.is_kept {
                // Nothing ran, so there is nothing to record.
                run_folder::remove(&run.folder);
            }
            Err(error)
        }
    }
}

/// How long such a guest has to shut down; nothing where the recipe is of a tool.
pub(crate) fn grace(recipe: &recipe::Recipe) -> Option<Duration> {
    recipe.image().map(|vm| Duration::from_secs(vm.grace_seconds.unwrap_or(GRACE_S).into()))
}

/// The image: bound, beside the recipe, or where its full path says.
fn disk(located: &Located, vm: &Vm, bindings: &Bindings<'_>) -> Result<Disk, Error> {
    let beside = located.path.parent().unwrap_or(Path::new("."));
    let path = match (bindings.get("image"), &vm.image) {
        (Some(bound), _) => PathBuf::from(bound),
        (None, named) => beside.join(named.as_deref().unwrap_or_default()),
    };
    let Ok(found) = fs::canonicalize(&path) else {
        return Err(Error::Host {
            message: format!("there is no disk image `{}`", path.display()),
            hints: vec!["put it there, or name it: `--bind image=FILE`".into()],
        });
    };
    let named = vm.format.as_ref().map(|format| format.0);
    let format = named.or_else(|| Format::of_name(&path)).ok_or_else(|| Error::Host {
        message: format!("the name of `{}` does not say which format it has", path.display()),
        hints: vec!["say it in the recipe: `format = \"raw\"`, or qcow2, vdi, vmdk".into()],
    })?;
    Ok(Disk { path: found, format, read_only: false })
}

/// The recipe's wishes and this machine's values as a machine.
fn compose(
    context: &Context,
    recipe: &recipe::Recipe,
    vm: &Vm,
    wish: &Wish<'_>,
    bindings: &Bindings<'_>,
    folder: &Path,
    disk: Disk,
) -> Result<Machine, Error> {
    let name = recipe.package.name.as_str();
    let (cpus, memory) = (vm.cpus.unwrap_or(1), vm.memory.map_or(MEMORY, recipe::Size::bytes));
    if !(1..=CPUS_MAX).contains(&cpus) || memory < MEMORY_MIN {
        return Err(Error::Usage(format!("a guest has 1 to {CPUS_MAX} `cpus`, and `memory` of at least 4M")));
    }
    let line = |(number, line): (usize, &SerialLine)| match line {
        SerialLine::Pty => Serial::Pty,
        SerialLine::Socket | SerialLine::Stdio => Serial::Socket(folder.join(format!("com{}", number + 1))),
    };
    if vm.serial.iter().filter(|line| **line == SerialLine::Stdio).count() > 1 {
        return Err(Error::Usage("only one of `serial` can be \"stdio\"".into()));
    }
    Ok(Machine {
        name: name.to_owned(),
        cpus,
        memory,
        disks: vec![disk],
        system: match vm.system {
            System::Other => machine::System::Other,
            System::Linux => machine::System::Linux,
            System::Windows => machine::System::Windows,
        },
        serial: vm.serial.iter().enumerate().map(line).collect(),
        network: match recipe.run.network {
            recipe::Network::None => Network::None,
            recipe::Network::Host => Network::Open,
            recipe::Network::Loopback | recipe::Network::Allow { .. } => Network::Restricted,
        },
        forwards: vm.ports.iter().map(|port| port.0).collect(),
        usb: usb_names(context, recipe, bindings)?,
        shares: wish.share.iter().enumerate().map(shared).collect::<Result<_, _>>()?,
        identity: identity(context, recipe, vm, bindings)?,
        display: if vm.vnc { Display::Vnc(folder.join("vnc")) } else { Display::None },
    })
}

/// `DIR[:ro]`
fn shared((number, text): (usize, &String)) -> Result<Share, Error> {
    let (path, read_only) = text.strip_suffix(":ro").map_or((text.as_str(), false), |path| (path, true));
    let path = fs::canonicalize(path).map_err(Error::io("find the shared folder", path))?;
    Ok(Share { name: format!("share{number}"), path, read_only })
}

fn usb_names(
    context: &Context,
    recipe: &recipe::Recipe,
    bindings: &Bindings<'_>,
) -> Result<Vec<usb::Name>, Error> {
    let mut names = Vec::new();
    for slot in &recipe.devices {
        let slot = slot.name.get_ref().as_str();
        match bindings.get(slot) {
            Some(value) => names.push(value.parse().map_err(|why| Error::Usage(format!("`--bind {slot}`: {why}")))?),
            None => context.printer.warn(format!(
                "the device slot `{slot}` is not bound; bind it with `--bind {slot}=usb:VENDOR:PRODUCT:SERIAL` or \
                 `by-path:pci-…-usb-0:PORT`"
            )),
        }
    }
    Ok(names)
}

/// What licences are bound to: what is bound here, else what is always the same for this tool on this machine.
fn identity(
    context: &Context,
    recipe: &recipe::Recipe,
    vm: &Vm,
    bindings: &Bindings<'_>,
) -> Result<Identity, Error> {
    let needs = recipe.identity.iter().flat_map(|identity| &identity.needs);
    for item in needs {
        let slot = format!("identity.{item}");
        match item {
            IdentityItem::Mac | IdentityItem::MachineId if bindings.get(&slot).is_none() => {
                context.printer.warn(format!(
                    "the guest's licence is bound to a {item}, and none is bound; bind it with `--bind {slot}=…`"
                ));
            }
            IdentityItem::Mac | IdentityItem::MachineId => {}
            IdentityItem::Interface | IdentityItem::Hostname => {
                return Err(Error::Usage(format!("a guest's {item} is its own: it is set inside")));
            }
        }
    }
    let own = super::machine_id(recipe.package.name.as_str());
    let usage = |why: String| Error::Usage(format!("`--bind identity.…`: {why}"));
    let id = bindings.get("identity.machine-id").unwrap_or(&own);
    let mac = match bindings.get("identity.mac") {
        Some(mac) => mac.parse::<Mac>().map_err(usage)?,
        None => format!("{MAC_HEAD}:{}:{}:{}", &own[..2], &own[2..4], &own[4..6]).parse().map_err(usage)?,
    };
    let text = |text: &Option<recipe::TableText>| text.as_ref().map(|text| text.0.clone());
    Ok(Identity {
        uuid: Some(
            uuid(id)
                .ok_or_else(|| usage(format!("`{id}` is no number of a machine: a UUID, or 32 digits")))?,
        ),
        mac: Some(mac),
        manufacturer: text(&vm.manufacturer),
        product: text(&vm.product),
        serial: text(&vm.serial_number),
    })
}

/// A UUID, or the same digits in a row as in `/etc/machine-id`.
fn uuid(text: &str) -> Option<Uuid> {
    if text.len() != 32 || !text.is_ascii() {
        return text.parse().ok();
    }
    let (a, b, c, d, e) = (&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
    format!("{a}-{b}-{c}-{d}-{e}").parse().ok()
}

/// What is remembered of an image, so that a file of many gigabytes is read once.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    path: PathBuf,
    size: u64,
    inode: u64,
    changed_ns: i128,
    sha256: String,
}

/// Compares the image with the recipe's digest, and says in one line which one it is.
fn known(run: &Run<'_>) -> Result<String, Error> {
    let path = &run.machine.disks[0].path;
    let meta = fs::metadata(path).map_err(Error::io("look at", path))?;
    let changed_ns = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    let Some(wanted) = run.vm.sha256 else {
        return Ok(format!("{} bytes, changed at {}", meta.len(), meta.mtime()));
    };
    let line = format!("sha256 {}", wanted.hex());
    let note = run.state.join("image.json");
    let mut now =
        Note { path: path.clone(), size: meta.len(), inode: meta.ino(), changed_ns, sha256: wanted.hex() };
    let before = fs::read(&note).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
    if before.as_ref() == Some(&now) {
        return Ok(line);
    }
    run.context.printer.say(format!(
        "comparing `{}` ({} MiB) with the recipe",
        path.display(),
        meta.len() >> 20
    ));
    let (found, _) = Sha256::of_file(path).map_err(Error::io("read", path))?;
    now.sha256 = found.hex();
    if found != wanted {
        return Err(Error::Host {
            message: format!("the disk image `{}` is not the recipe's: its sha256 is {}", path.display(), now.sha256),
            hints: vec![
                "bring the image that the recipe means; a guest that ran on it without Hatchway has changed it".into(),
                "or, if this one is meant, write that digest into the recipe".into(),
            ],
        });
    }
    let text = serde_json::to_vec(&now).map_err(sandbox::Error::from)?;
    write_atomically(&note, &text)?;
    Ok(line)
}

/// A folder for the unit's user alone, in one of ours. What is there under its name and is none is refused.
fn private(path: &Path, user: Option<(u32, u32)>) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", path)(error));
        }
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::io("open", path)(errno.into()))?;
    rustix::fs::fchmod(&folder, rustix::fs::Mode::from(0o700))
        .map_err(|errno| Error::io("change the mode of", path)(errno.into()))?;
    if let Some((uid, gid)) = user {
        std::os::unix::fs::fchown(&folder, Some(uid), Some(gid))
            .map_err(Error::io("change the owner of", path))?;
    }
    Ok(())
}

/// Files of a folder that are looked at before it goes: a disk, a few sockets.
const FILES_MAX: usize = 64;

/// Removes a folder without folders in it. What cannot be removed is tried again at the next start.
fn remove(folder: &Path) {
    for file in fs::read_dir(folder).into_iter().flatten().flatten().take(FILES_MAX) {
        drop(fs::remove_file(file.path()));
    }
    drop(fs::remove_dir(folder));
}

/// Where a person finds what the recipe asked for.
fn tell(run: &Run<'_>, terminals: &[Option<PathBuf>]) {
    let printer = &run.context.printer;
    for (number, (wish, line)) in run.vm.serial.iter().zip(&run.machine.serial).enumerate() {
        let at = match (wish, line, terminals.get(number)) {
            (SerialLine::Stdio, ..) => "here".to_owned(),
            (_, Serial::Socket(path), _) => path.display().to_string(),
            (_, Serial::Pty, Some(Some(path))) => path.display().to_string(),
            (_, Serial::Pty, _) => "nowhere".to_owned(),
        };
        printer.say(format!("COM{}: {at}", number + 1));
    }
    for forward in &run.machine.forwards {
        printer.say(format!("port {} of the guest: {}", forward.port, forward.listen));
    }
    if let Display::Vnc(path) = &run.machine.display {
        printer.say(format!("screen (VNC): {}", path.display()));
    }
}

/// For who comes to a unit, once the guest has started.
fn door(run: &Run<'_>, process: Option<u32>) -> Result<Option<Door>, Error> {
    let at = || Error::io("listen at", run.folder.join(hatchway_wire::control::SOCKET));
    run.is_kept.then(|| Door::new(&run.folder, process)).transpose().map_err(|error| at()(error))
}

/// Somebody asked for the end: how it came about then.
fn requested(signal: Signal, forced: bool) -> ExitReason {
    let outcome = if forced {
        Outcome::Signal { signal: Signal::SIGKILL as i32, core: false }
    } else {
        Outcome::Exit { code: 0 }
    };
    ExitReason::Requested { signal: signal as i32, forced, outcome }
}

/// As on the other rungs: `exit.json`, and the exit code that it says.
fn record(run: &Run<'_>, end: End) -> Result<ExitCode, Error> {
    if let ExitReason::Engine { message, .. } = &end.reason {
        run.context.printer.warn(format!("the guest was ended: {message}"));
    }
    let code = end.reason.code();
    let record = ExitRecord {
        version: VERSION,
        unit: run.unit.to_owned(),
        incarnation: run.incarnation.clone(),
        program: end.program,
        started: run.began,
        ended: container::now(),
        code,
        reason: end.reason,
        shim_pid: i32::try_from(std::process::id()).unwrap_or_default(),
        tool_pid: end.pid,
        usage: Usage::default(),
        notes: Vec::new(),
        evidence: Vec::new(),
        memory: None,
        logged: None,
        exit_file: sandbox::HostPath::try_from(run.folder.join(run_folder::EXIT).as_path()).ok(),
    };
    container::write(run.context, &run.folder, &record);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// What would be run, one command line a line.
fn explain(context: &Context, form: Form, lines: &[Vec<String>]) {
    match form {
        Form::Json => context.printer.data(format_args!("{:#}", serde_json::json!({ "commands": lines }))),
        Form::Lines => {
            for words in lines {
                let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                context.printer.data(quoted.join(" "));
            }
        }
    }
}

/// For a shell, where it needs quotes.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=.,:/@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_machines_have_two_forms() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(uuid(digits).unwrap().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(uuid("01234567-89ab-cdef-0123-456789abcdef"), uuid(digits));
        assert_eq!((uuid(""), uuid(&"ä".repeat(16)), uuid(&"g".repeat(32))), (None, None, None));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("type=1,serial=0"), "type=1,serial=0");
        assert_eq!((quoted("").as_str(), quoted("it's").as_str()), ("''", "'it'\\''s'"));
    }
}
