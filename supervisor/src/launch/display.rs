//! What a tool draws on. `shared` is the person's own display; `nested` a server for this tool alone, in a window of
//! that display or, where there is none, in memory.
//!
//! Clients of one X server can read each other's keys and windows and type into them. So `nested` is what a recipe
//! should ask for, and `shared` says what it means. The cookie of an untrusted client would be the other way out, but
//! X servers hide RENDER, RANDR and GLX from those, without which current toolkits do not start.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_envs::sandbox::{self, BoundSocket, Companion, HostPath, Reach, Secret, Spec};

use super::companion::{self, Running, Sight, Wish};
use super::session::Session;
use super::{inside, xauthority};
use crate::context::Context;
use crate::error::Error;

/// The cookie of the nested server, in the run's folder.
pub(super) const AUTHORITY: &str = "xauthority";
/// The folder of the nested server's socket, in the run's folder.
pub(super) const FOLDER: &str = "display";
/// Where the nested server sees its cookie, and those of the display that it is a window of.
const AUTHORITY_INSIDE: &str = "/run/xauthority";
const OUTER_AUTHORITY_INSIDE: &str = "/run/outer-xauthority";
/// Numbers of nested displays: above those that people's displays and `ssh` have, by the number of a process that
/// lives as long.
const NUMBER_FIRST: u32 = 1000;
const NUMBERS: u32 = 50_000;
/// Where X servers have their sockets, by their number.
const SOCKETS: &str = "/tmp/.X11-unix";
/// Size of a nested display, and its bits of colour. Xephyr's window can be resized.
const SCREEN: &str = "1280x800x24";
/// What the server is called to people.
const ROLE: &str = "the display server";

/// The person's display, X and Wayland as far as they are there.
pub(super) fn shared(context: &Context, session: &Session, spec: &mut Spec) -> Result<(), Error> {
    let wayland = wayland(session);
    let number = session.display.as_deref().map(local).transpose()?;
    if number.is_none() && wayland.is_none() {
        return Err(Error::Host {
            message:
                "the recipe asks for the display of this session, and there is none: neither DISPLAY nor \
                      WAYLAND_DISPLAY is set"
                    .into(),
            hints: vec!["with `display = \"nested\"` the tool gets a display of its own, in memory".into()],
        });
    }
    if let Some(number) = number {
        context.printer.warn(
            "the tool shares this display: it can read what is typed and shown in every window of it, and type into \
             them; `display = \"nested\"` gives it one of its own",
        );
        let cookie = match &session.authority {
            Some(path) => xauthority::cookie(path, number)?,
            None => None,
        };
        let host = HostPath::new(format!("{SOCKETS}/X{number}")).map_err(sandbox::Error::from)?;
        show((number, host, false), cookie.as_deref(), spec)?;
        // Its memory is in another IPC namespace than the server.
        spec.env.entry("QT_X11_NO_MITSHM".to_owned()).or_insert_with(|| "1".to_owned());
    }
    if let Some(socket) = wayland {
        let at = inside(&format!("/run/user/{}/wayland-0", spec.identity.uid))?;
        spec.sockets.push(BoundSocket { host: sandbox::host_path(&socket)?, at, served: false });
        spec.env.entry("WAYLAND_DISPLAY".to_owned()).or_insert_with(|| "wayland-0".to_owned());
    }
    Ok(())
}

/// A server of the tool's own, in a sandbox: its socket lies in the run's folder, and no abstract socket is made.
pub(super) fn nested(
    context: &Context,
    session: &Session,
    run: &Path,
    explain: bool,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    let (name, package) =
        if session.display.is_some() { ("Xephyr", "xserver-xephyr") } else { ("Xvfb", "xvfb") };
    let program = companion::find(name).ok_or_else(|| Error::Host {
        message: format!("`display = \"nested\"` needs `{name}`, which is not installed"),
        hints: vec![format!("`apt install {package}`")],
    })?;
    let number = NUMBER_FIRST + std::process::id() % NUMBERS;
    let folder = run.join(FOLDER);
    let mut command = Command::new(program);
    command.arg(format!(":{number}")).args(["-displayfd", "1", "-nolisten", "tcp", "-nolisten", "local"]);
    command.args(["-noreset", "-auth", AUTHORITY_INSIDE]);
    // Shared memory goes by numbers of an IPC namespace, and the tool has its own: the server would attach somebody
    // else's. Without the extension every toolkit takes the socket.
    command.args(["-extension", "MIT-SHM"]);
    if name == "Xephyr" {
        command.args(["-screen", SCREEN, "-resizeable", "-title"]).arg(&spec.unit);
    } else {
        command.args(["-screen", "0", SCREEN]);
    }
    let cookie = if explain { [0; 16] } else { random()? };
    if explain {
        let (pid, command) = (0, companion::shown(&command));
        spec.companions.push(Companion { pid, role: ROLE.to_owned(), command });
    } else {
        companion::make_folder(&folder, spec)?;
        private(&run.join(AUTHORITY), &xauthority::file(number, &cookie), spec)?;
        let mut sight = Sight::of(&folder, SOCKETS);
        sight.files.push((run.join(AUTHORITY), AUTHORITY_INSIDE));
        if name == "Xephyr" {
            outer(session, run, spec, &mut command, &mut sight)?;
        } else {
            context.printer.say("no DISPLAY here: the tool draws on a display in memory, which nobody sees");
        }
        let said = companion::start(&Wish { command, role: ROLE, sight, run }, spec, running)?;
        if said != number.to_string() {
            let message = format!("{ROLE} said `{said}` instead of its number, {number}");
            return Err(Error::Host { message, hints: Vec::new() });
        }
    }
    let socket = folder.join(format!("X{number}"));
    let host = HostPath::try_from(socket.as_path()).map_err(sandbox::Error::from)?;
    show((number, host, true), Some(&cookie), spec)
}

