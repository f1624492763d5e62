//! A Windows program: Wine starts it, with a prefix that is the tool's own copy of its tree's.
//!
//! The prefix is state: what a program writes to drive C: and the registry stays. Wine is told never to update it, and a
//! tool whose tree has another prefix by now is not started, since nobody knows what becomes of its data. Two servers of
//! one registry would overwrite each other's, so a tool runs once at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, write_atomically};
use hatchway_envs::sandbox::{self, Door, HostPath, Spec, StateDir, User};
use hatchway_envs::wine::check::{Findings, check};
use hatchway_envs::wine::{self, LOADERS, MARK, PREFIX, RUNNER, environment, is_named_like_one, registry};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::rung::Devices;
use super::{Request, inside, make_state, state_folder, state_parent, tree_file, usable};
use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::{self, DeviceSlot, Located, Recipe};

/// What a Windows program begins with ("MS-DOS 2.0 Section" of Microsoft's "PE Format").
const MAGIC: &[u8] = b"MZ";
/// Wine's server, whose name goes on with `32` or `64`. A program that waits for something waits for its word, and for ever where it
/// was killed: each process of Wine's holds both ends of the pipe by which it is woken.
const SERVER: &str = "wineserver";
/// Bytes of a registry; that of a large installation has some megabytes. The tool may write to it.
const REGISTRY_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the mark of a prefix.
const MARK_BYTES_MAX: u64 = 4096;
/// The part of the registry that has the ports and the machine's identity.
const SYSTEM: &str = "system.reg";
/// Where the ports are.
const DEVICES: &str = "dosdevices";
/// The registry while it is written.
const SYSTEM_NEW: &str = ".system.reg.hatchway";
/// As many of a kind as a person reads.
const NAMED_MAX: usize = 8;
/// A change of this number looks at every program anew.
const CHECK: u32 = 1;
/// The identity that a prefix has in a tree.
const NOBODYS: &str = "\"MachineGuid\"=\"00000000-0000-4000-8000-000000000000\"";

/// Prepares the prefix and puts Wine before the program; gives what is held as long as the tool runs.
pub(super) fn add(
    context: &Context,
    (located, lock): (&Located, &Lock),
    tree: Sha256,
    request: &Request,
    spec: &mut Spec,
) -> Result<Vec<OwnedFd>, Error> {
    if lock.runner != RUNNER {
        return Ok(Vec::new());
    }
    let name = located.recipe.package.name.as_str();
    for (variable, value) in environment() {
        spec.env.entry(variable.to_owned()).or_insert_with(|| value.to_owned());
    }
    if is_windows(context, tree, spec)? {
        checked(context, lock, tree, &spec.program)?;
        let loader = LOADERS
            .into_iter()
            .find(|loader| tree_file(context, tree, loader, 1).is_ok_and(|head| !head.is_empty()));
        let program = std::mem::replace(&mut spec.program, loader.unwrap_or(LOADERS[0]).to_owned());
        spec.args.insert(0, program);
        spec.vital = Some(SERVER.to_owned());
    }
    let folder = state_folder(context, name, PREFIX)?;
    let at = inside(PREFIX)?;
    let user = spec.identity.clone();
    let mut held = Vec::new();
    if request.explain.is_none() {
        held.push(alone(context, name)?);
        // The prefix is prepared here, so it has to be here: a guest makes its disk anew from it.
        let owner = is_root().then_some((user.uid, user.gid));
        let parent = state_parent(context, name)?;
        if !request.rung.nature().folders {
            hatchway_vm::state::take_back(&parent, owner, &super::reader()?)?;
        } else {
            held.push(hatchway_vm::state::share(&parent, owner, &super::reader()?)?);
        }
        make_state(context, name, tree, PREFIX, &folder, &user)?;
        usable(&folder, &user)?;
        prepare(context, &located.recipe, (tree, request), &folder, spec)?;
    }
    if !spec.state.iter().any(|state| state.at == at) {
        let host = HostPath::try_from(folder.as_path()).map_err(sandbox::Error::from)?;
        spec.state.push(StateDir { host, at });
    }
    Ok(held)
}

