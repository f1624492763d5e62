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

use hatchway_envs::sandbox::{self, BoundSocket, Companion, Secret, Spec};

use super::companion::{self, Running};
use super::session::Session;
use super::{inside, xauthority};
use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;

/// The cookie of the nested server, in the run's folder.
pub(super) const AUTHORITY: &str = "xauthority";
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
        show(number, cookie.as_deref(), spec)?;
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

/// A server of the tool's own.
pub(super) fn nested(
    context: &Context,
    session: &Session,
    folder: &Path,
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
    let mut command = Command::new(program);
    let authority = folder.join(AUTHORITY);
    command.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"]).arg("-auth").arg(&authority);
    // Shared memory goes by numbers of an IPC namespace, and the tool has its own: the server would attach somebody
    // else's. Without the extension every toolkit takes the socket.
    command.args(["-extension", "MIT-SHM"]);
    if name == "Xephyr" {
        command.args(["-screen", SCREEN, "-resizeable", "-title"]).arg(&spec.unit);
    } else {
        command.args(["-screen", "0", SCREEN]);
    }
    if explain {
        let (pid, command) = (0, companion::shown(&command));
        spec.companions.push(Companion { pid, role: ROLE.to_owned(), command });
        return show(free_number(), Some(&[0; 16]), spec);
    }
    let cookie = random()?;
    private(&authority, &xauthority::file(0, &cookie), spec)?;
    if name == "Xephyr" {
        outer(session, folder, spec, &mut command)?;
    } else {
        context.printer.say("no DISPLAY here: the tool draws on a display in memory, which nobody sees");
    }
    let said = companion::start(command, ROLE, folder, spec, running)?;
    let number: u32 = said.parse().map_err(|_| Error::Host {
        message: format!("{ROLE} said `{said}` instead of its number"),
        hints: Vec::new(),
    })?;
    show(number, Some(&cookie), spec)
}

/// The nested server is a client of the person's display; as another user than the person it needs the cookie.
fn outer(session: &Session, folder: &Path, spec: &Spec, command: &mut Command) -> Result<(), Error> {
    let Some(authority) = &session.authority else { return Ok(()) };
    if !is_root() {
        command.env("XAUTHORITY", authority);
        return Ok(());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(authority).map_err(Error::io("read", authority))?;
    file.take(1 << 20).read_to_end(&mut bytes).map_err(Error::io("read", authority))?;
    let copy = folder.join(companion::OUTER_AUTHORITY);
    private(&copy, &bytes, spec)?;
    command.env("XAUTHORITY", copy);
    Ok(())
}

/// A file that only the tool's user may read.
fn private(path: &Path, bytes: &[u8], spec: &Spec) -> Result<(), Error> {
    let mut options = fs::File::options();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    if is_root() {
        std::os::unix::fs::fchown(&file, Some(spec.identity.uid), Some(spec.identity.gid))
            .map_err(Error::io("change the owner of", path))?;
    }
    Ok(())
}

/// Shows one X server's socket and gives the tool its cookie. The number stays what it is on the host: libraries try
/// the abstract socket of that number too.
fn show(number: u32, cookie: Option<&[u8]>, spec: &mut Spec) -> Result<(), Error> {
    let socket = format!("{SOCKETS}/X{number}");
    let host = sandbox::HostPath::new(&socket).map_err(sandbox::Error::from)?;
    spec.sockets.push(BoundSocket { host, at: inside(&socket)?, served: false });
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

/// What the server would take, for people.
fn free_number() -> u32 {
    let taken = |n: &u32| {
        Path::new(&format!("{SOCKETS}/X{n}")).exists() || Path::new(&format!("/tmp/.X{n}-lock")).exists()
    };
    (0..1000).find(|number| !taken(number)).unwrap_or(0)
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
