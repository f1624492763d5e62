//! Sound. The person's server loads code for whoever asks: a client names a file of the host as a plug-in, and the server
//! runs it as the person; or it has the server listen on the network. PulseAudio has no client without these rights, and
//! PipeWire's server for the same protocol keeps them too.
//!
//! So the tool gets a PulseAudio of its own, which loads nothing after its start (`--disallow-module-loading`,
//! pulseaudio(1)) and passes sound on to the person's server and back. `shared` is the person's own, and says what it
//! means. PipeWire's own socket is never shown: it hands out cameras and screens as well.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_envs::sandbox::{self, BoundSocket, Companion, HostPath, Secret, Spec};

use super::companion::{self, Running, Sight, Wish};
use super::inside;
use super::session::Session;
use crate::context::Context;
use crate::error::Error;

/// A cookie has 256 bytes.
const COOKIE_MAX: u64 = 4096;
/// What the server is called to people.
const ROLE: &str = "the sound server";
/// The server's folder in the run's folder.
pub(super) const FOLDER: &str = "sound";
/// Where the server sees that folder.
const INSIDE: &str = "/run/sound";
/// Its socket in that folder.
const SOCKET: &str = "native";
/// A copy of the cookie of the person's server, in that folder.
const COOKIE: &str = "cookie";

/// The person's server itself.
pub(super) fn shared(context: &Context, session: &Session, spec: &mut Spec) -> Result<(), Error> {
    let socket = socket(session)?;
    context.printer.warn(
        "the tool shares this session's sound server: it can have it load code from files that the tool has written, as \
         you and outside of the sandbox; `audio = true` gives it a server of its own",
    );
    let at = place(spec);
    spec.sockets.push(BoundSocket { host: sandbox::host_path(&socket)?, at: inside(&at)?, served: false });
    if let Some(path) = &session.pulse_cookie {
        let content = bounded(path)?;
        let at = format!("/run/user/{}/pulse-cookie", spec.identity.uid);
        spec.secrets.push(Secret { at: inside(&at)?, content });
        spec.env.entry("PULSE_COOKIE".to_owned()).or_insert(at);
    }
    Ok(())
}

/// A server of the tool's own.
pub(super) fn own(
    session: &Session,
    run: &Path,
    explain: bool,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    let program = companion::find("pulseaudio").ok_or_else(|| Error::Host {
        message: "`audio = true` needs `pulseaudio`, which is not installed: a server of the tool's own that passes sound \
                  on to this session's"
            .into(),
        hints: vec![
            "`apt install pulseaudio`; beside PipeWire, `systemctl --user mask pulseaudio.socket` keeps it from starting \
             by itself"
                .into(),
            "or `audio = \"shared\"` in the recipe, which lets the tool run code as you".into(),
        ],
    })?;
    let outer = sandbox::host_path(socket(session)?)?;
    let folder = run.join(FOLDER);
    let mut command = Command::new(program);
    arguments(&mut command, outer.as_str())?;
    if explain {
        let command = companion::shown(&command);
        spec.companions.push(Companion { pid: 0, role: ROLE.to_owned(), command });
    } else {
        companion::make_folder(&folder, spec)?;
        environment(&mut command, cookie(session, &folder, spec)?);
        let mut sight = Sight::of(&folder, INSIDE);
        let at = inside(outer.as_str())?;
        sight.sockets.push((outer, at));
        companion::start_listening(&Wish { command, role: ROLE, sight, run }, SOCKET, spec, running)?;
    }
    let host = HostPath::try_from(folder.join(SOCKET).as_path()).map_err(sandbox::Error::from)?;
    let at = place(spec);
    spec.sockets.push(BoundSocket { host, at: inside(&at)?, served: true });
    Ok(())
}

/// Where the tool finds its server.
fn place(spec: &mut Spec) -> String {
    let at = format!("/run/user/{}/pulse/native", spec.identity.uid);
    spec.env.entry("PULSE_SERVER".to_owned()).or_insert_with(|| format!("unix:{at}"));
    at
}

/// Everything it will ever load, in order; the socket comes last and says that it is ready. Who may connect is decided by
/// the folder of the socket. Without shared memory, which goes by numbers of another namespace.
fn arguments(command: &mut Command, outer: &str) -> Result<(), Error> {
    if !outer.chars().all(|c| c.is_alphanumeric() || "/._-+@:".contains(c)) {
        let message = format!("`{outer}` has characters that cannot be given to a sound server");
        let hints = vec!["set `PULSE_SERVER` to a path of letters, digits, `.`, `_` and `-`".into()];
        return Err(Error::Host { message, hints });
    }
    command.args(["--daemonize=no", "-n", "--use-pid-file=no", "--disallow-module-loading=yes"]);
    command.args(["--disallow-exit=yes", "--exit-idle-time=-1", "--disable-shm=yes", "--realtime=no"]);
    command.args(["--high-priority=no", "--log-target=stderr", "--log-level=warning"]);
    for module in [
        format!("module-tunnel-sink-new server=unix:{outer} sink_name=speaker"),
        format!("module-tunnel-source-new server=unix:{outer} source_name=microphone"),
        // The microphone is open only while the tool listens.
        "module-suspend-on-idle".to_owned(),
        format!(
            "module-native-protocol-unix socket={INSIDE}/{SOCKET} auth-anonymous=1 auth-cookie-enabled=0"
        ),
    ] {
        command.arg("-L").arg(module);
    }
    Ok(())
}

/// Nothing of the person's configuration, session bus or display. What it writes for itself is in memory.
fn environment(command: &mut Command, has_cookie: bool) {
    command.env("PULSE_RUNTIME_PATH", "/tmp/runtime").env("PULSE_STATE_PATH", "/tmp/state");
    command.env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
    if has_cookie {
        command.env("PULSE_COOKIE", format!("{INSIDE}/{COOKIE}"));
    }
}

/// The cookie of the person's server, as a file that the tool's user can read but the tool cannot reach.
fn cookie(session: &Session, folder: &Path, spec: &Spec) -> Result<bool, Error> {
    let Some(path) = &session.pulse_cookie else { return Ok(false) };
    let (content, copy) = (bounded(path)?, folder.join(COOKIE));
    let mut options = fs::File::options();
    let made = options.write(true).create_new(true).mode(0o600).open(&copy);
    made.and_then(|mut file| file.write_all(&content)).map_err(Error::io("write", &copy))?;
    companion::give(&copy, spec)?;
    Ok(true)
}

fn socket(session: &Session) -> Result<PathBuf, Error> {
    let missing = |message: String| Error::Host {
        message,
        hints: vec![
            "start this in a session with PulseAudio, or with PipeWire and pipewire-pulse".to_owned(),
            "or take `audio` out of the recipe".to_owned(),
        ],
    };
    if let Some(server) = &session.pulse {
        let path = server.strip_prefix("unix:").or_else(|| server.starts_with('/').then_some(server));
        return match path {
            Some(path) if Path::new(path).exists() => Ok(PathBuf::from(path)),
            _ => Err(missing(format!("the sound server `{server}` of PULSE_SERVER is no local socket"))),
        };
    }
    let socket = session.runtime.as_ref().map(|folder| folder.join("pulse/native"));
    socket
        .filter(|path| path.exists())
        .ok_or_else(|| missing("the recipe asks for sound, and this session has no sound server".to_owned()))
}

fn bounded(path: &Path) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(COOKIE_MAX).read_to_end(&mut content).map_err(Error::io("read", path))?;
    Ok(content)
}
