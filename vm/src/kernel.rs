//! A kernel and the modules a guest needs, out of Debian's package of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use hatchway_inspect::archive::{self, Compression, EntryKind, Limits, Part};

use crate::error::Error;
use crate::vmlinux;

/// What every guest of ours needs to see its disks and ports, whatever runs in it.
pub const ALWAYS: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];
/// What only some kernels have as a module; in others it is part of the kernel, or of another module.
const OPTIONAL: [&str; 1] = ["crc32c_generic"];
const IMAGE: &str = "boot/vmlinuz-";
const MODULES: &str = "lib/modules/";
const BUILT_IN: &str = "modules.builtin";
/// As a module's file ends, and what it is packed with.
const ENDINGS: [(&str, Compression); 4] = [
    (".ko", Compression::None),
    (".ko.xz", Compression::Xz),
    (".ko.zst", Compression::Zstd),
    (".ko.gz", Compression::Gzip),
];
/// Bytes of a kernel, a module or a list that are read.
const FILE_MAX: u64 = 256 << 20;
/// Names that are shown for one that is not there.
const NEAR_MAX: usize = 5;

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its release: `6.1.0-18-cloud-amd64`.
    pub release: String,
    /// The image that a machine is started with.
    pub image: Vec<u8>,
    /// The kernel out of the image, where QEMU can begin in it.
    pub unpacked: Option<Vec<u8>>,
    /// Names and contents of modules, each after what it depends on, not packed.
    pub modules: Vec<(String, Vec<u8>)>,
}

/// A module in the package, as it is packed there.
struct Packed {
    compression: Compression,
    content: Vec<u8>,
}

/// What is in a package.
#[derive(Default)]
struct Contents {
    release: String,
    image: Vec<u8>,
    modules: BTreeMap<String, Packed>,
    built_in: BTreeSet<String>,
}

impl Kernel {
    /// Reads the kernel in `package`, and the modules in `wanted` with what they depend on. Of a module that is part of the
    /// kernel itself there is nothing to load.
    ///
    /// # Errors
    /// [`Error::NoKernel`], [`Error::NoModule`]; a package that cannot be read.
    pub fn read(package: &Path, wanted: &[&str]) -> Result<Self, Error> {
        let contents = contents(package)?;
        if contents.image.is_empty() {
            return Err(Error::NoKernel(package.to_owned()));
        }
        let mut chosen = Vec::new();
        let mut seen = BTreeSet::new();
        let there = |name: &&&str| !OPTIONAL.contains(name) || contents.modules.contains_key(**name);
        for name in wanted.iter().filter(there) {
            contents.add(&normal(name), &mut seen, &mut chosen)?;
        }
        let unpacked = vmlinux::of(&contents.image);
        Ok(Self { release: contents.release, image: contents.image, unpacked, modules: chosen })
    }

    /// The version of Landlock that this kernel has (the kernel's Documentation/userspace-api/landlock.rst, "Previous
    /// limitations"), by its release; 0 for one that is older, or has a name that says nothing.
    #[must_use]
    pub fn landlock(release: &str) -> u32 {
        let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let known = [((5, 13), 1), ((5, 19), 2), ((6, 2), 3), ((6, 7), 4), ((6, 10), 5), ((6, 12), 6)];
        known.iter().rev().find(|(from, _)| version >= *from).map_or(0, |(_, landlock)| *landlock)
    }
}

impl Contents {
    /// Depth first, so that each comes after what it depends on.
    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        chosen: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(), Error> {
        if !seen.insert(name.to_owned()) || self.built_in.contains(name) {
            return Ok(());
        }
        let module = self.modules.get(name).ok_or_else(|| self.unknown(name))?;
        let content = module.unpacked(name)?;
        let facts = hatchway_inspect::kernel_module(name, &content)
            .map_err(|reason| Error::BadModule { name: name.to_owned(), reason })?;
        for other in &facts.depends {
            self.add(&normal(other), seen, chosen)?;
        }
        chosen.push((format!("{name}.ko"), content));
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let near = |other: &&String| other.contains(name) || name.contains(other.as_str());
        let near = self.modules.keys().filter(near).take(NEAR_MAX).cloned().collect();
        Error::NoModule { name: name.to_owned(), release: self.release.clone(), near }
    }

    fn take(&mut self, path: &str, content: &mut dyn Read) -> std::io::Result<()> {
        let path = path.strip_prefix("usr/").unwrap_or(path);
        let mut read = || {
            let mut bytes = Vec::new();
            content.take(FILE_MAX).read_to_end(&mut bytes).map(|_| bytes)
        };
        if let Some(release) = path.strip_prefix(IMAGE) {
            self.release = release.to_owned();
            self.image = read()?;
        } else if let Some(name) = path.strip_prefix(MODULES).and_then(|path| path.rsplit('/').next()) {
            if name == BUILT_IN {
                let text = String::from_utf8_lossy(&read()?).into_owned();
                self.built_in.extend(
                    text.lines()
                        .filter_map(|line| module_name(line.rsplit('/').next()?))
                        .map(|(name, _)| name),
                );
            } else if let Some((name, compression)) = module_name(name) {
                self.modules.insert(name, Packed { compression, content: read()? });
            }
        }
        Ok(())
    }
}

impl Packed {
    fn unpacked(&self, name: &str) -> Result<Vec<u8>, Error> {
        let bad =
            |error: std::io::Error| Error::BadModule { name: name.to_owned(), reason: error.to_string() };
        let limits = Limits::default();
        let reader = archive::decompressed(&self.content[..], self.compression, &limits).map_err(bad)?;
        let mut bytes = Vec::new();
        reader.take(FILE_MAX).read_to_end(&mut bytes).map_err(bad)?;
        Ok(bytes)
    }
}

fn contents(package: &Path) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    archive::walk::<Error>(package, &Limits::default(), &mut |part, entry, content| {
        if part == Part::Data && matches!(entry.kind, EntryKind::File { .. }) {
            contents.take(entry.path.as_str(), content).map_err(Error::io("read", package))?;
        }
        Ok(())
    })?;
    Ok(contents)
}

/// The kernel takes `-` and `_` in names for the same (`modprobe(8)`).
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn module_name(file: &str) -> Option<(String, Compression)> {
    ENDINGS.iter().find_map(|(ending, compression)| Some((normal(file.strip_suffix(ending)?), *compression)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_name_is_its_files_without_its_packing() {
        for (file, name) in [
            ("virtio-rng.ko", Some("virtio_rng")),
            ("erofs.ko.xz", Some("erofs")),
            ("erofs.ko.zst", Some("erofs")),
            ("modules.order", None),
        ] {
            assert_eq!(module_name(file).map(|(name, _)| name).as_deref(), name, "{file}");
        }
    }

    #[test]
    fn landlock_is_known_by_the_release() {
        for (release, landlock) in [
            ("5.10.0-30-amd64", 0),
            ("6.1.0-57-cloud-amd64", 2),
            ("6.12.9+deb13-amd64", 6),
            ("7.0", 6),
            ("next", 0),
        ] {
            assert_eq!(Kernel::landlock(release), landlock, "{release}");
        }
    }

    #[test]
    fn what_is_no_kernels_package_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        std::fs::write(&path, [0; 1024]).unwrap();
        let error = Kernel::read(&path, &ALWAYS).unwrap_err();
        assert!(matches!(error, Error::NoKernel(_) | Error::Archive(_)), "{error}");
    }
}
