//! What systemd finds in a unit with services: a target that wants them, and where their output goes.
//!
//! Names and keys: systemd.unit(5), systemd.exec(5).
use super::{file, invalid};
use crate::sandbox::{Error, Spec};
use hatchway_wire::{InsidePath, Op, Owner, Services};

/// The unit that wants them all.
const TARGET: &str = "hatchway.target";
/// The folder of what the shim has there; the tool has no part in it.
const FOLDER: &str = "/run/hatchway";
const UNITS: &str = "/run/systemd/system";
/// In software emulation a small set of services takes half a minute.
const PATIENCE_MS: u64 = 180_000;
/// systemd itself gives a service 90 seconds to stop, and with it the machine: a person who waits for a prompt has less patience.
const STOP_MS: u64 = 20_000;
/// Bytes of a name (`UNIT_NAME_MAX`, src/basic/unit-name.h).
const NAME_MAX: usize = 255;

/// For the shim.
pub(in crate::sandbox) fn kept(spec: &Spec) -> Option<Services> {
    (!spec.services.is_empty()).then(|| Services {
        names: spec.services.clone(),
        target: TARGET.to_owned(),
        output: output(),
        patience_ms: PATIENCE_MS,
        stop_ms: STOP_MS,
    })
}

fn output() -> String {
    format!("{FOLDER}/services")
}

/// Where nobody may have services: systemd is root in there.
pub(in crate::sandbox) fn refuse(spec: &Spec) -> Result<(), Error> {
    match spec.services.first() {
        None => Ok(()),
        Some(name) => Err(invalid(
            "service",
            name,
            "systemd is root where it runs, and on this rung that would be a user of the host; the vm rung gives it a machine of \
             its own (`rung = \"vm\"`)",
        )),
    }
}

/// Beside services the tool may read what they log.
pub(in crate::sandbox) fn groups(spec: &Spec) -> Vec<u32> {
    let group = |line: &str| line.strip_prefix("systemd-journal:")?.split(':').nth(1)?.parse().ok();
    let found = spec.tree_groups.lines().find_map(group);
    found.filter(|_| !spec.services.is_empty()).into_iter().collect()
}

/// The files that systemd reads, in memory.
pub(in crate::sandbox) fn units(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    if spec.services.is_empty() {
        return Ok(());
    }
    for name in &spec.services {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@:\\".contains(&b));
        if !plain || name.len() > NAME_MAX || name.starts_with('.') {
            return Err(invalid("service", name, "it is not the name of a unit of systemd"));
        }
    }
    let root = Owner { uid: 0, gid: 0 };
    ops.push(Op::Directory { at: InsidePath::new(FOLDER)?, mode: 0o700, owner: root });
    let names = spec.services.join(" ");
    let unit = &spec.unit;
    let target = format!(
        "[Unit]\nDescription=What {unit} needs beside it\nRequires=basic.target\nWants={names}\nAfter=basic.target {names}\n\
         AllowIsolate=yes\n"
    );
    file(ops, &format!("{UNITS}/{TARGET}"), target)?;
    for name in spec.services.iter().filter(|name| name.ends_with(".service")) {
        let text = format!("[Service]\nStandardOutput=append:{}\nStandardError=inherit\n", output());
        file(ops, &format!("{UNITS}/{name}.d/hatchway.conf"), text)?;
    }
    Ok(())
}
