//! D-Bus only through a filter. Whoever can talk to a bus unfiltered can have programs started outside of the sandbox
//! (`org.freedesktop.systemd1` does it for anybody on a session bus), so no bus's own socket is ever shown: the host's
//! `xdg-dbus-proxy` connects in the tool's place, lets through what the recipe names, and drops the rest.
//!
//! As root it runs as the tool's user, so that the bus sees that user (it authenticates by uid) and no more is allowed
//! than to that user.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_envs::sandbox::{self, BoundSocket, Companion, HostPath, Reach, Spec};

use super::companion::{self, Running, Sight, Wish};
use super::inside;
use super::session::Session;
use crate::error::Error;
use crate::recipe::{BusAccess, Dbus};

/// The folder of the filter's sockets, in the run's folder.
pub(super) const FOLDER: &str = "bus";
/// Where the filter sees that folder.
const INSIDE: &str = "/run/bus";
/// The sockets in it.
const SOCKETS: [&str; 2] = ["session", "system"];
/// What the filter is called to people.
const ROLE: &str = "the filter of D-Bus messages";
/// Where a system bus is, unless a variable says otherwise.
const SYSTEM: &str = "/run/dbus/system_bus_socket";
/// `sun_path` of unix(7), with the zero behind it.
const SOCKET_PATH_MAX: usize = 108;

/// One bus: its address on the host, its socket's name in our folder, where and by which variable the tool finds it.
struct Bus<'a> {
    address: String,
    name: &'static str,
    at: String,
    variable: &'static str,
    access: &'a BusAccess,
}

pub(super) fn add(
    session: &Session,
    wish: &Dbus,
    run_folder: &Path,
    explain: bool,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    let mut buses = Vec::new();
    if let Some(access) = &wish.session {
        let address = session_address(session, spec)?;
        let at = format!("/run/user/{}/bus", spec.identity.uid);
        buses.push(Bus { address, name: SOCKETS[0], at, variable: "DBUS_SESSION_BUS_ADDRESS", access });
    }
    if let Some(access) = &wish.system {
        let (address, at) = (system_address()?, SYSTEM.to_owned());
        buses.push(Bus { address, name: SOCKETS[1], at, variable: "DBUS_SYSTEM_BUS_ADDRESS", access });
    }
    if buses.is_empty() {
        return Ok(());
    }
    let program = companion::find("xdg-dbus-proxy").ok_or_else(|| Error::Host {
        message: "the recipe asks for D-Bus, and `xdg-dbus-proxy`, which filters it, is not installed".into(),
        hints: vec!["`apt install xdg-dbus-proxy`".into()],
    })?;
    account(spec)?;
    let folder = run_folder.join(FOLDER);
    let command = command(&program, &buses);
    if explain {
        spec.companions.push(Companion {
            pid: 0,
            role: ROLE.to_owned(),
            command: companion::shown(&command),
        });
    } else {
        companion::make_folder(&folder, spec)?;
        let sight = sight(&folder, &buses)?;
        companion::start_held(&Wish { command, role: ROLE, sight, run: run_folder }, spec, running)?;
    }
    for bus in buses {
        let host = HostPath::try_from(folder.join(bus.name).as_path()).map_err(sandbox::Error::from)?;
        spec.sockets.push(BoundSocket { host, at: inside(&bus.at)?, served: true });
        spec.env.insert(bus.variable.to_owned(), format!("unix:path={}", bus.at));
    }
    Ok(())
}

/// `dbus-daemon` looks up the groups of whoever connects, and hangs up on a uid that it finds no account for: the uids that
/// root's tools get by themselves have none.
fn account(spec: &Spec) -> Result<(), Error> {
    let uid = spec.identity.uid;
    if nix::unistd::User::from_uid(uid.into()).ok().flatten().is_some() {
        return Ok(());
    }
    Err(Error::Host {
        message: format!("the tool would run as uid {uid}, and a bus lets in only users with an account"),
        hints: vec![
            "run it with `--user NAME`, as a system user made for it: `adduser --system --group hw-NAME`"
                .into(),
        ],
    })
}