/// By its content where the tree has it; by its name where the prefix has it, or Wine itself.
fn is_windows(context: &Context, tree: Sha256, spec: &Spec) -> Result<bool, Error> {
    let program = &spec.program;
    if program.contains('/') {
        let head = tree_file(context, tree, program, 2)?;
        if !head.is_empty() {
            return Ok(head == MAGIC);
        }
        // Nobody has it: that is said as of any program, where Wine would give a code of its own.
        return Ok(is_named_like_one(program) && may_be_elsewhere(spec, program));
    }
    Ok(is_named_like_one(program))
}

/// Whether a path that the tree does not have may lead into the prefix, or to what else is put over the tree.
fn may_be_elsewhere(spec: &Spec, program: &str) -> bool {
    let state = spec.state.iter().map(|state| state.at.as_str());
    let shares = spec.shares.iter().map(|share| share.at.as_str());
    let files = spec.files.iter().map(|file| file.at.as_str());
    let mut over = state.chain(shares).chain(files).chain([PREFIX]);
    // One that is relative leads from the tool's folder, which may be a shared one.
    !program.starts_with('/') || over.any(|at| Path::new(program).starts_with(at))
}

fn alone(context: &Context, name: &str) -> Result<OwnedFd, Error> {
    context.store.try_lock(&format!("wine-{name}"))?.ok_or_else(|| Error::Host {
        message: format!("`{name}` runs already, and two runs of a Windows program would spoil its registry"),
        hints: vec![
            "wait for the other run, or end it; a recipe with another `name` in [package] has state of its own"
                .to_owned(),
        ],
    })
}

fn prepare(
    context: &Context,
    recipe: &Recipe,
    (tree, request): (Sha256, &Request),
    folder: &Path,
    spec: &Spec,
) -> Result<(), Error> {
    let name = recipe.package.name.as_str();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::openat(CWD, folder, flags, Mode::empty());
    let prefix = open.map_err(|errno| Error::io("open", folder)(errno.into()))?;
    let path = format!("{}/{MARK}", PREFIX.trim_start_matches('/'));
    let new = text(&tree_file(context, tree, &path, MARK_BYTES_MAX)?);
    let old = read(&prefix, MARK, MARK_BYTES_MAX).map_err(Error::io("read", folder.join(MARK)))?;
    let old = text(&old.unwrap_or_default());
    if old != new {
        return Err(other_prefix(name, folder, (&old, &new)));
    }
    let system = read(&prefix, SYSTEM, REGISTRY_BYTES_MAX);
    let Some(system) = system.map_err(Error::io("read", folder.join(SYSTEM)))? else {
        return Err(other_prefix(name, folder, ("", &new)));
    };
    let before = text(&system);
    let is_guest = request.rung.nature().devices == Devices::Guests;
    let of_guest = super::devices::of_guest(recipe, if is_guest { &request.bind } else { &[] })?;
    let bound = |at: &str| {
        let own = is_guest && of_guest.iter().any(|(_, inside)| inside.as_str() == at);
        let line = |door: &Door| matches!(door, Door::Line { at: own, .. } if own.as_str() == at);
        own || spec.slots.iter().any(|slot| slot.at.as_str() == at)
            || spec.devices.iter().any(|device| device.at.as_str() == at)
            || spec.channels.iter().any(|channel| line(&channel.door))
    };
    let slots: Vec<DeviceSlot> =
        recipe.devices.iter().cloned().chain(super::channels::slots(recipe)).collect();
    let ports = ports(&slots, &bound);
    clear_ports(&prefix, &ports).map_err(Error::io("change", folder.join(DEVICES)))?;
    let mut after = registry::ports(&before, &ports);
    if after.contains(NOBODYS) {
        after = registry::identified(&after, &spec.machine_id);
    }
    if after == before {
        return Ok(());
    }
    write(&prefix, &after, &spec.identity).map_err(Error::io("write", folder.join(SYSTEM)))
}

