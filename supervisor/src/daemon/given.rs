//! The API's socket, where systemd holds it (socket activation, sd_listen_fds(3)): then nobody who asks is refused while the daemon is
//! restarted, and one that does not run is started by who asks.

use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::error::Error;

/// The one that this process was started with; nothing where it was started without.
///
/// # Errors
/// Something else was given: a daemon without its socket is of no use to anybody.
pub(super) fn take(socket: &Path) -> Result<Option<UnixListener>, Error> {
    let wrong = |message: String| Error::Host {
        message,
        hints: vec!["`systemctl cat hatchway.socket` says what systemd listens at".to_owned()],
    };
    let failed = || Error::io("take the socket that systemd holds for", socket);
    let numbers: Vec<_> = sd_notify::listen_fds().map_err(failed())?.collect();
    let [number] = numbers[..] else {
        return match numbers.len() {
            0 => Ok(None),
            many => Err(wrong(format!("systemd gives {many} sockets, and the API has one"))),
        };
    };
    let listener = UnixListener::from(hatchway_sys::descriptors::copy_of(number).map_err(failed())?);
    let at = listener.local_addr().map_err(failed())?;
    // `/run` may be a link.
    let is_same = |path: &Path| path == socket || same(path, socket);
    if !at.as_pathname().is_some_and(is_same) {
        return Err(wrong(format!("the socket that systemd gives is not `{}`", socket.display())));
    }
    listener.set_nonblocking(true).map_err(failed())?;
    Ok(Some(listener))
}

/// Whether somebody who looks for it comes to it: another daemon, one of a version that knows nothing of systemd's sockets, may have taken
/// its name away. It is asked by whoever holds the daemon's lock.
pub(super) fn is_there(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    of(one).is_some_and(|found| of(other) == Some(found))
}
