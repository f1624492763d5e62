//! Tar archives of which every byte is decided here (POSIX.1-2001, "ustar Interchange Format" and "pax Interchange Format").
//!
//! Entries are in the `ustar` form; what it has no room for (a name of more than 100 bytes or with other characters than those
//! of ASCII, a file of 8 GiB and more) is in a pax header before the entry. OCI images have such archives as layers (OCI image
//! specification, "Image Layer Filesystem Changeset").

use std::io::{self, Read, Write};

use crate::MTIME_S;

/// The size of a block in bytes.
const BLOCK_BYTES: usize = 512;
/// Bytes for a name in a header.
const NAME_BYTES: usize = 100;
/// The first size in bytes that eleven octal digits cannot say.
const SIZE_END: u64 = 1 << 33;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 64 << 10;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A folder.
    Directory,
    /// A file of this many bytes.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        target: &'a str,
    },
}

/// An archive in the making. Everything in it belongs to root and is of one time.
#[derive(Debug)]
pub struct Tar<W> {
    to: W,
}

impl<W: Write> Tar<W> {
    /// Begins an archive.
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// Adds an entry; `content` is read for a file.
    ///
    /// # Errors
    /// Those of reading and writing; `UnexpectedEof` when the content is shorter than the size, `InvalidData` when it is
    /// longer.
    pub fn add(&mut self, path: &str, mode: u32, kind: Kind<'_>, content: &mut dyn Read) -> io::Result<()> {
        let path = if kind == Kind::Directory { format!("{path}/") } else { path.to_owned() };
        let (flag, size, target) = match kind {
            Kind::Directory => (b'5', 0, ""),
            Kind::File { size } => (b'0', size, ""),
            Kind::Link { target } => (b'2', 0, target),
        };
        let extended = extended(&path, target, size);
        if !extended.is_empty() {
            self.to.write_all(&header("PaxHeader", 0o644, b'x', extended.len() as u64, ""))?;
            self.to.write_all(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        self.to.write_all(&header(&path, mode, flag, size, target))?;
        if let Kind::File { size } = kind {
            self.copy(content, size)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// Adds a file whose `size` bytes are written by `content`.
    ///
    /// # Errors
    /// Those of `content`; of writing, as `failed` makes them: also where the bytes are not as many as was said.
    pub fn add_written<E>(
        &mut self,
        path: &str,
        size: u64,
        content: impl FnOnce(&mut dyn Write) -> Result<(), E>,
        failed: impl Fn(io::Error) -> E,
    ) -> Result<(), E> {
        self.to.write_all(&header(path, 0o644, b'0', size, "")).map_err(&failed)?;
        let mut counted = Counted { to: &mut self.to, bytes: 0 };
        content(&mut counted)?;
        if counted.bytes != size {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
        self.pad(size).map_err(failed)
    }

    fn copy(&mut self, content: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut left = size;
        loop {
            let read = match content.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            left = left.checked_sub(read as u64).ok_or(io::ErrorKind::InvalidData)?;
            self.to.write_all(&buffer[..read])?;
        }
        if left == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        let missing = size.next_multiple_of(block) - size;
        self.to.write_all(&[0; BLOCK_BYTES][..usize::try_from(missing).unwrap_or_default()])
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK_BYTES])?;
        Ok(self.to)
    }
}

struct Counted<'a, W> {
    to: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The records of a pax header; none where the entry needs none.
fn extended(path: &str, target: &str, size: u64) -> Vec<u8> {
    let fits = |text: &str| text.len() <= NAME_BYTES && text.is_ascii();
    let mut records = Vec::new();
    if !fits(path) {
        record("path", path, &mut records);
    }
    if !fits(target) {
        record("linkpath", target, &mut records);
    }
    if size >= SIZE_END {
        record("size", &size.to_string(), &mut records);
    }
    records
}

/// `LENGTH KEYWORD=VALUE\n`, where the length counts its own digits.
fn record(keyword: &str, value: &str, records: &mut Vec<u8>) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {keyword}={value}\n").as_bytes());
}

fn header(path: &str, mode: u32, flag: u8, size: u64, target: &str) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, start_of(path));
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000"); // uid
    put(116, b"0000000"); // gid
    let said = if size < SIZE_END { size } else { 0 };
    put(124, format!("{said:011o}").as_bytes());
    put(136, format!("{MTIME_S:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, start_of(target));
    put(257, b"ustar\x0000");
    put(329, b"0000000"); // major and minor number of a device
    put(337, b"0000000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// What of a name fits into a header; the whole one is in the pax header then. Not cut within a character: some readers
/// refuse that before they have read on.
fn start_of(name: &str) -> &[u8] {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn archive(entries: &[(&str, Kind<'_>, &[u8])]) -> Vec<u8> {
        let mut tar = Tar::new(Vec::new());
        for (path, kind, content) in entries {
            let mut content = *content;
            tar.add(path, 0o644, *kind, &mut content).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn tar_reads_every_kind_of_name() {
        let long = "d/".repeat(70) + "f";
        let foreign = "ü".repeat(60);
        let entries: [(&str, Kind<'_>, &[u8]); 5] = [
            ("d", Kind::Directory, b""),
            (&long, Kind::File { size: 3 }, b"abc"),
            (&foreign, Kind::File { size: 0 }, b""),
            ("d/l", Kind::Link { target: &long }, b""),
            ("d/m", Kind::Link { target: "../a//b/./c/" }, b""),
        ];
        let bytes = archive(&entries);
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        let mut tar = Command::new("tar")
            .args([
                "--list",
                "--verbose",
                "--numeric-owner",
                "--full-time",
                "--utc",
                "--quoting-style=literal",
            ])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install `tar`");
        tar.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let time = "1970-01-01 00:00:01";
        let expected = [
            format!("drw-r--r-- 0/0               0 {time} d/"),
            format!("-rw-r--r-- 0/0               3 {time} {long}"),
            format!("-rw-r--r-- 0/0               0 {time} {foreign}"),
            format!("lrw-r--r-- 0/0               0 {time} d/l -> {long}"),
            format!("lrw-r--r-- 0/0               0 {time} d/m -> ../a//b/./c/"),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_record_counts_itself() {
        for length in 80..120 {
            let mut records = Vec::new();
            record("path", &"x".repeat(length), &mut records);
            let text = String::from_utf8(records).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, text.len().to_string());
        }
    }

    #[test]
    fn a_file_of_8_gib_has_its_size_in_a_record() {
        assert!(extended("a", "", SIZE_END - 1).is_empty());
        assert_eq!(extended("a", "", SIZE_END), b"19 size=8589934592\n");
        assert_eq!(&header("a", 0, b'0', SIZE_END, "")[124..135], b"00000000000");
    }

    #[test]
    fn content_of_another_size_is_an_error() {
        for content in [&b"ab"[..], b"abcd"] {
            let mut content = content;
            let added = Tar::new(Vec::new()).add("a", 0o644, Kind::File { size: 3 }, &mut content);
            assert!(added.is_err());
        }
    }
}
