//! Managed code: the CLR header and the metadata it points to (ECMA-335, II.24 and II.25.3.3).

use memchr::memmem;

use super::image::{Image, directory, u16_at, u32_at, usize_of};

/// Streams of the metadata; the standard knows five.
const STREAMS: usize = 16;
/// Bytes of a runtime version; the standard allows 255.
const VERSION: usize = 255;
/// Bytes of the `#Blob` heap that are searched, and places in it that are looked at.
const BLOB: usize = 32 << 20;
const HITS: usize = 256;
/// Bytes between the beginning of a framework's name and its version.
const MONIKER: usize = 48;
/// II.24.2.1: the signature of the metadata root.
const SIGNATURE: &[u8] = b"BSJB";

/// What the metadata says.
#[derive(Debug, Default)]
pub(super) struct Managed {
    /// The version of the runtime.
    pub(super) runtime: Option<String>,
    /// The argument of `TargetFrameworkAttribute`.
    pub(super) framework: Option<String>,
    /// Whether a class of it derives from that of services, or it calls the Windows function services call first.
    pub(super) service: bool,
}

/// Reads the metadata of a managed program; `None` if it is not managed.
pub(super) fn read(image: &Image<'_>) -> Option<Managed> {
    let (address, _) = image.directory(directory::CLR)?;
    let mut managed = Managed::default();
    let Some(metadata) = metadata(image, address) else { return Some(managed) };
    let length = u32_at(metadata, 12).map_or(0, usize_of).min(VERSION);
    let version = metadata.get(16..).and_then(|rest| rest.get(..length)).unwrap_or_default();
    let version = version.get(..memchr::memchr(0, version).unwrap_or(version.len())).unwrap_or_default();
    let readable = !version.is_empty() && version.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    managed.runtime = readable.then(|| String::from_utf8_lossy(version).into_owned());
    managed.framework = stream(metadata, b"#Blob").and_then(framework);
    let strings = stream(metadata, b"#Strings").unwrap_or_default();
    managed.service = [&b"\0ServiceBase\0"[..], b"\0StartServiceCtrlDispatcher"]
        .iter()
        .any(|name| memmem::find(strings, name).is_some());
    Some(managed)
}

/// The metadata, if the CLR header points to some.
fn metadata<'b>(image: &Image<'b>, header: u32) -> Option<&'b [u8]> {
    let header = image.at(header)?;
    let metadata = image.slice(u32_at(header, 8)?, u32_at(header, 12)?)?;
    metadata.starts_with(SIGNATURE).then_some(metadata)
}

/// A stream of the metadata by its name. II.24.2.2: offset, size, name padded to four bytes.
fn stream<'b>(metadata: &'b [u8], wanted: &[u8]) -> Option<&'b [u8]> {
    let length = u32_at(metadata, 12).map(usize_of)?;
    let mut at = 16_usize.checked_add(length)?.checked_add(4)?;
    let count = usize::from(u16_at(metadata, at.checked_sub(2)?)?);
    for _ in 0..count.min(STREAMS) {
        let header = metadata.get(at..)?;
        let (offset, size) = (usize_of(u32_at(header, 0)?), usize_of(u32_at(header, 4)?));
        let name = header.get(8..header.len().min(8 + 32))?;
        let name = name.get(..memchr::memchr(0, name)?)?;
        if name == wanted {
            let rest = metadata.get(offset..)?;
            return rest.get(..size.min(rest.len()));
        }
        at = at.checked_add(8 + (name.len() + 4) / 4 * 4)?;
    }
    None
}

/// `.NETFramework,Version=v4.7.2`: a custom attribute's blob is 1, 0, the length of the text, the text (II.23.3).
fn framework(blobs: &[u8]) -> Option<String> {
    let blobs = blobs.get(..blobs.len().min(BLOB))?;
    memmem::find_iter(blobs, b",Version=v").take(HITS).find_map(|at| {
        let from = at.saturating_sub(MONIKER);
        let prolog = memmem::rfind(blobs.get(from..at)?, &[1, 0])? + from;
        let text = blobs.get(prolog.checked_add(3)?..)?;
        let text = text.get(..usize::from(*blobs.get(prolog + 2)?))?;
        let plain = |b: &u8| b.is_ascii_graphic() || *b == b' ';
        let named = text.first().is_some_and(|b| *b == b'.' || b.is_ascii_alphabetic());
        (named && text.len() > at - (prolog + 3) && text.iter().all(plain))
            .then(|| String::from_utf8_lossy(text).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framework_is_the_whole_text_of_its_blob() {
        let mut blobs =
            b"\0\x08\x01\0\x08\0\0\0\0\0\x1b\x01\0\x14,Version=v unrelated!\0\x4b\x01\0\x1c".to_vec();
        blobs.extend_from_slice(b".NETFramework,Version=v4.7.2\x01\0");
        assert_eq!(framework(&blobs).as_deref(), Some(".NETFramework,Version=v4.7.2"));
        blobs.truncate(blobs.len() - 4);
        assert_eq!(framework(&blobs), None);
    }
}
