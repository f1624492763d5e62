//! An image into the container engine of this machine: docker, or Podman with docker's API.
//!
//! The engine keeps layers uncompressed, so they are sent so, and straight from the store: nothing is written on the way. What
//! it would be is computed first; an image that the engine has is not sent again.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bollard::query_parameters::{ImportImageOptionsBuilder, TagImageOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_util::StreamExt;
use hatchway_envs::Progress;

use crate::Image;
use crate::archive;
use crate::blob::{self, Blob};
use crate::document::Documents;
use crate::error::Error;
use crate::layout::Written;

/// Where docker's socket is, unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// An engine that has not answered a question by then hangs.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Loading is as long as the engine's disk is slow.
const LOAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes that are sent at once.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the engine: what is read ahead while it writes.
const PIECES_MAX: usize = 16;

/// How the engine got the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Loaded,
    /// It was there under another name, and has this one now too.
    Tagged,
    /// It was there under this name.
    There,
}

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// Finds the engine, by `DOCKER_HOST` or where docker's is.
    ///
    /// # Errors
    /// [`Error::Host`], [`Error::NoEngine`].
    pub fn find(docker_host: Option<&str>) -> Result<Self, Error> {
        let socket = match docker_host.filter(|host| !host.is_empty()) {
            None => PathBuf::from(SOCKET),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None => return Err(Error::Host(host.to_owned())),
            },
        };
        // bollard tells all of these alike.
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Self { socket }),
            Err(source) => Err(Error::NoEngine { socket, source }),
        }
    }

    /// Sees that the engine has an image, under its name.
    ///
    /// # Errors
    /// [`Error::Engine`] with what it said, a damaged store.
    pub fn load(&self, image: &Image, progress: &dyn Progress) -> Result<(Written, Outcome), Error> {
        let blobs = blob::measure(image, progress)?;
        let documents = Documents::new(image, &blobs)?;
        let runtime = runtime()?;
        let (docker, found) = runtime.block_on(async {
            let docker = self.connect().await?;
            let found = has(&docker, image, &documents).await?;
            if found == Some(Outcome::Tagged) {
                tag(&docker, image, &documents).await?;
            }
            Ok::<_, Error>((docker, found))
        })?;
        let outcome = match found {
            Some(outcome) => outcome,
            None => {
                send(runtime, docker.with_timeout(LOAD_MAX), image, &documents, &blobs, progress)?;
                Outcome::Loaded
            }
        };
        let written = Written {
            manifest: documents.manifest_sha256,
            config: documents.config_sha256,
            blobs,
            shared: 0,
        };
        Ok((written, outcome))
    }

    pub(crate) async fn connect(&self) -> Result<Docker, Error> {
        let path = self.socket.display().to_string();
        let docker = Docker::connect_with_unix(&path, ANSWER_MAX.as_secs(), API_DEFAULT_VERSION)
            .map_err(failed("be asked"))?;
        // Older ones refuse requests of a newer API than theirs.
        docker.negotiate_version().await.map_err(failed("be asked for its version"))
    }
}

/// Whether the engine has the image. Docker names an image by its configuration; on top of containerd, by its manifest.
async fn has(docker: &Docker, image: &Image, documents: &Documents) -> Result<Option<Outcome>, Error> {
    let tagged = image.about.tagged();
    let own = [documents.config_sha256, documents.manifest_sha256].map(|sha256| format!("sha256:{sha256}"));
    for name in [&tagged, &own[0]] {
        match docker.inspect_image(name).await {
            Ok(found) if found.id.as_ref().is_some_and(|id| own.contains(id)) => {
                let named = found.repo_tags.unwrap_or_default().iter().any(|tag| tag.ends_with(&tagged));
                return Ok(Some(if named { Outcome::There } else { Outcome::Tagged }));
            }
            Ok(_) => {}
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed("be asked for the image")(error)),
        }
    }
    Ok(None)
}

async fn tag(docker: &Docker, image: &Image, documents: &Documents) -> Result<(), Error> {
    let about = &image.about;
    let options = TagImageOptionsBuilder::new().repo(&about.repository()).tag(&about.tag()).build();
    let name = format!("sha256:{}", documents.config_sha256);
    docker.tag_image(&name, Some(options)).await.map_err(failed("name the image"))
}

/// Sends the image as an archive that is made while it is sent.
fn send(
    runtime: tokio::runtime::Runtime,
    docker: Docker,
    image: &Image,
    documents: &Documents,
    blobs: &[Blob],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    progress.begin("loading", blobs.iter().map(|blob| blob.size).sum());
    let sent = std::thread::scope(|scope| {
        let maker = scope.spawn(move || {
            let pieces = Pieces { sender: &sender, piece: Vec::new(), progress };
            let made = make(image, documents, blobs, pieces);
            if let Err(error) = &made {
                // A body that ends like this is no whole archive for the engine.
                drop(sender.send(Err(io::Error::other(error.to_string()))));
            }
            made
        });
        let said = runtime.block_on(read_answer(&docker, receiver));
        // With it goes the channel's other end, wherever it is by now: the maker may be waiting for room in it.
        drop((docker, runtime));
        let made = maker.join().unwrap_or_else(|_| Err(failed("load the image")("its archive was not made")));
        // If the engine hung up, the maker's error says less than the engine's.
        match (said, made) {
            (_, Err(error @ (Error::Damaged { .. } | Error::Envs(_)))) => Err(error),
            (said, made) => said.and(made),
        }
    });
    progress.end();
    sent
}

async fn read_answer(docker: &Docker, receiver: Receiver<io::Result<Bytes>>) -> Result<(), Error> {
    // Nothing else runs on this thread, so it may wait for the maker within the stream.
    let pieces = futures_util::stream::iter(receiver);
    let options = ImportImageOptionsBuilder::new().quiet(true).build();
    let mut answer = std::pin::pin!(docker.import_image_stream(options, pieces, None));
    while let Some(line) = answer.next().await {
        line.map_err(failed("load the image"))?;
    }
    Ok(())
}

fn make(image: &Image, documents: &Documents, blobs: &[Blob], to: Pieces<'_>) -> Result<(), Error> {
    let name = Path::new("the image's archive");
    let mut to = archive::members(to, image, documents, blobs, &image.about.tag(), name, |blob, to| {
        let at = blobs.iter().position(|one| one.sha256 == blob.sha256).unwrap_or_default();
        let to = io::BufWriter::with_capacity(PIECE_BYTES, to);
        let mut to = image.layers[at].write(&image.store, to, name)?;
        to.flush().map_err(Error::io("write", name))
    })?;
    to.flush().map_err(Error::io("write", name))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
    made.map_err(|error| failed("be asked")(error))
}

pub(crate) fn failed<E: std::fmt::Display>(action: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Engine { action, reason: error.to_string() }
}

/// Collects what is written into pieces and hands them over.
struct Pieces<'a> {
    sender: &'a SyncSender<io::Result<Bytes>>,
    piece: Vec<u8>,
    progress: &'a dyn Progress,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.progress.advance(piece.len() as u64);
        self.sender.send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_this_machine_are_spoken_to() {
        let folder = tempfile::tempdir().unwrap();
        let absent = format!("unix://{}/none", folder.path().display());
        let error = Engine::find(Some(&absent)).unwrap_err();
        assert!(error.to_string().contains("no container engine answers"), "{error}");
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let deaf = Engine::find(Some(&format!("unix://{}", path.display()))).unwrap_err();
        assert!(
            matches!(&deaf, Error::NoEngine { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
        );
        assert!(matches!(Engine::find(Some("tcp://10.0.0.1:2375")), Err(Error::Host(_))));
    }
}
