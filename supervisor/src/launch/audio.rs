//! Sound: the socket of the person's PulseAudio, or of PipeWire in its place, and its cookie. PipeWire's own socket is
//! not shown: it hands out cameras and screens as well.

use std::path::{Path, PathBuf};

use hatchway_envs::sandbox::{self, BoundSocket, Secret, Spec};

use super::inside;
use super::session::Session;
use crate::error::Error;

/// A cookie has 256 bytes.
const COOKIE_MAX: u64 = 4096;

pub(super) fn add(session: &Session, spec: &mut Spec) -> Result<(), Error> {
    let socket = socket(session)?;
    let folder = format!("/run/user/{}", spec.identity.uid);
    let at = format!("{folder}/pulse/native");
    spec.sockets.push(BoundSocket { host: sandbox::host_path(&socket)?, at: inside(&at)?, served: false });
    spec.env.entry("PULSE_SERVER".to_owned()).or_insert_with(|| format!("unix:{at}"));
    if let Some(path) = &session.pulse_cookie {
        let content = bounded(path)?;
        let at = format!("{folder}/pulse-cookie");
        spec.secrets.push(Secret { at: inside(&at)?, content });
        spec.env.entry("PULSE_COOKIE".to_owned()).or_insert(at);
    }
    Ok(())
}

fn socket(session: &Session) -> Result<PathBuf, Error> {
    let missing = |message: String| Error::Host {
        message,
        hints: vec![
            "start this in a session with PulseAudio, or with PipeWire and pipewire-pulse".to_owned(),
            "or take `audio = true` out of the recipe".to_owned(),
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
    use std::io::Read;
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(COOKIE_MAX).read_to_end(&mut content).map_err(Error::io("read", path))?;
    Ok(content)
}
