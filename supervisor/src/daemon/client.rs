//! The other end of the API, for the command line.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::attach::{PROTOCOL, RUN_HEADER};
use crate::dirs::{Dirs, is_root};
use crate::error::Error;

use super::api::SOCKET;
use super::journal::Event;
use super::problem::Problem;

/// The runtime folder of root's daemon.
pub(super) const SYSTEM: &str = "/run/hatchway";
/// An answer is no longer than this.
const ANSWER_MAX: usize = 64 << 20;
/// How long a daemon may take to begin its answer: one that systemd starts because somebody asks takes a moment, one that hangs has ten
/// seconds until its watchdog ends it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A daemon that answers.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
    /// It is root's, and this process is not.
    machines: bool,
}

impl Client {
    /// The daemon of this runtime folder, or else that of the machine; `None` where none runs.
    ///
    /// # Errors
    /// This process may not connect.
    pub fn find(dirs: &Dirs) -> Result<Option<Self>, Error> {
        let own = Self::at(dirs.runtime.join(SOCKET), false)?;
        match own {
            None if !is_root() => Self::at(Path::new(SYSTEM).join(SOCKET), true),
            own => Ok(own),
        }
    }

    fn at(socket: PathBuf, machines: bool) -> Result<Option<Self>, Error> {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => {}
            Err(error) => {
                return match error.kind() {
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(Error::io("connect to", &socket)(error)),
                };
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Some(Self { runtime: runtime.map_err(Error::io("begin", "/proc/self"))?, socket, machines }))
    }

    /// It is the machine's, with other folders than this user's.
    #[must_use]
    pub fn is_machines(&self) -> bool {
        self.machines
    }

    /// Asks for what is at a path.
    ///
    /// # Errors
    /// The daemon has gone, or says no.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// The daemon has gone, or says no.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&impl Serialize>) -> Result<T, Error> {
        let text = body.map(serde_json::to_vec).transpose();
        let text = text.map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?.unwrap_or_default();
        self.ask(Method::POST, path, text.into())
    }

    /// Gives each event after this number, for ever, to a function that says whether to go on.
    ///
    /// # Errors
    /// The daemon has gone, or says no.
    pub fn events(&self, since: u64, each: impl FnMut(Event) -> bool) -> Result<(), Error> {
        self.follow(&format!("/v1/events?since={since}"), each)
    }

    /// Gives each thing of a stream to a function that says whether to go on.
    ///
    /// # Errors
    /// The daemon has gone, or says no.
    pub fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> bool,
    ) -> Result<(), Error> {
        self.runtime.block_on(async {
            let request = self.request(Method::GET, path, Bytes::new(), "text/event-stream")?;
            let mut answer = self.send(request).await?;
            let mut text = Vec::new();
            while let Some(frame) = answer.body_mut().frame().await {
                let frame = frame.map_err(|error| self.gone(&error))?;
                text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let data = line.strip_prefix(b"data: ");
                    if let Some(one) = data.and_then(|data| serde_json::from_slice(data).ok())
                        && !each(one)
                    {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Comes to a unit's terminal: the stream of raw bytes, and what of it came with the answer.
    ///
    /// # Errors
    /// The daemon has gone, or says no.
    pub fn attach(&self, path: &str) -> Result<(OwnedFd, Vec<u8>, Option<String>), Error> {
        self.runtime.block_on(async {
            let mut request = self.request(Method::GET, path, Bytes::new(), "application/json")?;
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
            let answer = self.send(request).await?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.gone(&"it does not hand the terminal over"));
            }
            let run = answer.headers().get(RUN_HEADER).and_then(|run| run.to_str().ok()).map(str::to_owned);
            let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.gone(&error))?;
            let parts = upgraded.downcast::<TokioIo<UnixStream>>();
            let parts = parts.map_err(|_| self.gone(&"its connection is another"))?;
            let stream = parts.io.into_inner().into_std().map_err(|error| self.gone(&error))?;
            Ok((stream.into(), parts.read_buf.into(), run))
        })
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Error> {
        self.runtime.block_on(async {
            let request = self.request(method, path, body, "application/json")?;
            let answer = self.send(request).await?;
            let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| self.gone(&error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| self.gone(&error))
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        accept: &str,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", "application/json");
        request
            .body(Full::new(body))
            .map_err(|error| Error::Usage(format!("`{path}` cannot be asked for: {error}")))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(Error::io("connect to", &self.socket))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.gone(&error))?;
        tokio::spawn(connection.with_upgrades());
        let answer = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request)).await;
        let answer = answer.map_err(|_| self.silent())?.map_err(|error| self.gone(&error))?;
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await.map_err(|error| self.gone(&error))?.to_bytes();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(refused(problem)),
            Err(error) => Err(self.gone(&error)),
        }
    }

    fn silent(&self) -> Error {
        let within = ANSWER_WITHIN.as_secs();
        Error::Host {
            message: format!("the daemon at `{}` gives no answer within {within} s", self.socket.display()),
            hints: vec![
                "units go on without it; `systemctl restart hatchway` begins another, and `journalctl --unit hatchway -n 20` says what this one did".to_owned(),
            ],
        }
    }

    fn gone(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Host {
            message: format!("the daemon at `{}` gives no answer: {error}", self.socket.display()),
            hints: vec![
                "`journalctl --unit hatchway -n 20` says what became of it; ask again, and the files answer"
                    .to_owned(),
            ],
        }
    }
}

fn refused(problem: Problem) -> Error {
    let code = problem.kind.strip_prefix("urn:hatchway:").unwrap_or(&problem.kind).to_owned();
    let mut hints = problem.hints;
    hints.push(format!("`hatchway explain {code}`"));
    Error::Problem { message: problem.detail, code: problem.code, hints }
}
