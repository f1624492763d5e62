//! Headers that say more about the next member than fits into its own: GNU long names, PAX records.

use std::io::Read;

use tar::Header;

use super::super::capabilities;
use super::super::stream::Walk;
use super::{padding, printable};
use crate::Error;

/// Names of extended attributes kept per entry.
const XATTR_NAMES: usize = 16;

/// What extension headers said about the next member.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) xattr_names: Vec<String>,
    pub(super) capabilities: Option<String>,
    pub(super) sparse: Sparse,
}

/// What PAX records say about a sparse file.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    name: Option<Vec<u8>>,
    /// The size of the file with its holes.
    pub(super) size: Option<u64>,
    /// Version 1 keeps its map at the beginning of the content.
    pub(super) map_in_content: bool,
    /// Offsets and lengths by turns, as versions 0.0 and 0.1 spell them.
    pub(super) map: Vec<u64>,
}

impl Extensions {
    pub(super) fn any(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.size.is_some() || !self.xattr_names.is_empty()
    }

    /// The member's name, from wherever it is spelled in full.
    pub(super) fn name(&self, header: &Header) -> Vec<u8> {
        let spelled = self.sparse.name.as_ref().or(self.path.as_ref());
        spelled.cloned().unwrap_or_else(|| header.path_bytes().into_owned())
    }

    /// Reads an extension header; `false` for a real member.
    pub(super) fn absorb(
        &mut self,
        walk: &mut Walk<'_>,
        header: &Header,
        stream: &mut dyn Read,
    ) -> Result<bool, Error> {
        match header.entry_type().as_byte() {
            b'L' => self.path = Some(trimmed(extension_body(walk, header, stream)?)),
            b'K' => self.link = Some(trimmed(extension_body(walk, header, stream)?)),
            b'x' | b'X' => {
                let body = extension_body(walk, header, stream)?;
                self.records(walk, &body)?;
            }
            b'g' => {
                let body = extension_body(walk, header, stream)?;
                global(walk, &body)?;
            }
            // A volume's label.
            b'V' => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn records(&mut self, walk: &Walk<'_>, body: &[u8]) -> Result<(), Error> {
        for record in Records(body) {
            let (key, value) = record.map_err(|what| Error::corrupt(walk.archive, what))?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(walk, key, value)?),
                b"uid" => self.uid = Some(decimal(walk, key, value)?),
                b"gid" => self.gid = Some(decimal(walk, key, value)?),
                _ => self.other(walk, key, value)?,
            }
        }
        Ok(())
    }

    fn other(&mut self, walk: &Walk<'_>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.record(walk, key, value);
        }
        let name = key.strip_prefix(b"SCHILY.xattr.").or_else(|| key.strip_prefix(b"LIBARCHIVE.xattr."));
        // libarchive's own form of the record is Base64; star's, which GNU tar and libarchive write beside it, is not.
        if key == b"SCHILY.xattr.security.capability" {
            self.capabilities = capabilities::read(value);
        }
        if let Some(name) = name
            && self.xattr_names.len() < XATTR_NAMES
        {
            self.xattr_names.push(printable(name));
            self.xattr_names.sort();
            self.xattr_names.dedup();
        }
        Ok(())
    }
}

impl Sparse {
    fn record(&mut self, walk: &Walk<'_>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(walk, key, value)?),
            b"major" => self.map_in_content = decimal(walk, key, value)? == 1,
            b"offset" | b"numbytes" => self.map.push(decimal(walk, key, value)?),
            b"map" if !value.is_empty() => {
                for number in value.split(|&byte| byte == b',') {
                    self.map.push(decimal(walk, key, number)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Records that hold for all members. Harmless ones (git writes a comment) are skipped; a path for every member is not.
fn global(walk: &Walk<'_>, body: &[u8]) -> Result<(), Error> {
    for record in Records(body) {
        let (key, _) = record.map_err(|what| Error::corrupt(walk.archive, what))?;
        if matches!(key, b"path" | b"linkpath" | b"size") {
            let key = printable(key);
            return Err(Error::unsupported(
                walk.archive,
                format!("a global header sets `{key}` for every member"),
            ));
        }
    }
    Ok(())
}

fn decimal(walk: &Walk<'_>, key: &[u8], value: &[u8]) -> Result<u64, Error> {
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        Error::corrupt(walk.archive, format!("PAX record `{}` is not a number", printable(key)))
    })
}

/// PAX records: `<length> <key>=<value>\n`, where the length counts the whole record and values may hold newlines.
struct Records<'b>(&'b [u8]);

impl<'b> Iterator for Records<'b> {
    type Item = Result<(&'b [u8], &'b [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or("a PAX header has a malformed record"))
    }
}

impl<'b> Records<'b> {
    fn split(&mut self) -> Option<(&'b [u8], &'b [u8])> {
        let space = memchr::memchr(b' ', self.0)?;
        let length: usize = std::str::from_utf8(self.0.get(..space)?).ok()?.parse().ok()?;
        let record = self.0.get(space + 1..length)?;
        let record = record.strip_suffix(b"\n")?;
        let equals = memchr::memchr(b'=', record)?;
        self.0 = self.0.get(length..)?;
        Some((&record[..equals], &record[equals + 1..]))
    }
}

fn extension_body(walk: &mut Walk<'_>, header: &Header, stream: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let size =
        header.entry_size().map_err(|_| Error::corrupt(walk.archive, "an extension header has no size"))?;
    if size > walk.limits.control_bytes {
        return Err(Error::limit(
            walk.archive,
            format!("tar extension header of {size} bytes"),
            walk.limits.control_bytes,
        ));
    }
    walk.count_bytes(size)?;
    let mut body = Vec::new();
    stream
        .take(size)
        .read_to_end(&mut body)
        .map_err(|e| Error::decoding(walk.archive, "a tar extension header", e))?;
    if body.len() as u64 != size {
        return Err(Error::truncated(walk.archive, "it ends inside a tar extension header"));
    }
    walk.skip(stream, padding(size))?;
    Ok(body)
}

fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    let end = memchr::memchr(0, &name).unwrap_or(name.len());
    name.truncate(end);
    name
}