/// The nested server is a client of the person's display: it sees that one's socket, and a copy of its cookies.
fn outer(
    session: &Session,
    run: &Path,
    spec: &Spec,
    command: &mut Command,
    sight: &mut Sight,
) -> Result<(), Error> {
    let Some(display) = &session.display else { return Ok(()) };
    // Its shared memory is in an IPC namespace of its own, too.
    command.env("DISPLAY", display).env("XEPHYR_NO_SHM", "1");
    match local(display).map(|number| format!("{SOCKETS}/X{number}")) {
        Ok(socket) if Path::new(&socket).exists() => {
            sight.sockets.push((sandbox::host_path(&socket)?, inside(&socket)?));
        }
        Ok(_) => sight.reach = Reach::Abstract,
        Err(_) => sight.reach = Reach::Network,
    }
    // A display without cookies may have a variable that names none.
    let Some(authority) = session.authority.as_ref().filter(|path| path.exists()) else { return Ok(()) };
    let mut bytes = Vec::new();
    let file = fs::File::open(authority).map_err(Error::io("read", authority))?;
    file.take(1 << 20).read_to_end(&mut bytes).map_err(Error::io("read", authority))?;
    let copy = run.join(companion::OUTER_AUTHORITY);
    private(&copy, &bytes, spec)?;
    sight.files.push((copy, OUTER_AUTHORITY_INSIDE));
    command.env("XAUTHORITY", OUTER_AUTHORITY_INSIDE);
    Ok(())
}

/// A file that only the tool's user may read.
fn private(path: &Path, bytes: &[u8], spec: &Spec) -> Result<(), Error> {
    let mut options = fs::File::options();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    companion::give(path, spec)
}

/// Shows one X server's socket and gives the tool its cookie. The number is one that no other server of the host has:
/// libraries try the abstract socket of that number too.
fn show(
    (number, host, served): (u32, HostPath, bool),
    cookie: Option<&[u8]>,
    spec: &mut Spec,
) -> Result<(), Error> {
    spec.sockets.push(BoundSocket { host, at: inside(&format!("{SOCKETS}/X{number}"))?, served });
    spec.env.entry("DISPLAY".to_owned()).or_insert_with(|| format!(":{number}"));
    if let Some(cookie) = cookie {
        let at = format!("/run/user/{}/xauthority", spec.identity.uid);
        spec.secrets.push(Secret { at: inside(&at)?, content: xauthority::file(number, cookie) });
        spec.env.entry("XAUTHORITY".to_owned()).or_insert(at);
    }
    Ok(())
}

/// The number of a display of this host: `:0`, `:10.0`, `unix:0`.
fn local(display: &str) -> Result<u32, Error> {
    let remote = || Error::Host {
        message: format!(
            "the display `{display}` is not one of this host, so it cannot be shown to the tool"
        ),
        hints: vec!["with `display = \"nested\"` the tool gets one of its own in a window of it".into()],
    };
    let (host, rest) = display.rsplit_once(':').ok_or_else(remote)?;
    if !host.is_empty() && host != "unix" {
        return Err(remote());
    }
    rest.split('.').next().and_then(|number| number.parse().ok()).ok_or_else(remote)
}

fn wayland(session: &Session) -> Option<PathBuf> {
    let name = session.wayland.as_ref()?;
    let path = if name.starts_with('/') { PathBuf::from(name) } else { session.runtime.as_ref()?.join(name) };
    path.exists().then_some(path)
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    let mut source = fs::File::open("/dev/urandom").map_err(Error::io("open", "/dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(Error::io("read", "/dev/urandom"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn only_displays_of_this_host_have_a_socket() {
        for (display, number) in [(":0", 0), (":10.0", 10), ("unix:3", 3)] {
            assert_eq!(local(display).unwrap(), number);
        }
        for display in ["localhost:10.0", "10.0.0.1:0", "", ":", ":x"] {
            assert!(local(display).is_err(), "{display}");
        }
    }
}
