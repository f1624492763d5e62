//! Snapshots of what is kept of a guest that is off: by either driver, by the same names.

use std::path::PathBuf;

use hatchway_vm::qemu_image::snapshots;
use hatchway_vm::virtualbox::{Programs, Reason, VirtualBox};
use serde::Serialize;

use super::{qemu, virtualbox};
use crate::context::Context;
use crate::error::Error;
use crate::recipe::{Driver, Located};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    Take(&'a str),
    Restore(&'a str),
    Delete(&'a str),
}

/// A snapshot, for people and programs.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    /// Seconds since 1970; VirtualBox does not say it.
    pub(crate) made: Option<i64>,
    /// With the memory of a guest that ran.
    pub(crate) memory: Option<bool>,
}

/// Where what is kept lies.
enum Kept {
    Disk(PathBuf),
    Machine(VirtualBox, hatchway_vm::machine::Uuid),
}

/// The snapshots of a guest.
///
/// # Errors
/// When the recipe is no kept guest's, it has not run yet, or a driver fails.
pub(crate) fn list(context: &Context, located: &Located) -> Result<Vec<Snapshot>, Error> {
    match kept(context, located)? {
        Kept::Disk(disk) => {
            let all = snapshots::list(&disk)?.into_iter();
            let one = |snapshot: snapshots::Snapshot| Snapshot {
                name: snapshot.name,
                made: Some(snapshot.made),
                memory: Some(snapshot.memory > 0),
            };
            Ok(all.map(one).collect())
        }
        Kept::Machine(vbox, uuid) => {
            let all = vbox.snapshots(uuid)?.into_iter();
            Ok(all.map(|snapshot| Snapshot { name: snapshot.name, made: None, memory: None }).collect())
        }
    }
}

/// Does it.
///
/// # Errors
/// As [`list`], and while the guest runs.
pub(crate) fn carry_out(context: &Context, located: &Located, wish: Wish<'_>) -> Result<(), Error> {
    let name = located.recipe.package.name.as_str();
    let done = match kept(context, located)? {
        Kept::Disk(disk) => match wish {
            Wish::Take(snapshot) => snapshots::take(&disk, snapshot),
            Wish::Restore(snapshot) => snapshots::restore(&disk, snapshot),
            Wish::Delete(snapshot) => snapshots::delete(&disk, snapshot),
        },
        Kept::Machine(vbox, uuid) => {
            if !vbox.state(uuid)?.is_off() {
                return Err(runs(name));
            }
            let names: Vec<String> = vbox.snapshots(uuid)?.into_iter().map(|one| one.name).collect();
            let there = |snapshot: &str| names.iter().any(|name| name == snapshot);
            match wish {
                // VirtualBox would make a second one of the same name.
                Wish::Take(snapshot) if there(snapshot) => {
                    Err(hatchway_vm::Error::SnapshotThere(snapshot.to_owned()))
                }
                Wish::Take(snapshot) => vbox.snapshot(uuid, snapshot),
                Wish::Restore(snapshot) | Wish::Delete(snapshot) if !there(snapshot) => {
                    Err(hatchway_vm::Error::NoSnapshot { name: snapshot.to_owned(), there: names })
                }
                Wish::Restore(snapshot) => vbox.restore(uuid, snapshot),
                Wish::Delete(snapshot) => vbox.delete_snapshot(uuid, snapshot),
            }
        }
    };
    match done {
        Err(hatchway_vm::Error::Busy(_)) => Err(runs(name)),
        other => Ok(other?),
    }
}

fn runs(name: &str) -> Error {
    Error::Host {
        message: format!("`{name}` runs, and a snapshot of its disk would be one of a disk in use"),
        hints: vec!["end it first: Ctrl-C or TERM to its `hatchway run` presses the power button".into()],
    }
}

fn kept(context: &Context, located: &Located) -> Result<Kept, Error> {
    let name = located.recipe.package.name.as_str();
    let Some(vm) = located.recipe.image() else {
        return Err(Error::Host {
            message: format!("`{name}` is no guest from a disk image, and only those have snapshots"),
            hints: vec!["a tool's state is a folder: copy it while the tool does not run".into()],
        });
    };
    if !vm.keep {
        return Err(Error::Host {
            message: format!("nothing of `{name}` is kept: every start is the first"),
            hints: vec!["`keep = true` in `vm` of the recipe keeps what the guest writes".into()],
        });
    }
    let new = || Error::Host {
        message: format!("`{name}` has not run yet, so there is nothing to keep"),
        hints: vec![format!("run it once: `hatchway run {name}`")],
    };
    let state = context.dirs.state(name);
    match vm.driver {
        Driver::Qemu => {
            let disk = qemu::kept(&state);
            if std::fs::symlink_metadata(&disk).is_ok() { Ok(Kept::Disk(disk)) } else { Err(new()) }
        }
        Driver::Virtualbox => {
            virtualbox::not_root()?;
            let vbox = VirtualBox::find(Programs::default())?;
            let (_, uuid) = virtualbox::machine(&state, name);
            match vbox.state(uuid) {
                Ok(_) => Ok(Kept::Machine(vbox, uuid)),
                Err(hatchway_vm::Error::VirtualBox(refusal)) if refusal.reason == Some(Reason::NoMachine) => {
                    Err(new())
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}
