//! The metrics over HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;

use super::{Hub, Listener, Metrics, Stop};

/// How long the page may take to end.
const GRACE: Duration = Duration::from_secs(1);
/// Connections at a time; others wait.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may stay, so that nobody keeps others out. Prometheus connects again.
const STAY: Duration = Duration::from_secs(10);

/// What is asked for, and where it comes from.
pub(super) struct Pages {
    metrics: Arc<Metrics>,
    /// Of images, and of viewers.
    pub(super) hubs: [Arc<Hub>; 2],
}

impl Pages {
    pub(super) fn new(metrics: &Arc<Metrics>, hubs: [Arc<Hub>; 2]) -> Self {
        Self { metrics: Arc::clone(metrics), hubs }
    }

    /// Answers until it is time to end.
    pub(super) fn serve(&self, listener: &Listener, stop: &Stop) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let router = self.router();
        let ended = wait(stop.clone());
        let ended = async move { drop(ended.await) };
        let server = runtime.block_on(async {
            Ok::<_, io::Error>(match listener {
                Listener::Tcp(listener) => {
                    let listener = listener.try_clone()?;
                    listener.set_nonblocking(true)?;
                    let listener = Few::new(tokio::net::TcpListener::from_std(listener)?);
                    tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(ended).into_future())
                }
                Listener::Unix(listener, _) => {
                    let listener = listener.try_clone()?;
                    listener.set_nonblocking(true)?;
                    let listener = Few::new(tokio::net::UnixListener::from_std(listener)?);
                    tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(ended).into_future())
                }
            })
        })?;
        runtime.block_on(async {
            drop(wait(stop.clone()).await);
            // Who is in the middle of a question gets an answer, who takes long over it does not.
            drop(tokio::time::timeout(GRACE, server).await);
        });
        Ok(())
    }

    fn router(&self) -> Router {
        let (metrics, hubs) = (Arc::clone(&self.metrics), self.hubs.clone());
        let page = move || {
            let [images, viewers] = &hubs;
            let subscribers = [("images", images.subscribers()), ("viewers", viewers.subscribers())];
            let text = metrics.text(&subscribers);
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        };
        Router::new().route("/metrics", get(page))
    }
}

/// The stop as something that can be awaited.
fn wait(stop: Stop) -> oneshot::Receiver<()> {
    let (told, heard) = oneshot::channel();
    std::thread::spawn(move || {
        stop.wait_for();
        told.send(()).ok();
    });
    heard
}

/// A listener that lets in so many at a time, and each for so long.
struct Few<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Few<L> {
    fn new(listener: L) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl<L: axum::serve::Listener> axum::serve::Listener for Few<L> {
    type Io = Guest<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (Guest { io, until: Box::pin(tokio::time::sleep(STAY)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection with its place.
struct Guest<I> {
    io: I,
    until: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Guest<I> {
    /// Fails once it has stayed too long.
    fn stay(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.until.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guest<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stay(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Pin::new(&mut self.io).poll_read(context, buffer),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guest<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.stay(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Pin::new(&mut self.io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
