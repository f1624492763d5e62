//! Addresses of sockets, as plans and commands write them: `tcp:HOST:PORT` and `unix:PATH`.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::Stop;
use crate::Error;

/// Before another try to let somebody in.
const AGAIN: Duration = Duration::from_millis(50);

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Door {
    /// A TCP port of an address; port 0 is any that is free.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither `tcp:ADDRESS:PORT` nor `unix:PATH`");
        match text.split_once(':') {
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Door {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Door> for String {
    fn from(door: Door) -> Self {
        door.to_string()
    }
}

impl fmt::Display for Door {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "tcp:{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl Door {
    /// The same with a relative path below a folder.
    #[must_use]
    pub fn below(&self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            Self::Tcp(_) => self.clone(),
        }
    }

    /// Whether others than this machine's programs reach it.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }

    /// Listens.
    ///
    /// # Errors
    /// The address is in use or not ours. A Unix socket that nobody listens at is replaced.
    pub fn listen(&self) -> Result<Listener, Error> {
        let failed = |source| Error::Door { action: "listen", door: self.to_string(), source };
        match self {
            Self::Tcp(address) => TcpListener::bind(address).map(Listener::Tcp).map_err(failed),
            Self::Unix(path) => {
                bind(path).map(|(listener, own)| Listener::Unix(listener, own)).map_err(failed)
            }
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(&self) -> Result<Stream, Error> {
        let failed = |source| Error::Door { action: "connect", door: self.to_string(), source };
        match self {
            Self::Tcp(address) => TcpStream::connect(address).and_then(Stream::tcp).map_err(failed),
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix).map_err(failed),
        }
    }
}

/// Listens at a path, in the place of a service that is gone.
fn bind(path: &Path) -> io::Result<(UnixListener, Own)> {
    let lock = lock(path)?;
    remove_deserted(path)?;
    Ok((UnixListener::bind(path)?, Own { path: path.to_owned(), socket: identity(path)?, lock }))
}

/// Whoever listens at a path holds a lock beside it: of two that begin at once one could otherwise take the other's new socket for a
/// deserted one.
fn lock(path: &Path) -> io::Result<File> {
    let name = lock_of(path);
    loop {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        let file = file.custom_flags(OFlag::O_NOFOLLOW.bits()).open(&name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who held it before may have removed it after it was opened here.
        if is_at(&file, &name) {
            return Ok(file);
        }
    }
}

/// Whether a path leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    file.metadata().is_ok_and(|of| identity(path).is_ok_and(|found| found == (of.dev(), of.ino())))
}

fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Which file a path leads to.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let of = path.symlink_metadata()?;
    Ok((of.dev(), of.ino()))
}

/// Removes the socket of a service that is gone.
fn remove_deserted(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = path.symlink_metadata().is_ok_and(|of| of.file_type().is_socket());
    let is_deserted =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && is_deserted() { std::fs::remove_file(path) } else { Ok(()) }
}

/// A socket that is listened at; a Unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, with what goes with it.
    Unix(UnixListener, Own),
}

/// A Unix socket's files.
#[derive(Debug)]
pub struct Own {
    path: PathBuf,
    /// Which file the socket is.
    socket: (u64, u64),
    lock: File,
}

impl Listener {
    /// Where it is, with the port that was given.
    ///
    /// # Errors
    /// The system does not say.
    pub fn door(&self) -> io::Result<Door> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Door::Tcp),
            Self::Unix(_, own) => Ok(Door::Unix(own.path.clone())),
        }
    }

    /// The next who connects; none once it is time to end.
    ///
    /// # Errors
    /// The door cannot be waited at. Who is gone before being let in, and descriptors that are all in use, are no error: it tries again.
    pub fn accept(&self, stop: &Stop) -> io::Result<Option<Stream>> {
        while stop.wait(self)? {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().and_then(|(stream, _)| Stream::tcp(stream)),
                Self::Unix(listener, ..) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => return Ok(Some(stream)),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
        Ok(None)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, ..) => listener.as_fd(),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Another service's that has taken its place stays; one that cannot be removed is replaced by who comes next.
        if identity(&self.path).is_ok_and(|found| found == self.socket) {
            drop(std::fs::remove_file(&self.path));
        }
        let name = lock_of(&self.path);
        if is_at(&self.lock, &name) {
            drop(std::fs::remove_file(name));
        }
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Stream {
    /// An image is worth a packet of its own, and a machine that was switched off does not hold its place for ever: after some half a minute
    /// without an answer it is gone.
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        setsockopt(&stream, sockopt::TcpKeepIdle, &10)?;
        setsockopt(&stream, sockopt::TcpKeepInterval, &5)?;
        setsockopt(&stream, sockopt::TcpKeepCount, &4)?;
        Ok(Self::Tcp(stream))
    }

    /// Another handle of the same connection.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    /// How long a write may wait for the other end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(patience)),
            Self::Unix(stream) => stream.set_write_timeout(Some(patience)),
        }
    }

    /// Ends what is sent; the other end's answers still come.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends the connection both ways; who waits for it wakes up.
    pub fn hang_up(&self) {
        // It may have ended before.
        match self {
            Self::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Self::Unix(stream) => drop(stream.shutdown(Shutdown::Both)),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["tcp:127.0.0.1:4000", "tcp:[::1]:0", "unix:images.sock", "unix:/run/a:b"] {
            assert_eq!(text.parse::<Door>().unwrap().to_string(), text);
        }
        for wrong in ["", "127.0.0.1:4000", "tcp:here:1", "tcp:127.0.0.1", "unix:", "udp:1.2.3.4:5"] {
            assert!(wrong.parse::<Door>().is_err(), "{wrong}");
        }
        assert!("tcp:0.0.0.0:1".parse::<Door>().unwrap().is_open_to_others());
        assert!(!"tcp:127.0.0.1:1".parse::<Door>().unwrap().is_open_to_others());
    }

    #[test]
    fn a_deserted_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = Door::Unix(path.clone());
        let living = door.listen().unwrap();
        assert!(door.listen().is_err());
        drop(living);
        let left: Vec<_> = folder.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        // One whose files somebody has removed does not take its successor's socket with it.
        let living = door.listen().unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(lock_of(&path)).unwrap();
        let next = door.listen().unwrap();
        drop(living);
        assert!(path.exists());
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_that_begin_at_once_one_listens_and_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let door = Door::Unix(path.clone());
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let begin = std::sync::Barrier::new(4);
            let all: Vec<_> = std::thread::scope(|scope| {
                let listen = || {
                    begin.wait();
                    door.listen().ok()
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(listen)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(all.len(), 1);
            door.connect().unwrap();
        }
    }
}
