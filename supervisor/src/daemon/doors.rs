//! Who may be connected at a time: so many in all, and so many of one user, so that nobody takes the daemon's descriptors away. Who does
//! not come to the end of a request makes room for others after a while.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::{SocketAddr, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Sleep;

/// Connections at a time.
const ALL_MAX: usize = 256;
/// Of these, of one user who is not root.
const USER_MAX: usize = 32;
/// Of these, of root alone: it comes in however many others are there.
const ROOTS: usize = 32;
/// How long somebody may take to the end of the first request's head.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors or memory.
const AGAIN: Duration = Duration::from_millis(100);

/// Connections by user.
type Guests = Arc<Mutex<BTreeMap<u32, usize>>>;

/// The socket, with its bounds.
#[derive(Debug)]
pub(super) struct Doors {
    listener: UnixListener,
    guests: Guests,
}

/// One connection, counted as long as it is there.
#[derive(Debug)]
pub(super) struct Guest {
    stream: UnixStream,
    peer: Option<UCred>,
    uid: u32,
    guests: Guests,
    /// Somebody has a whole head of it.
    heard: Arc<AtomicBool>,
    patience: Pin<Box<Sleep>>,
}

impl Doors {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, guests: Guests::default() }
    }

    /// One too many is let go without a word.
    fn admit(&self, stream: UnixStream) -> Option<Guest> {
        let peer = stream.peer_cred().ok();
        let uid = peer.as_ref().map_or(u32::MAX, UCred::uid);
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = guests.values().sum();
        let own = guests.entry(uid).or_default();
        if all >= ALL_MAX || (uid != 0 && (*own >= USER_MAX || all >= ALL_MAX - ROOTS)) {
            return None;
        }
        *own += 1;
        Some(Guest {
            stream,
            peer,
            uid,
            guests: Arc::clone(&self.guests),
            heard: Arc::default(),
            patience: Box::pin(tokio::time::sleep(HEAD_MAX)),
        })
    }
}

impl Guest {
    pub(super) fn peer(&self) -> Option<UCred> {
        self.peer
    }

    /// To be set once it has asked for something.
    pub(super) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = guests.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
        }
        guests.retain(|_, own| *own > 0);
    }
}

impl Listener for Doors {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if let Some(guest) = self.admit(stream) {
                        return (guest, address);
                    }
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.heard.load(Ordering::Relaxed) && self.patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
