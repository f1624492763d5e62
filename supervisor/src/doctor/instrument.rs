//! The instrument that is carried out: whether its units are as they are wanted, and whether what is bound to them is there.

use std::io;
use std::path::Path;

use nix::unistd::{Group, User};

use super::{Check, For};
use crate::context::{Context, NetworkUse};
use crate::daemon::client::Client;
use crate::daemon::files::Applied;
use crate::daemon::report::UnitStatus;
use crate::daemon::source::Source;
use crate::daemon::view::{self, Carried, Machine, Phase};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::instrument::{Instrument, Member, UnitConfig};
use crate::launch::device_there;
use crate::recipe::Located;
use crate::report::one_line;
use crate::{instrument, steps};

/// Where less is free for logs and records, a unit's words are soon thrown away.
const RUNTIME_MIN: u64 = 64 << 20;

/// Nothing where no instrument is carried out.
pub(super) fn checks(dirs: &Dirs) -> Vec<Check> {
    let applied = match Applied::load(dirs) {
        Ok(Some(applied)) => applied,
        Ok(None) => return Vec::new(),
        Err(error) => {
            return vec![lacks(
                "what is carried out",
                one_line(&error),
                "nobody knows what is to run",
                "`hatchway up`",
            )];
        }
    };
    let machine = match Machine::of(&applied, dirs) {
        Ok(machine) => machine,
        Err(error) => {
            return vec![lacks(
                "what is carried out",
                one_line(&error),
                "no unit is started",
                "mend it, then `hatchway up`",
            )];
        }
    };
    let mut checks = vec![daemon(dirs), change(&applied)];
    checks.extend(room(dirs));
    checks.extend(units(dirs));
    checks.extend(roles(&machine.instrument));
    let context = Context::open(true, NetworkUse { offline: true, refresh: false });
    for (name, config) in machine.instrument.in_order() {
        checks.extend(unit(name, config, &machine, context.as_ref().ok()));
    }
    checks
}

fn works(name: impl Into<String>, found: impl Into<String>) -> Check {
    Check::works(For::Instrument, name.into(), found)
}

fn lacks(name: impl Into<String>, found: impl Into<String>, means: &str, fix: impl Into<String>) -> Check {
    Check::lacks(For::Instrument, name.into(), found, means, fix)
}

fn daemon(dirs: &Dirs) -> Check {
    match Client::find(dirs) {
        Ok(Some(_)) => works("daemon", "it answers"),
        Ok(None) => lacks(
            "daemon",
            "none runs",
            "units go on; nothing starts or restarts one",
            "`systemctl start hatchway`; `journalctl -u hatchway -n 20` says why it ended",
        ),
        Err(error) => lacks("daemon", one_line(&error), "nobody knows whether it runs", "ask as root"),
    }
}

/// Somebody has edited the file, and has not applied it.
fn change(applied: &Applied) -> Check {
    let name = "instrument's file";
    let path = applied.origin.display();
    match instrument::read(&applied.origin) {
        Ok((_, text)) if text == applied.text => works(name, format!("`{path}` is what is carried out")),
        Ok(_) => lacks(
            name,
            format!("`{path}` has changed since it was applied"),
            "the change is not carried out",
            "`hatchway up --dry-run` shows what it would do, `hatchway up` does it",
        )
        .less(),
        Err(error) => lacks(
            name,
            one_line(&error),
            "what was applied goes on; the next `hatchway up` fails",
            "mend the file",
        )
        .less(),
    }
}

fn room(dirs: &Dirs) -> Option<Check> {
    let stat = rustix::fs::statvfs(&dirs.runtime).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} MiB are free at `{}`", free >> 20, dirs.runtime.display());
    Some(match free < RUNTIME_MIN {
        false => works("room for logs", found),
        true => lacks(
            "room for logs",
            found,
            "what units say is thrown away, and counted",
            "`hatchway logs UNIT --clear`; `du -sh` there shows what is big",
        ),
    })
}

/// One line for those that are as they should be, one for each other.
fn units(dirs: &Dirs) -> Vec<Check> {
    let units = match Source::find(dirs).and_then(|source| source.units()) {
        Ok(units) => units,
        Err(error) => {
            return vec![lacks("units", one_line(&error), "nobody knows how they are", "`hatchway status`")];
        }
    };
    let is_well = |unit: &&UnitStatus| {
        matches!(
            unit.phase,
            Phase::Ready | Phase::Starting | Phase::Stopping | Phase::Due | Phase::Stopped | Phase::Ended
        )
    };
    let well = units.iter().filter(is_well).count();
    let mut checks = vec![works("units", format!("{well} of {} are as they are wanted", units.len()))];
    if well < units.len() {
        checks[0] = checks[0].clone().less();
    }
    for unit in units.iter().filter(|unit| !is_well(unit)) {
        let why = unit.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let check = lacks(
            unit.name.clone(),
            format!("{}{why}", unit.phase),
            "",
            format!("`hatchway why {}`", unit.name),
        );
        // What waits for a cause that has a line of its own.
        checks.push(if unit.phase == Phase::Blocked { check.less() } else { check });
    }
    checks
}

