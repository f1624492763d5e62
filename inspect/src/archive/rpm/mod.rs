//! Reading RPM packages.
//!
//! A package is a lead, a header of signatures, a header of facts, and a compressed cpio archive (rpm manual, "V4 Package
//! format"). Signatures are not checked: whoever trusts a package's signer has other means.

mod facts;
mod files;
mod header;
mod scriptlets;

use self::files::Files;
use self::header::Header;
use super::stream::Walk;
use super::{Compression, Description, Source, Visit, cpio, decompress, detect, printable};
use crate::Error;

/// Bytes of the lead, which says nothing that the headers do not.
const LEAD: u64 = 96;
/// What the signature header is padded to.
const ALIGNMENT: u64 = 8;

/// Tags of the payload (rpmtag.h).
const PAYLOAD_FORMAT: u32 = 1124;
const PAYLOAD_COMPRESSOR: u32 = 1125;

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let path = walk.archive;
    let header = main_header(source)?;
    let compression = compression(source, &header)?;
    let files = Files::read(&header);
    let length = source.len().saturating_sub(header.end);
    let payload = source.window(header.end, length);
    let mut stream = decompress::reader(payload, compression, walk.limits).map_err(|e| Error::io(path, e))?;
    cpio::walk(walk, &mut stream, Some(&files), visit)
}

pub(crate) fn describe(source: &mut Source<'_>) -> Result<Description, Error> {
    let header = main_header(source)?;
    let Some(package) = facts::read(&header) else {
        return Err(Error::corrupt(source.name(), "its header names no package"));
    };
    let conffiles = Files::read(&header).configuration(&header);
    Ok(Description { package: Some(package), scripts: scriptlets::read(&header), conffiles })
}

fn main_header(source: &mut Source<'_>) -> Result<Header, Error> {
    let signatures = Header::read(source, LEAD, "the signature header")?;
    Header::read(source, signatures.end.next_multiple_of(ALIGNMENT), "the header of the package")
}

/// By content: packages without the tag are older than any other compression than gzip.
fn compression(source: &mut Source<'_>, header: &Header) -> Result<Compression, Error> {
    let name = source.name().to_owned();
    let refuse = |what: String| Err(Error::unsupported(&name, what));
    let format = header.string(PAYLOAD_FORMAT).unwrap_or_else(|| "cpio".to_owned());
    if format != "cpio" {
        return refuse(format!("its payload is of the format `{}`", printable(format.as_bytes())));
    }
    let compressor = header.string(PAYLOAD_COMPRESSOR);
    if compressor.as_deref() == Some("lzma") {
        return refuse("its payload uses the old lzma compression".to_owned());
    }
    let head = source.read_at(header.end, 128)?;
    match detect::compression_of(&head) {
        Some(compression) => Ok(compression),
        None if head.is_empty() => Err(Error::truncated(source.name(), "its payload is missing")),
        None if head.starts_with(b"0707") => Ok(Compression::None),
        None => {
            let name =
                compressor.map_or_else(String::new, |name| format!(" (`{}`)", printable(name.as_bytes())));
            refuse(format!("its payload is compressed in an unknown way{name}"))
        }
    }
}
