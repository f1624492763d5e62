//! Parsed indices on disk: each with its digest before it, so that a damaged one is made anew.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::index::{CACHE_FORMAT, Part};
use crate::digest::Sha256;
use crate::error::Error;

/// Largest unpacked index: Contents of unstable has 170 MB.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Unpacks an index file.
pub(super) fn unpack(bytes: &[u8], form: &str) -> std::io::Result<String> {
    let reader: Box<dyn Read + '_> = match form {
        ".xz" => Box::new(liblzma::read::XzDecoder::new(bytes)),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        _ => Box::new(bytes),
    };
    let mut text = Vec::new();
    reader.take(UNPACKED_BYTES_MAX).read_to_end(&mut text)?;
    // File names in Contents are bytes; a name that is not UTF-8 cannot be a library that anybody links with.
    Ok(String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Reads a part that is younger than `max_age`.
pub(super) fn load(path: &Path, max_age: Duration) -> Option<Part> {
    let bytes = std::fs::read(path).ok()?;
    // A cache file of another format or a damaged one is simply made anew.
    let part = decode(&bytes)?;
    let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(part.fetched_unix_s);
    let young = SystemTime::now().duration_since(fetched).is_ok_and(|age| age < max_age);
    young.then_some(part)
}

/// How long ago a file was written.
pub(super) fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(std::fs::metadata(path).ok()?.modified().ok()?).ok()
}

fn decode(bytes: &[u8]) -> Option<Part> {
    let (digest, body) = bytes.split_at_checked(64)?;
    let digest: Sha256 = std::str::from_utf8(digest).ok()?.parse().ok()?;
    if digest != Sha256::of(body) {
        return None;
    }
    let part: Part = postcard::from_bytes(body).ok()?;
    (part.format == CACHE_FORMAT).then_some(part)
}

pub(super) fn store(path: &Path, part: &Part) -> Result<(), Error> {
    let body = postcard::to_stdvec(part).map_err(|e| Error::Io {
        action: "encode",
        path: path.to_owned(),
        source: std::io::Error::other(e),
    })?;
    let mut bytes = Sha256::of(&body).hex().into_bytes();
    bytes.extend(body);
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    crate::lock::write_atomically(path, &bytes)
}