fn roles(instrument: &Instrument) -> Vec<Check> {
    let roles = &instrument.roles;
    let all = [&roles.viewer, &roles.operator, &roles.service, &roles.admin].into_iter().flatten();
    let missing = all.filter_map(|member| match member {
        Member::User(name) if User::from_name(name).ok().flatten().is_none() => {
            Some((format!("user `{name}`"), format!("`adduser {name}`")))
        }
        Member::Group(name) if Group::from_name(name).ok().flatten().is_none() => {
            Some((format!("group `{name}`"), format!("`addgroup --system {name}`")))
        }
        _ => None,
    });
    missing
        .map(|(who, fix)| lacks("roles", format!("there is no {who}"), "nobody has the role by it", fix))
        .collect()
}

fn unit(name: &str, config: &UnitConfig, machine: &Machine, context: Option<&Context>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(user) = config.user.as_ref().filter(|user| User::from_name(user).ok().flatten().is_none()) {
        checks.push(lacks(
            name,
            format!("there is no user `{user}`"),
            "it cannot start",
            format!("`adduser --system {user}`"),
        ));
    }
    for (slot, path) in &config.files {
        if let Err(error) = readable(path) {
            checks.push(lacks(
                name,
                format!("its file `{slot}` is `{}`: {error}", path.display()),
                "it does not start",
                "put the file there, or bind another",
            ));
        }
    }
    let recipe = config.recipe.as_deref().unwrap_or(name);
    match view::find(config, &machine.recipes) {
        Ok(Carried::Tool(located)) => {
            checks.extend(devices(name, config, &located));
            if located.recipe.image().is_some() {
                checks.extend(image(name, config, &located));
            } else {
                checks.extend(tree((name, recipe), &located, context));
            }
        }
        Ok(Carried::Native(_)) => {}
        Err(error) if config.service.is_some() => checks.push(lacks(
            name,
            one_line(&error),
            "it cannot start",
            error.hints().first().cloned().unwrap_or_default(),
        )),
        Err(error) => checks.push(lacks(
            name,
            one_line(&error),
            "it cannot start",
            format!("`hatchway recipe check {recipe}`"),
        )),
    }
    checks
}

/// Looked at, not opened: what is no file may wait for somebody, or do something.
fn readable(path: &Path) -> io::Result<()> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() && !about.is_dir() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::READ_OK)?)
}

fn devices(name: &str, config: &UnitConfig, located: &Located) -> Vec<Check> {
    let class = |slot: &str| {
        let found = located.recipe.devices.iter().find(|device| device.name.get_ref().as_str() == slot);
        // One that a channel leads to is a serial line.
        found.map_or("serial", |device| device.class.as_str())
    };
    let missing =
        config.devices.iter().filter_map(|(slot, device)| match device_there(device, class(slot.as_str())) {
            Ok(true) => None,
            Ok(false) => Some(lacks(
                name,
                format!("its device `{slot}`, `{device}`, is not there"),
                "the tool sees it once it is plugged in",
                "plug it in, switch it on; `ls -l /dev/serial/by-path /dev/serial/by-id` shows what is there",
            )),
            Err(why) => Some(lacks(
                name,
                format!("its device `{slot}`, `{device}`: {why}"),
                "the tool does not have it",
                "another name for it in the instrument",
            )),
        });
    missing.collect()
}

fn tree((name, recipe): (&str, &str), located: &Located, context: Option<&Context>) -> Option<Check> {
    let built =
        |context| -> Result<bool, Error> { steps::is_built(context, located, &steps::read_lock(located)?) };
    match built(context?) {
        Ok(true) => None,
        Ok(false) => Some(lacks(
            name,
            "its tree is not built",
            "it is built when it starts, which may need the network",
            "`hatchway up`",
        )),
        Err(error) => {
            let fix =
                error.hints().first().cloned().unwrap_or_else(|| format!("`hatchway recipe check {recipe}`"));
            Some(lacks(name, one_line(&error), "it cannot start", fix))
        }
    }
}

/// A guest's disk: bound, or where its recipe says.
fn image(name: &str, config: &UnitConfig, located: &Located) -> Option<Check> {
    let image = located.recipe.image()?.image.as_ref()?;
    let path = located.path.with_file_name(image);
    // Whether a bound one is there was looked at with the other files.
    if path.exists() || config.files.keys().any(|slot| slot.as_str() == "image") {
        return None;
    }
    Some(lacks(
        name,
        format!("its disk image `{}` is not there", path.display()),
        "it does not start",
        "put the image there",
    ))
}

/// Whether what an instrument needs of somebody is in these.
#[must_use]
pub fn needs_somebody(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.whom == For::Instrument && check.state == super::State::Missing)
}
