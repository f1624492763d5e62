//! The file of a support archive: a tar of plain files, compressed by zstd, the same bytes for the same content.
//!
//! One that is read may come from anybody: its names, its number of files and its size are checked before anything is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// The folder in which all files of an archive are.
const TOP: &str = "hatchway-support";
/// Files in one.
const FILES_MAX: usize = 20_000;
/// Bytes of all of them.
const BYTES_MAX: u64 = 512 << 20;
/// How much zstd tries: its own usual.
const LEVEL: i32 = 3;

/// Files by their names, which are relative and of plain characters.
#[derive(Debug, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Files {
    /// Puts one in.
    pub fn put(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), content.into());
    }

    /// As they are written.
    ///
    /// # Errors
    /// A name that is too long for a tar.
    pub fn packed(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
            header.set_mode(0o600);
            header.set_mtime(0);
            tar.append_data(&mut header, format!("{TOP}/{name}"), content.as_slice())?;
        }
        tar.into_inner()?.finish()
    }
}

/// An archive that was unpacked; the folder goes with it.
#[derive(Debug)]
pub struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// Unpacks an archive.
    ///
    /// # Errors
    /// It cannot be read, or is no archive of `hatchway support collect`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let folder = tempfile::Builder::new().prefix("hatchway-support-").tempdir();
        let folder = folder.map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        unpack(file, folder.path()).map_err(|error| Error::Host {
            message: format!("`{}` is no support archive: {error}", path.display()),
            hints: vec!["`hatchway support collect` makes one".to_owned()],
        })?;
        Ok(Self { folder })
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn unpack(file: impl Read, folder: &Path) -> io::Result<()> {
    // Whatever it claims to hold, no more than this comes out of it.
    let mut tar = tar::Archive::new(zstd::Decoder::new(file)?.take(BYTES_MAX + (FILES_MAX as u64) * 1024));
    let (mut files, mut bytes) = (0_usize, 0_u64);
    // Headers that only go before others are files of another kind: they would be read whole into memory.
    for entry in tar.entries()?.raw(true) {
        let mut entry = entry?;
        files = files.saturating_add(1);
        bytes = bytes.saturating_add(entry.size());
        if files > FILES_MAX || bytes > BYTES_MAX {
            return Err(io::Error::other("it holds more than any archive of ours"));
        }
        let name =
            name(&entry.path_bytes()).ok_or_else(|| io::Error::other("it has a file with another name"))?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(io::Error::other(format!("`{}` is no plain file", name.display())));
        }
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut out = File::options().write(true).create_new(true).open(&path)?;
        io::copy(&mut entry, &mut out)?;
    }
    match files {
        0 => Err(io::Error::other("it is empty")),
        _ => Ok(()),
    }
}

/// A name below the top folder, of plain parts only.
fn name(bytes: &[u8]) -> Option<PathBuf> {
    plain(std::str::from_utf8(bytes).ok()?.strip_prefix(TOP)?.strip_prefix('/')?)
}

/// A relative path of plain parts only.
pub(super) fn plain(name: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| {
        let of_plain =
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        of_plain && !part.is_empty() && !part.starts_with('.') && part.len() <= 100
    };
    let parts: Vec<&str> = name.split('/').collect();
    (parts.len() <= 6 && parts.iter().all(|part| is_plain(part))).then(|| parts.iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_packed_is_there_again_and_the_bytes_are_the_same() {
        let mut files = Files::default();
        files.put("manifest.json", "{}");
        files.put("units/daq/1-2/log/0000000001", vec![7; 100_000]);
        let packed = files.packed().unwrap();
        assert_eq!(packed, files.packed().unwrap());
        let folder = tempfile::tempdir().unwrap();
        unpack(packed.as_slice(), folder.path()).unwrap();
        for (name, content) in &files.0 {
            assert_eq!(&fs::read(folder.path().join(name)).unwrap(), content);
        }
    }

    #[test]
    fn nothing_gets_out_of_the_folder() {
        for wrong in [
            "etc/passwd",
            "hatchway-support/../x",
            "hatchway-support//x",
            "/hatchway-support/x",
            "hatchway-support/a/.b",
        ] {
            assert_eq!(name(wrong.as_bytes()), None, "{wrong}");
        }
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "hatchway-support/x", "/etc").unwrap();
        let packed = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(packed.as_slice(), folder.path()).unwrap_err().to_string().contains("no plain file"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_at_worst(bytes in proptest::collection::vec(any::<u8>(), 0..2000), packed in any::<bool>()) {
            let folder = tempfile::tempdir().unwrap();
            let bytes = if packed { zstd::encode_all(bytes.as_slice(), 1).unwrap() } else { bytes };
            prop_assert!(unpack(bytes.as_slice(), folder.path()).is_err());
        }
    }
}
