//! Downloads: bounded, resumable, verified, from the first mirror that answers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::digest::Sha256;
use crate::error::Error;
use crate::progress::Progress;

/// How many files are fetched at once: enough to hide round trips, few enough for a shared mirror.
const CONNECTIONS: usize = 4;
/// An index is read into memory; the largest (Contents of unstable) has 16 MB.
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// A dead server is noticed after this long without an answer to the connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that does not answer a request is given up after this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// One request for content lasts at most this long; a download that has grown meanwhile is continued by another one, so
/// that a stalled server is noticed and a slow one is not.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// A file whose size nobody said is given up beyond this: an endless answer must not fill the disk.
const UNKNOWN_BYTES_MAX: u64 = 64 << 30;

/// What is fetched: where it may come from and what it must be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it is, best first.
    pub urls: Vec<String>,
    /// How messages name it, without a host ("`pool/…/x.deb` of debian:bookworm/main").
    pub what: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes, where known.
    pub size: Option<u64>,
}

/// An HTTP client.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    offline: bool,
}

impl Client {
    /// A client; an offline one refuses every request.
    #[must_use]
    pub fn new(offline: bool) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("hatchway/", env!("CARGO_PKG_VERSION")))
            .tls_config(
                ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build(),
            )
            .build();
        Self { agent: config.into(), offline }
    }

    /// Reads a small file into memory from the first URL that has it.
    ///
    /// # Errors
    /// The last URL's failure; [`Error::Offline`].
    pub fn get(&self, urls: &[String], what: &str) -> Result<Vec<u8>, Error> {
        self.first(urls, what, |url| {
            let mut response = self.request(url, what, 0)?;
            check_status(response.status().as_u16(), what)?;
            let mut bytes = Vec::new();
            let mut body = response.body_mut().as_reader().take(INDEX_BYTES_MAX + 1);
            body.read_to_end(&mut bytes).map_err(|e| broken(what, e))?;
            if bytes.len() as u64 > INDEX_BYTES_MAX {
                return Err(broken(what, io::Error::other("the file is larger than an index may be")));
            }
            Ok(bytes)
        })
    }

    /// Fetches a file to `target`. What an earlier, interrupted call left in `partial` is continued. `target`
    /// appears only when its digest is right.
    ///
    /// # Errors
    /// The last URL's failure; [`Error::WrongHash`]; a full disk.
    pub fn fetch(
        &self,
        wanted: &Wanted,
        partial: &Path,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let length = || std::fs::metadata(partial).map_or(0, |m| m.len());
        self.first(&wanted.urls, &wanted.what, |url| {
            let had = length();
            let mut before = had;
            while let Err(error) = self.append(url, wanted, partial, progress) {
                if length() <= before {
                    return Err(error);
                }
                before = length();
            }
            match verify(wanted, partial) {
                // A resumed file may mix two versions; only a fresh one proves that the server has the wrong file.
                Err(Error::WrongHash { .. }) if had > 0 => {
                    remove(partial)?;
                    self.append(url, wanted, partial, progress)?;
                    verify(wanted, partial)
                }
                other => other,
            }
            .inspect_err(|_| drop(remove(partial)))
        })?;
        // Before the rename: what appears in the store is finished, its mode too.
        let sealed = File::open(partial).and_then(|file| {
            crate::store::seal(&file, false)?;
            file.sync_all()
        });
        sealed.map_err(Error::io("sync", partial))?;
        std::fs::rename(partial, target).map_err(Error::io("rename", partial))
    }

    fn append(
        &self,
        url: &str,
        wanted: &Wanted,
        partial: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        // One that was finished, but not yet in its place when everything stopped, may not be written any more.
        if let Ok(there) = std::fs::metadata(partial)
            && there.permissions().readonly()
        {
            if wanted.size.is_some_and(|size| there.len() >= size) {
                return Ok(());
            }
            remove(partial)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(partial)
            .map_err(Error::io("create", partial))?;
        let had = file.seek(SeekFrom::End(0)).map_err(Error::io("read", partial))?;
        if wanted.size.is_some_and(|size| had >= size) {
            return Ok(());
        }
        let mut response = self.request(url, &wanted.what, had)?;
        let status = response.status().as_u16();
        if status == 416 && had > 0 {
            // Nothing is left to send: whether it is the right file, its digest says.
            return Ok(());
        }
        if status == 200 && had > 0 {
            // This server does not resume: from the start.
            file.set_len(0).and_then(|()| file.rewind()).map_err(Error::io("truncate", partial))?;
        } else {
            check_status(status, &wanted.what)?;
        }
        if status == 206 {
            progress.advance(had);
        }
        // One byte more than allowed is read, so that a longer file fails its hash instead of filling the disk.
        let limit = wanted.size.map_or(UNKNOWN_BYTES_MAX, |size| size.saturating_add(1));
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader().take(limit);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut buffer).map_err(|e| broken(&wanted.what, e))?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).map_err(Error::io("write", partial))?;
            progress.advance(count as u64);
        }
    }

    fn request(&self, url: &str, what: &str, from: u64) -> Result<ureq::http::Response<ureq::Body>, Error> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|source| Error::Download { what: what.to_owned(), source: Box::new(source) })
    }

    fn first<T>(
        &self,
        urls: &[String],
        what: &str,
        mut one: impl FnMut(&str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.offline {
            return Err(Error::Offline { what: what.to_owned() });
        }
        let mut failures: Vec<Error> = Vec::new();
        for url in urls {
            match one(url) {
                Err(
                    error @ (Error::Download { .. } | Error::DownloadStatus { .. } | Error::WrongHash { .. }),
                ) => failures.push(error),
                other => return other,
            }
        }
        // That one mirror lacks a file says less than why another could not be asked.
        let gone = |error: &Error| matches!(error, Error::DownloadStatus { status: 404 | 410, .. });
        let at = failures.iter().rposition(|error| !gone(error)).unwrap_or(failures.len().saturating_sub(1));
        Err(failures.into_iter().nth(at).unwrap_or(Error::NoMirror))
    }
}

/// Runs `each` over the items on a few threads; the first error stops the rest.
pub(crate) fn parallel<T: Sync>(
    items: &[T],
    threads: usize,
    each: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    if threads.min(items.len()) == 1 {
        return items.iter().try_for_each(each);
    }
    let queue = Mutex::new(items.iter());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while failure.lock().is_ok_and(|f| f.is_none())
                    && let Some(item) = queue.lock().ok().and_then(|mut q| q.next())
                {
                    if let Err(error) = each(item)
                        && let Ok(mut slot) = failure.lock()
                    {
                        slot.get_or_insert(error);
                    }
                }
            });
        }
    });
    failure.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// Runs `each` over the items with as many connections as a mirror should see.
pub(crate) fn parallel_downloads<T: Sync>(
    items: &[T],
    each: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    parallel(items, CONNECTIONS, each)
}

fn verify(wanted: &Wanted, partial: &Path) -> Result<(), Error> {
    let (found, _) = Sha256::of_file(partial).map_err(Error::io("read", partial))?;
    if found == wanted.sha256 {
        return Ok(());
    }
    Err(Error::WrongHash { what: wanted.what.clone(), expected: wanted.sha256, found })
}

fn check_status(status: u16, what: &str) -> Result<(), Error> {
    match status {
        200 | 206 => Ok(()),
        _ => Err(Error::DownloadStatus { what: what.to_owned(), status }),
    }
}

fn broken(what: &str, error: io::Error) -> Error {
    Error::Download { what: what.to_owned(), source: Box::new(ureq::Error::Io(error)) }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
