//! A Windows program: Wine starts it, with a prefix that is the tool's own copy of its tree's.
//!
//! The prefix is state: what a program writes to drive C: and the registry stays. Wine is told never to update it, and a
//! tool whose tree has another prefix by now is not started, since nobody knows what becomes of its data. Two servers of
//! one registry would overwrite each other's, so a tool runs once at a time.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::Lock;
use hatchway_envs::sandbox::{self, HostPath, Spec, StateDir, User};
use hatchway_envs::wine::{LOADER, MARK, PREFIX, RUNNER, environment, is_named_like_one, registry};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::{Request, inside, make_state, state_folder, tree_file, usable};
use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::Located;

/// What a Windows program begins with ("MS-DOS 2.0 Section" of Microsoft's "PE Format").
const MAGIC: &[u8] = b"MZ";
/// Bytes of a registry; that of a large installation has some megabytes. The tool may write to it.
const REGISTRY_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the mark of a prefix.
const MARK_BYTES_MAX: u64 = 4096;
/// The part of the registry that has the ports and the machine's identity.
const SYSTEM: &str = "system.reg";
/// It while it is written.
const SYSTEM_NEW: &str = ".system.reg.hatchway";
/// The identity that a prefix has in a tree.
const NOBODYS: &str = "\"MachineGuid\"=\"00000000-0000-4000-8000-000000000000\"";

/// Prepares the prefix and puts Wine before the program; gives what is held as long as the tool runs.
pub(super) fn add(
    context: &Context,
    (located, lock): (&Located, &Lock),
    tree: Sha256,
    request: &Request,
    spec: &mut Spec,
) -> Result<Option<OwnedFd>, Error> {
    if lock.runner != RUNNER {
        return Ok(None);
    }
    let name = located.recipe.package.name.as_str();
    for (variable, value) in environment() {
        spec.env.entry(variable.to_owned()).or_insert_with(|| value.to_owned());
    }
    if is_windows(context, tree, &spec.program)? {
        let program = std::mem::replace(&mut spec.program, LOADER.to_owned());
        spec.args.insert(0, program);
    }
    let folder = state_folder(context, name, PREFIX)?;
    let at = inside(PREFIX)?;
    let user = spec.identity.clone();
    let mut held = None;
    if request.explain.is_none() {
        held = Some(alone(context, name)?);
        make_state(context, name, tree, PREFIX, &folder, &user)?;
        usable(&folder, &user)?;
        prepare(context, name, tree, &folder, spec)?;
    }
    if !spec.state.iter().any(|state| state.at == at) {
        let host = HostPath::try_from(folder.as_path()).map_err(sandbox::Error::from)?;
        spec.state.push(StateDir { host, at });
    }
    Ok(held)
}

/// By its content where the tree has it; by its name where the prefix has it, or Wine itself.
fn is_windows(context: &Context, tree: Sha256, program: &str) -> Result<bool, Error> {
    if program.contains('/') {
        let head = tree_file(context, tree, program, 2)?;
        if !head.is_empty() {
            return Ok(head == MAGIC);
        }
    }
    Ok(is_named_like_one(program))
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
    name: &str,
    tree: Sha256,
    folder: &Path,
    spec: &Spec,
) -> Result<(), Error> {
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
    let mut after = registry::ports(&before, &ports(spec));
    if after.contains(NOBODYS) {
        after = registry::identified(&after, &spec.machine_id);
    }
    if after == before {
        return Ok(());
    }
    write(&prefix, &after, &spec.identity).map_err(Error::io("write", folder.join(SYSTEM)))
}

/// Serial slots in the recipe's order: the first is `COM1`.
fn ports(spec: &Spec) -> Vec<String> {
    let serial = spec.slots.iter().filter(|slot| slot.subsystem == "tty");
    serial.map(|slot| slot.at.as_str().to_owned()).collect()
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
            "to go on with the old one, take the `recipe.lock` of before back and run `hatchway build` again".into(),
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
    if is_root() {
        std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
    }
    Ok(rustix::fs::renameat(prefix.as_fd(), SYSTEM_NEW, prefix.as_fd(), SYSTEM)?)
}
