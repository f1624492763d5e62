//! The list of files that a package's header has, as far as its payload needs it.

use std::collections::HashMap;

use super::super::capabilities;
use super::super::cpio::{Fields, FileList};
use super::super::printable;
use super::header::Header;

/// Tags of the file list (rpmtag.h).
const OLD_NAMES: u32 = 1027;
const SIZES: u32 = 1028;
const MODES: u32 = 1030;
const DEVICE_NUMBERS: u32 = 1033;
const FLAGS: u32 = 1037;
const DEVICES: u32 = 1095;
const INODES: u32 = 1096;
const DIRECTORY_INDICES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORIES: u32 = 1118;
const LONG_SIZES: u32 = 5008;
const CAPABILITIES: u32 = 5010;

/// `RPMFILE_CONFIG`: an update keeps what a person has changed in it.
const CONFIG: u64 = 1;
/// `RPMFILE_GHOST`: the package owns the file but does not bring it.
const GHOST: u64 = 1 << 6;

/// Configuration files listed.
const CONFIGURATION: usize = 4096;

/// Bytes of a path; one directory's name may be that of every file.
const PATH: usize = 8192;

/// The files of a package.
#[derive(Debug)]
pub(super) struct Files {
    base_names: Vec<Vec<u8>>,
    directories: Vec<Vec<u8>>,
    directory_of: Vec<u64>,
    sizes: Vec<u64>,
    modes: Vec<u64>,
    device_numbers: Vec<u64>,
    identities: Vec<(u64, u64)>,
    /// Of files with several names: how many there are, and the last of them, which has the content.
    links: HashMap<(u64, u64), (u64, usize)>,
    capabilities: HashMap<String, String>,
}

impl Files {
    pub(super) fn read(header: &Header) -> Self {
        let owned = |tag| header.raw_strings(tag).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut base_names = owned(BASE_NAMES);
        if base_names.is_empty() {
            // Packages of the last century have whole paths.
            base_names = owned(OLD_NAMES);
        }
        let long = header.numbers(LONG_SIZES);
        let identities = header.numbers(DEVICES).into_iter().zip(header.numbers(INODES));
        let mut files = Self {
            base_names,
            directories: owned(DIRECTORIES),
            directory_of: header.numbers(DIRECTORY_INDICES),
            sizes: if long.is_empty() { header.numbers(SIZES) } else { long },
            modes: header.numbers(MODES),
            device_numbers: header.numbers(DEVICE_NUMBERS),
            identities: identities.map(|(device, inode)| (inode, device)).collect(),
            links: HashMap::new(),
            capabilities: HashMap::new(),
        };
        files.count_links(&header.numbers(FLAGS));
        files.find_capabilities(header);
        files
    }

    fn count_links(&mut self, flags: &[u64]) {
        for (index, identity) in self.identities.iter().enumerate() {
            let is_file = self.modes.get(index).is_some_and(|mode| mode & 0o170_000 == 0o100_000);
            let is_ghost = flags.get(index).is_some_and(|flags| flags & GHOST != 0);
            if is_file && !is_ghost {
                let (count, last) = self.links.entry(*identity).or_default();
                *count = count.saturating_add(1);
                *last = index;
            }
        }
    }

    fn find_capabilities(&mut self, header: &Header) {
        for (index, text) in header.strings(CAPABILITIES).into_iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            if let Some(path) = self.path(index) {
                let path = String::from_utf8_lossy(&path).trim_start_matches('/').to_owned();
                let text: String = text.chars().filter(|c| !c.is_control()).take(1000).collect();
                self.capabilities.insert(path, capabilities::normalised(&text));
            }
        }
    }

    /// The paths of its configuration files.
    pub(super) fn configuration(&self, header: &Header) -> Vec<String> {
        let flags = header.numbers(FLAGS).into_iter().enumerate();
        let marked = flags.filter(|(_, flags)| flags & CONFIG != 0).take(CONFIGURATION);
        let paths = marked.filter_map(|(index, _)| self.path(index));
        paths.map(|path| printable(&path)).filter(|path| path.starts_with('/')).collect()
    }

    fn path(&self, index: usize) -> Option<Vec<u8>> {
        let name = self.base_names.get(index)?;
        let directory =
            self.directory_of.get(index).and_then(|&at| self.directories.get(usize::try_from(at).ok()?));
        let directory = directory.map_or(&[][..], Vec::as_slice);
        (directory.len().saturating_add(name.len()) <= PATH).then(|| [directory, name].concat())
    }
}

impl FileList for Files {
    fn member(&self, index: u32) -> Option<Fields> {
        let index = usize::try_from(index).ok()?;
        let mode = u32::try_from(*self.modes.get(index)?).ok()?;
        let identity = self.identities.get(index).copied().unwrap_or_default();
        let (links, last) = self.links.get(&identity).copied().unwrap_or((1, index));
        let kind = mode & 0o170_000;
        let is_file = kind == 0o100_000;
        // Directories have a size on the builder's disk, and no content.
        let has_content = (is_file && last == index) || kind == 0o120_000;
        let device = u32::try_from(self.device_numbers.get(index).copied().unwrap_or(0)).ok()?;
        Some(Fields {
            name: self.path(index)?,
            mode,
            size: if has_content { *self.sizes.get(index)? } else { 0 },
            file: identity,
            links: if is_file { links } else { 1 },
            device: (device >> 8 & 0xff, device & 0xff),
            ..Fields::default()
        })
    }

    fn capabilities(&self, path: &str) -> Option<&str> {
        self.capabilities.get(path).map(String::as_str)
    }
}