/// The ports of serial slots that are bound: those that the recipe names, and for others the lowest free, in its order.
fn ports(devices: &[DeviceSlot], bound: &dyn Fn(&str) -> bool) -> Vec<(u8, String)> {
    let serial = || devices.iter().filter(|slot| slot.class == "serial");
    let named: BTreeSet<u8> = serial().filter_map(|slot| Some(slot.port?.number())).collect();
    let mut free = (1..=u8::MAX).filter(|number| !named.contains(number));
    let mut found = Vec::new();
    for slot in serial() {
        // A slot that is not bound keeps its number: what is plugged in does not change what is where.
        let number = slot.port.map(recipe::Port::number).or_else(|| free.next());
        let at = slot
            .at
            .as_ref()
            .map_or_else(|| format!("/dev/{}", slot.name.get_ref().as_str()), |at| at.as_str().to_owned());
        if let Some(number) = number.filter(|_| bound(&at)) {
            found.push((number, at));
        }
    }
    found.sort();
    found
}

/// Takes away the ports of before: Wine makes links for those in its registry and leaves others. The folder is the tool's, so
/// it is entered without following a link, and nothing but links in it is removed.
fn clear_ports(prefix: &OwnedFd, ports: &[(u8, String)]) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(prefix.as_fd(), DEVICES, flags, Mode::empty()) {
        Ok(folder) => folder,
        // What the tool made of it is none of ours; Wine makes it anew.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        let Some(number) = name.strip_prefix("com") else { continue };
        let stays = ports.iter().any(|(port, _)| port.to_string() == number);
        if !stays && entry.file_type() == rustix::fs::FileType::Symlink {
            rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Says what the program is linked with and its Wine has not, and does not start one that could not be.
fn checked(context: &Context, lock: &Lock, tree: Sha256, program: &str) -> Result<(), Error> {
    let Some(findings) = remembered(context, tree, program)? else { return Ok(()) };
    let name = program.rsplit('/').next().unwrap_or(program);
    let wine = lock.packages.iter().find(|package| package.name == wine::PACKAGE);
    let version = wine.map_or("", |package| package.version.as_str());
    let refused = |message: String, hint: &str| Err(Error::Host { message, hints: vec![hint.to_owned()] });
    if findings.dotnet {
        return refused(
            format!("`{name}` is a program for .NET, and Debian's Wine has none"),
            "look for the vendor's version for Linux; or run it in a Windows of yours: `vm = { image = \"win.qcow2\" }` in [run] of a recipe",
        );
    }
    if findings.no_32 {
        return refused(
            format!("`{name}` is a 32-bit program, and the prefix has no such part"),
            "`architectures = [\"amd64\", \"i386\"]` in [environment] of the recipe, then `hatchway lock` it again",
        );
    }
    if !findings.libraries.is_empty() {
        let list = |(library, by): &(String, String)| format!("`{library}` (wanted by `{by}`)");
        let all: Vec<String> = findings.libraries.iter().take(NAMED_MAX).map(list).collect();
        return refused(
            format!("`{name}` cannot start: neither the artifact nor Wine {version} has {}", all.join(", ")),
            "a library of the vendor's belongs beside the program; for one of Windows' own try a newer Wine: `hatchway lock \
             --suite SUITE`",
        );
    }
    for (library, function, by) in findings.functions.iter().take(NAMED_MAX) {
        context.printer.warn(format!(
            "`{by}` calls `{function}` of `{library}`, which Wine {version} does not have: it ends there if it ever does"
        ));
    }
    let more = findings.functions.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        context.printer.warn(format!("and {more} more functions"));
    }
    Ok(())
}

/// A tree does not change, so it is looked at once.
fn remembered(context: &Context, tree: Sha256, program: &str) -> Result<Option<Findings>, Error> {
    let key = Sha256::of(format!("wine check {CHECK} {tree} {program}").as_bytes());
    let folder = context.dirs.cache.join("wine");
    let path = folder.join(key.hex());
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(findings) = serde_json::from_str(&text)
    {
        return Ok(findings);
    }
    let findings = check(&context.store, tree, program)?;
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    if let Ok(text) = serde_json::to_vec(&findings) {
        write_atomically(&path, &text)?;
    }
    Ok(findings)
}

fn other_prefix(name: &str, folder: &Path, (old, new): (&str, &str)) -> Error {
    let wine = |mark: &str| mark.lines().next().filter(|line| !line.is_empty()).map(str::to_owned);
    let (old, new) = (wine(old).unwrap_or_else(|| "nobody knows what".into()), wine(new).unwrap_or_default());
    let what = if old == new { "with other software on it".to_owned() } else { format!("by {new}") };
    let folder = folder.display();
    Error::Host {
        message: format!(
            "the Windows prefix of `{name}` was made by {old}, and that of its tree {what}: a prefix is never updated \
             silently"
        ),
        hints: vec![
            format!(
                "to begin anew with the tree's, keep the old one elsewhere: `mv {folder} {folder}.old`; the registry and drive \
                 C: begin anew, too"
            ),
            "to go on with the old one, take the `recipe.lock` of before back and run `hatchway build` again"
                .into(),
        ],
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file directly in the prefix, which the tool may have replaced by anything: only a file is read. `None`: not there.
fn read(prefix: &OwnedFd, name: &str, bound: u64) -> std::io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(prefix.as_fd(), name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > bound {
        return Err(std::io::Error::other(format!("it is no file of at most {bound} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(bound).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces the registry as a whole. No link is followed, and nobody runs in the prefix now.
fn write(prefix: &OwnedFd, text: &str, user: &User) -> std::io::Result<()> {
    let unlinked = rustix::fs::unlinkat(prefix.as_fd(), SYSTEM_NEW, AtFlags::empty());
    match unlinked {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(prefix.as_fd(), SYSTEM_NEW, flags, Mode::from(0o600))?);
    file.write_all(text.as_bytes())?;
    // After a power cut there is the old registry or the new one.
    file.sync_all()?;
    if is_root() {
        std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
    }
    Ok(rustix::fs::renameat(prefix.as_fd(), SYSTEM_NEW, prefix.as_fd(), SYSTEM)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_keep_their_numbers() {
        let text = "schema = 1\n[package]\nname = \"acme\"\n\
                    [[device]]\nname = \"pump\"\nclass = \"serial\"\n\
                    [[device]]\nname = \"camera\"\nclass = \"video\"\n\
                    [[device]]\nname = \"gauge\"\nclass = \"serial\"\nat = \"/dev/ttyUSB0\"\n\
                    [[device]]\nname = \"valve\"\nclass = \"serial\"\nport = \"COM2\"\n";
        let recipe = recipe::parse(text).unwrap();
        let port = |number: u8, at: &str| (number, at.to_owned());
        let all = ports(&recipe.devices, &|_| true);
        assert_eq!(all, [port(1, "/dev/pump"), port(2, "/dev/valve"), port(3, "/dev/ttyUSB0")]);
        let without_pump = ports(&recipe.devices, &|at| at != "/dev/pump");
        assert_eq!(without_pump, [port(2, "/dev/valve"), port(3, "/dev/ttyUSB0")]);
    }

    #[test]
    fn of_two_devices_one_is_a_port() {
        let device = |name: &str, class: &str| {
            format!("[[device]]\nname = \"{name}\"\nclass = \"{class}\"\nport = \"COM3\"\n")
        };
        let head = "schema = 1\n[package]\nname = \"acme\"\n";
        assert!(recipe::parse(&format!("{head}{}", device("a", "serial"))).is_ok());
        assert!(recipe::parse(&format!("{head}{}", device("a", "video"))).is_err());
        assert!(recipe::parse(&format!("{head}{}{}", device("a", "serial"), device("b", "serial"))).is_err());
        assert!(recipe::parse(&format!("{head}{}", device("a", "serial").replace("COM3", "COM0"))).is_err());
    }

    #[test]
    fn a_prefix_of_something_else_is_named_with_what_to_do() {
        let old = "Wine 8.0~repack-4\naa\n";
        let error = other_prefix("acme", Path::new("/state/acme/p"), (old, "Wine 10.0\nbb\n"));
        assert!(
            error.to_string().contains("made by Wine 8.0~repack-4, and that of its tree by Wine 10.0"),
            "{error}"
        );
        let same = other_prefix("acme", Path::new("/p"), (old, "Wine 8.0~repack-4\ncc\n")).to_string();
        assert!(same.contains("with other software on it"), "{same}");
    }
}
