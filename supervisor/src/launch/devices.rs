//! Device slots: which device of this machine the tool sees, by what stays the same when it is plugged in again.

use std::path::{Path, PathBuf};

use hatchway_envs::sandbox::{Device, DeviceId, HostPath, InsidePath, Mode, Slot, Spec};
use hatchway_sys::devices::{self, Node};

use super::bindings::Bindings;
use super::rung::Devices;
use super::{channels, inside};
use crate::context::Context;
use crate::error::Error;
use crate::recipe::{DeviceSlot, Recipe};

/// What shows the names that stay.
const LOOK: &str = "`ls -l /dev/*/by-id /dev/*/by-path` shows what is there";

pub(super) fn add(
    context: &Context,
    recipe: &Recipe,
    (bindings, kind): (&Bindings<'_>, Devices),
    spec: &mut Spec,
) -> Result<(), Error> {
    for slot in &slots(recipe, bindings) {
        let name = slot.name.get_ref().as_str();
        let Some(value) = bindings.get(name) else {
            context.printer.warn(format!(
                "the device slot `{name}` is not bound; bind it with `--bind {name}=by-id:…`, `by-path:…` or \
                 `usb:VENDOR:PRODUCT:SERIAL`"
            ));
            continue;
        };
        let device = parse(value).map_err(|why| Error::Usage(format!("`--bind {name}={value}`: {why}")))?;
        let at: InsidePath = match &slot.at {
            Some(at) => inside(at.as_str())?,
            None => inside(&format!("/dev/{name}"))?,
        };
        let subsystem = subsystem(&slot.class).to_owned();
        let failed = |why: String, hint: &str| Error::Host {
            message: format!("the device slot `{name}` cannot be bound to `{device}`: {why}"),
            hints: vec![hint.to_owned()],
        };
        let there = find(&device, &subsystem).map_err(|error| failed(error.to_string(), LOOK))?;
        if let Some(node) = &there {
            let whose = format!("the slot `{name}`");
            admit(context, &whose, &node.path, (node.mode, node.gid), spec);
        }
        match there {
            // An engine gives what is there at the start.
            Some(node) if kind == Devices::AtStart => {
                let host =
                    HostPath::try_from(node.path.as_path()).map_err(hatchway_envs::sandbox::Error::from)?;
                spec.devices.push(Device { host, at });
                continue;
            }
            None if kind == Devices::AtStart => {
                let why = "it is not there, and a container has only what is there at its start";
                return Err(failed(
                    why.to_owned(),
                    "plug it in, or run it with `--rung fhs`, where devices may come and go",
                ));
            }
            Some(_) => {}
            None => context
                .printer
                .warn(format!("`{device}` is not there; the tool sees it at `{at}` as soon as it is")),
        }
        spec.slots.push(Slot { device, subsystem, at });
    }
    Ok(())
}

/// The device slots, and after them the serial channels that are a device of this machine itself.
fn slots(recipe: &Recipe, bindings: &Bindings<'_>) -> Vec<DeviceSlot> {
    let mut all = recipe.devices.clone();
    all.extend(channels::slots(recipe).filter(|slot| {
        let value = bindings.get(slot.name.get_ref().as_str());
        value.is_some_and(|value| !channels::is_server(value))
    }));
    all
}

/// The device slots of a guest: its own nodes, which modules of its kernel make. Where nothing else is bound, the node has
/// the name under which the tool expects it. Serial lines are the host's ([`serial_lines`]), and come second.
pub(super) fn of_guest(recipe: &Recipe, bind: &[String]) -> Result<Vec<(HostPath, InsidePath)>, Error> {
    let bindings = Bindings::new(recipe, bind)?;
    let mut devices = Vec::new();
    let mut lines = 0;
    for slot in &slots(recipe, &bindings) {
        let name = slot.name.get_ref().as_str();
        let at = match &slot.at {
            Some(at) => inside(at.as_str())?,
            None => inside(&format!("/dev/{name}"))?,
        };
        let own = match bindings.get(name) {
            Some(value) => match value.strip_prefix("guest:") {
                Some(own) => own.to_owned(),
                None if slot.class == "serial" => {
                    lines += 1;
                    format!("/dev/ttyS{lines}")
                }
                None => {
                    return Err(Error::Usage(format!(
                        "`--bind {name}={value}`: in a guest only serial lines are this machine's; `{name}=guest:/dev/…` is a \
                         device of the guest's own"
                    )));
                }
            },
            None if slot.class == "serial" => continue,
            None => at.as_str().to_owned(),
        };
        devices.push((HostPath::new(&own).map_err(hatchway_envs::sandbox::Error::from)?, at));
    }
    Ok(devices)
}

/// The serial lines of this machine that a guest has as its own, in the order of their slots.
pub(super) fn serial_lines(
    context: &Context,
    recipe: &Recipe,
    bind: &[String],
) -> Result<Vec<PathBuf>, Error> {
    let bindings = Bindings::new(recipe, bind)?;
    let mut lines = Vec::new();
    for slot in slots(recipe, &bindings).iter().filter(|slot| slot.class == "serial") {
        let name = slot.name.get_ref().as_str();
        let Some(value) = bindings.get(name) else {
            context
                .printer
                .warn(format!("the device slot `{name}` is not bound; bind it with `--bind {name}=by-id:…`"));
            continue;
        };
        if value.starts_with("guest:") {
            continue;
        }
        let device = parse(value).map_err(|why| Error::Usage(format!("`--bind {name}={value}`: {why}")))?;
        let missing = |why: String| {
            Error::Host {
            message: format!("the device slot `{name}` cannot be bound to `{device}`: {why}"),
            hints: vec!["`ls -l /dev/serial/by-id` shows what is there; a guest has the lines that are there at its start".into()],
        }
        };
        let node = find(&device, subsystem(&slot.class)).map_err(|error| missing(error.to_string()))?;
        lines.push(node.ok_or_else(|| missing("it is not there".into()))?.path);
    }
    Ok(lines)
}

/// Whether a device of this name is there now.
///
/// # Errors
/// It is no name of a device, or nobody can look.
pub(crate) fn is_there(name: &str, class: &str) -> Result<bool, String> {
    let found = find(&parse(name)?, subsystem(class)).map_err(|error| error.to_string())?;
    Ok(found.is_some())
}

/// The kernel's name for a class.
fn subsystem(class: &str) -> &str {
    match class {
        "serial" => "tty",
        "video" => "video4linux",
        other => other,
    }
}

fn find(device: &DeviceId, subsystem: &str) -> std::io::Result<Option<Node>> {
    match device {
        DeviceId::ById(name) => devices::by_link("by-id", name, subsystem),
        DeviceId::ByPath(name) => devices::by_link("by-path", name, subsystem),
        DeviceId::Usb { vendor, product, serial } => {
            devices::by_usb(*vendor, *product, serial.as_deref(), subsystem)
        }
    }
}

/// A granted device can be opened: as root the tool gets the group of the node, which otherwise it would not have. `node`
/// is its permission bits and its group.
pub(super) fn admit(context: &Context, whose: &str, path: &Path, node: (u32, u32), spec: &mut Spec) {
    let (mode, gid) = node;
    if mode & 0o006 == 0o006 {
        return;
    }
    let by_group = mode & 0o060 == 0o060 && gid != 0;
    match &mut spec.mode {
        Mode::Root { groups } if by_group => {
            if !groups.contains(&gid) {
                groups.push(gid);
            }
        }
        Mode::Root { .. } => context.printer.warn(format!(
            "`{}` of {whose} may be used by root only (mode {mode:04o}); a udev rule with GROUP and MODE changes that",
            path.display()
        )),
        Mode::User => {
            let can = rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
            if can.is_err() {
                context.printer.warn(format!(
                    "you may not use `{}` of {whose}: join its group ({}), then log in again",
                    path.display(),
                    group(gid)
                ));
            }
        }
    }
}

fn group(gid: u32) -> String {
    let found = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    found.map_or_else(|| gid.to_string(), |group| group.name)
}

fn parse(text: &str) -> Result<DeviceId, String> {
    let name = |name: &str| {
        let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if plain { Ok(name.to_owned()) } else { Err("that is not the name of a link".to_owned()) }
    };
    match text.split_once(':') {
        Some(("by-id", rest)) => Ok(DeviceId::ById(name(rest)?)),
        Some(("by-path", rest)) => Ok(DeviceId::ByPath(name(rest)?)),
        Some(("usb", rest)) => usb(rest).ok_or_else(|| "it has the form usb:VENDOR:PRODUCT:SERIAL".to_owned()),
        _ if Path::new(text).starts_with("/dev") => Err(
            "the kernel gives names like `/dev/ttyUSB0` out anew at each plugging in; use by-id:, by-path: or usb:"
                .to_owned(),
        ),
        _ => Err("it has the form by-id:NAME, by-path:NAME or usb:VENDOR:PRODUCT:SERIAL".to_owned()),
    }
}

fn usb(text: &str) -> Option<DeviceId> {
    let mut parts = text.splitn(3, ':');
    let mut number = || {
        let part = parts.next()?;
        let hex = part.len() == 4 && part.bytes().all(|c| c.is_ascii_hexdigit());
        hex.then(|| u16::from_str_radix(part, 16).ok()).flatten()
    };
    let (vendor, product) = (number()?, number()?);
    Some(DeviceId::Usb { vendor, product, serial: parts.next().map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_go_by_what_stays_the_same() {
        assert_eq!(
            parse("by-id:usb-FTDI_A1-if00-port0").unwrap().to_string(),
            "by-id:usb-FTDI_A1-if00-port0"
        );
        assert_eq!(
            parse("by-path:pci-0000:00:14.0-usb-0:2:1.0").unwrap().to_string(),
            "by-path:pci-0000:00:14.0-usb-0:2:1.0"
        );
        assert_eq!(parse("usb:0403:6001:A1").unwrap().to_string(), "usb:0403:6001:A1");
        assert_eq!(parse("usb:0403:6001").unwrap().to_string(), "usb:0403:6001");
        for bad in [
            "/dev/ttyUSB0",
            "ttyUSB0",
            "by-id:",
            "by-id:../../sda",
            "usb:403:6001",
            "usb:0403",
            "usb:+403:6001",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