/// The filter sees the sockets of the buses where they are. One without a file is reached by the host's network namespace.
fn sight(folder: &Path, buses: &[Bus<'_>]) -> Result<Sight, Error> {
    let mut sight = Sight::of(folder, INSIDE);
    for bus in buses {
        match path_of(&bus.address) {
            Some(path) => sight.sockets.push((sandbox::host_path(&path)?, inside(&path.to_string_lossy())?)),
            None => sight.reach = Reach::Abstract,
        }
    }
    Ok(sight)
}

/// Names are relative to its working folder.
fn command(program: &Path, buses: &[Bus<'_>]) -> Command {
    let mut command = Command::new(program);
    // It says there that it is ready, and ends when nobody holds the other end any more.
    command.arg("--fd=1");
    for bus in buses {
        command.args([&bus.address, bus.name, "--filter"]);
        let wishes = [("see", &bus.access.see), ("talk", &bus.access.talk), ("own", &bus.access.own)];
        for (policy, names) in wishes {
            command.args(names.iter().map(|name| format!("--{policy}={}", name.as_str())));
        }
    }
    command
}

/// The bus of the person at the machine. A bus lets in only its own user, and another user's must not be tried.
fn session_address(session: &Session, spec: &Spec) -> Result<String, Error> {
    let none = || Error::Host {
        message:
            "the recipe asks for the session bus, and there is none: neither DBUS_SESSION_BUS_ADDRESS nor \
                  `$XDG_RUNTIME_DIR/bus`"
                .into(),
        hints: vec![
            "start this in a session of a desktop, or under `dbus-run-session --`".into(),
            "or take `dbus.session` out of the recipe".into(),
        ],
    };
    let socket = session.runtime.as_ref().map(|folder| folder.join("bus")).filter(|path| path.exists());
    let (address, path) = match (&session.bus, socket) {
        (Some(address), _) => (address.clone(), path_of(address)),
        (None, Some(path)) => (format!("unix:path={}", path.display()), Some(path)),
        (None, None) => return Err(none()),
    };
    let owner = match path {
        Some(path) => std::fs::metadata(&path).map_err(|_| none())?.uid(),
        // An abstract socket has no owner to look at; the session is the caller's.
        None => session.uid,
    };
    if owner != spec.identity.uid {
        return Err(Error::Host {
            message: format!(
                "the session bus `{address}` is of uid {owner}, and the tool runs as uid {}: another user's session is \
                 not shown",
                spec.identity.uid
            ),
            hints: vec![
                "run it as that user, or as root with `--user`".into(),
                "a unit of root's has no session: it may ask for `dbus.system`".into(),
            ],
        });
    }
    Ok(address)
}

fn system_address() -> Result<String, Error> {
    let variable = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    let address = variable.unwrap_or_else(|| format!("unix:path={SYSTEM}"));
    match path_of(&address) {
        Some(path) if !path.exists() => Err(Error::Host {
            message: format!("the recipe asks for the system bus, and `{}` is not there", path.display()),
            hints: vec!["`systemctl start dbus`, or take `dbus.system` out of the recipe".into()],
        }),
        _ => Ok(address),
    }
}

/// The socket of an address, if it is a file: `unix:path=/run/user/7/bus,guid=…`.
fn path_of(address: &str) -> Option<PathBuf> {
    let rest = address.strip_prefix("unix:")?;
    let value = rest.split([',', ';']).find_map(|part| part.strip_prefix("path="))?;
    (value.len() < SOCKET_PATH_MAX).then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_an_address_is_found() {
        for (address, path) in [
            ("unix:path=/run/user/7/bus", Some("/run/user/7/bus")),
            ("unix:guid=aa,path=/tmp/x,guid=bb", Some("/tmp/x")),
            ("unix:abstract=/tmp/dbus-x,guid=aa", None),
            ("tcp:host=a,port=1", None),
        ] {
            assert_eq!(path_of(address), path.map(PathBuf::from), "{address}");
        }
    }
}
