//! Debian's own kernel for guests, as a package of a test's mirror: the real one, fetched once with apt into a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::package::{Package, Packing};

/// The empty package that depends on the kernel of the day.
pub const META: &str = "linux-image-cloud-amd64";
/// Of its thousands of modules those that guests of the tests load, or are asked for.
const MODULES: [&str; 21] = [
    "virtio",
    "virtio_ring",
    "virtio_pci",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "net_failover",
    "failover",
    "erofs",
    "libcrc32c",
    "crc32c_generic",
    "overlay",
    "dummy",
    "softdog",
    "watchdog",
    "comedi",
    "comedi_test",
    "comedi_8254",
    "virtio-rng",
];

/// The two packages of the kernel.
///
/// # Panics
/// Where apt has no kernel for guests, or nothing can be fetched.
#[must_use]
pub fn packages() -> Vec<Package> {
    static MADE: OnceLock<Vec<Package>> = OnceLock::new();
    MADE.get_or_init(|| {
        let name = image(META);
        let root = unpacked(&name);
        let release = name.trim_start_matches("linux-image-").to_owned();
        let boot = format!("boot/vmlinuz-{release}");
        let mut package = Package::new(&name, "1.0-1").packed(Packing::None);
        package = package.file(&boot, read(&root.join(&boot)));
        let built_in = format!("lib/modules/{release}/modules.builtin");
        package = package.file(&built_in, read(&root.join(&built_in)));
        for path in modules(&root.join("lib/modules")) {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            package = package.file(&name, read(&path));
        }
        vec![Package::new(META, "1.0-1").field("Depends", &name), package]
    })
    .clone()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The kernel that an empty package depends on: `linux-image-6.1.0-57-cloud-amd64`
pub(crate) fn image(meta: &str) -> String {
    let output = Command::new("apt-cache").args(["depends", meta]).output().expect("apt-cache");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().find(|word| word.starts_with("linux-image-") && *word != meta);
    found.unwrap_or_else(|| panic!("apt knows no `{meta}`: {text}")).to_owned()
}

/// The files of a package of the host's archive, in a folder that later runs find again.
pub(crate) fn unpacked(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"));
    let folder = cache.join("hatchway-tests").join(name);
    if folder.is_dir() {
        return folder;
    }
    fs::create_dir_all(cache.join("hatchway-tests")).unwrap();
    let scratch = tempfile::tempdir_in(cache.join("hatchway-tests")).unwrap();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    let done = |command: &mut Command| {
        let output = command.current_dir(scratch.path()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(Command::new("apt-get").args(["download", "-q", name]));
    let deb = fs::read_dir(scratch.path()).unwrap().flatten().map(|entry| entry.path());
    let deb = { deb }.find(|path| path.extension().is_some_and(|e| e == "deb")).expect("a package");
    done(Command::new("dpkg-deb").arg("-x").arg(&deb).arg("root"));
    // Another test may have been quicker.
    if fs::rename(&root, &folder).is_err() {
        assert!(folder.is_dir(), "{}", folder.display());
    }
    folder
}

fn modules(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(modules(&path));
        } else {
            let name = entry.file_name().to_string_lossy().into_owned();
            if MODULES.iter().any(|module| name.starts_with(&format!("{module}.ko"))) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
