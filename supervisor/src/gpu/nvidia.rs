//! NVIDIA's kernel module and the libraries of its version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use hatchway_envs::build::second_cache;
use hatchway_inspect::elf;

use super::{Graphics, Root};

/// Folders in which distributions and NVIDIA's installer put the libraries, beside those of the host's `ld.so.cache`.
const FOLDERS: [&str; 16] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/x86_64-linux-gnu/vdpau",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib64/vdpau",
    "/usr/lib",
    "/usr/lib/nvidia",
    "/usr/lib/vdpau",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib/i386-linux-gnu/vdpau",
    "/usr/lib32",
    "/usr/local/lib",
    "/run/opengl-driver/lib",
    "/run/opengl-driver-32/lib",
];
/// Folders that are looked at: those above, and those that links and the cache lead to.
const FOLDERS_MAX: usize = 128;
/// A host's cache of a full desktop has half a megabyte.
const CACHE_BYTES_MAX: u64 = 32 << 20;
/// Libraries that NVIDIA builds, beside those whose names begin with `libnvidia-`. The dispatchers `libGL.so.1`,
/// `libEGL.so.1`, `libOpenCL.so.1` and their like, which its installer brings too, are not among them.
const OWN: [&str; 9] = [
    "libcuda",
    "libcudadebugger",
    "libnvcuvid",
    "libnvoptix",
    "libGLX_nvidia",
    "libEGL_nvidia",
    "libGLESv1_CM_nvidia",
    "libGLESv2_nvidia",
    "libvdpau_nvidia",
];
/// Those of them whose version is their own, not the driver's: the EGL external platforms and the interface to them.
const OWN_VERSION: [&str; 6] = [
    "libnvidia-egl-wayland",
    "libnvidia-egl-wayland2",
    "libnvidia-egl-gbm",
    "libnvidia-egl-xcb",
    "libnvidia-egl-xlib",
    "libnvidia-api",
];
/// Those by which the version of an installed driver is told. Others share the beginning of their names with it, such as
/// `libnvidia-container`, and have other versions.
const MARKS: [&str; 6] =
    ["libcuda", "libnvidia-ml", "libnvidia-glcore", "libnvidia-eglcore", "libGLX_nvidia", "libEGL_nvidia"];
/// A driver has some forty libraries for each machine.
const LIBRARIES_MAX: usize = 512;

/// A library of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file on the host, without links in its path.
    pub host: PathBuf,
    /// `x86-64` or `i386`.
    pub machine: String,
    /// The name it is linked by.
    pub soname: String,
    /// Other names of it on the host: `libcuda.so`, `libcuda.so.550.54.14`.
    pub others: BTreeSet<String>,
    /// What it is linked with.
    pub needed: Vec<String>,
}

impl Library {
    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.soname).chain(&self.others).map(String::as_str)
    }
}

/// The version of the module that is loaded. `/sys` says only that; in `/proc` it is one word of a sentence.
#[must_use]
pub fn module_version(root: &Root) -> Option<String> {
    let read = |root: &Root| {
        let sys = root.text("/sys/module/nvidia/version", 4096).map(|text| text.trim().to_owned());
        sys.filter(|text| is_version(text)).or_else(|| {
            let text = root.text("/proc/driver/nvidia/version", 4096)?;
            let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
            line.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
        })
    };
    // A driver's container may lack both; there is one kernel all the same.
    read(root).or_else(|| {
        let host = if root.is_hosts() { None } else { Root::at(Path::new("/")).ok() };
        host.and_then(|host| read(&host))
    })
}

/// `550.54.14`, `390.157`
fn is_version(word: &str) -> bool {
    let mut parts = word.split('.');
    let number = |part: &str| (1..=5).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
    parts.clone().count() >= 2 && parts.all(number)
}

/// `libcuda` of `libcuda.so.1`, if NVIDIA builds it.
pub(super) fn stem(name: &str) -> Option<&str> {
    let (stem, rest) = name.split_once(".so")?;
    let own = OWN.contains(&stem) || stem.starts_with("libnvidia-");
    (own && (rest.is_empty() || rest.starts_with('.')) && name.is_ascii()).then_some(stem)
}

/// What is behind `.so.` in a file's name, if it is a version.
fn version(name: &str) -> Option<&str> {
    name.split_once(".so.").map(|(_, version)| version).filter(|version| is_version(version))
}

/// Finds the libraries, by folder and by the host's `ld.so.cache`.
pub(super) fn libraries(root: &Root, i386: bool, found: &mut Graphics) {
    let mut chosen: BTreeMap<(String, String), Library> = BTreeMap::new();
    for (real, names) in files(root) {
        let file = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (Some(stem), Some(version)) = (stem(file), version(file)) else { continue };
        if MARKS.contains(&stem) {
            found.installed.insert(version.to_owned());
        }
        let fits = OWN_VERSION.contains(&stem) || found.module.as_deref() == Some(version);
        if !fits || chosen.len() >= LIBRARIES_MAX {
            continue;
        }
        let linking = match elf::linking(&real) {
            Ok(linking) => linking,
            Err(error) => {
                found.notes.push(format!("`{}` is left out: {error}", real.display()));
                continue;
            }
        };
        let wanted = linking.machine == "x86-64" || i386 && linking.machine == "i386";
        let soname = linking.soname.filter(|name| self::stem(name).is_some());
        let (true, Some(soname)) = (wanted, soname) else { continue };
        let key = (linking.machine.clone(), soname.clone());
        let library = chosen.entry(key).or_insert_with(|| Library {
            host: real.clone(),
            machine: linking.machine,
            soname,
            others: BTreeSet::new(),
            needed: linking.needed,
        });
        if library.host == real {
            library.others.extend(names.into_iter().filter(|name| *name != library.soname));
        }
    }
    // Without one library of the driver itself, what has its own version is of no use.
    let is_driver =
        |library: &Library| stem(&library.soname).is_some_and(|stem| !OWN_VERSION.contains(&stem));
    if chosen.values().any(is_driver) {
        found.libraries = chosen.into_values().collect();
    }
}

/// Every file that may be of the driver, in the order of the folders, with the names that lead to it.
fn files(root: &Root) -> Vec<(PathBuf, BTreeSet<String>)> {
    let cache = root.bytes(second_cache::PATH, CACHE_BYTES_MAX).unwrap_or_default();
    let cached = second_cache::paths(&cache);
    let by_name = cached.iter().filter(|(name, _)| stem(name).is_some());
    let folders = by_name.filter_map(|(_, path)| path.rsplit_once('/')).map(|(folder, _)| folder.to_owned());
    let mut pending: VecDeque<String> = FOLDERS.map(str::to_owned).into_iter().chain(folders).collect();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let mut order: Vec<PathBuf> = Vec::new();
    let mut names_of: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    while let Some(folder) = pending.pop_front() {
        // `/usr/lib64` may be `/usr/lib`, and each is read once.
        let Some(real_folder) = root.real(&folder) else { continue };
        if seen.len() >= FOLDERS_MAX || !seen.insert(real_folder) {
            continue;
        }
        for name in root.names(&folder).into_iter().filter(|name| stem(name).is_some()) {
            let Some(real) = root.real(&format!("{folder}/{name}")) else { continue };
            // Debian's alternatives lead to a folder that the loader does not search.
            pending.extend(real.parent().and_then(|parent| root.inside(parent)));
            let names = names_of.entry(real.clone()).or_default();
            if names.is_empty() {
                order.push(real);
            }
            names.insert(name);
        }
    }
    order.into_iter().filter_map(|real| names_of.remove(&real).map(|names| (real, names))).collect()
}

/// Files that the libraries open by a fixed path, and the back end of GBM, which is a link in a folder of Mesa's.
pub(super) fn data(root: &Root, found: &mut Graphics) {
    const FOLDER: &str = "/usr/share/nvidia";
    let Some(module) = &found.module else { return };
    let profiles = format!("nvidia-application-profiles-{module}-");
    for name in root.names(FOLDER) {
        if name.starts_with(&profiles) || name == "nvoptix.bin" {
            let path = format!("{FOLDER}/{name}");
            if let Some(real) = root.real(&path).filter(|real| real.is_file()) {
                found.data.insert(real, path);
            }
        }
    }
    let places = ["/usr/lib/x86_64-linux-gnu/gbm", "/usr/lib64/gbm", "/usr/lib/gbm"];
    let allocator = |library: &&Library| {
        library.machine == "x86-64" && stem(&library.soname) == Some("libnvidia-allocator")
    };
    let allocator = found.libraries.iter().find(allocator);
    found.gbm = allocator.and_then(|library| {
        let leads_there = |folder: &str| {
            root.real(&format!("{folder}/nvidia-drm_gbm.so")).is_some_and(|real| real == library.host)
        };
        places.into_iter().any(leads_there).then(|| library.soname.clone())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::at(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn the_modules_version_is_read_as_each_driver_writes_it() {
        let proprietary = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n\
                           GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n";
        let table = [
            (&[("sys/module/nvidia/version", "390.157\n")][..], "390.157"),
            (&[("proc/driver/nvidia/version", proprietary)], "535.183.01"),
            (&[("proc/driver/nvidia/version", open)], "550.54.14"),
            (
                &[("sys/module/nvidia/version", "550.1\n"), ("proc/driver/nvidia/version", proprietary)],
                "550.1",
            ),
        ];
        for (files, expected) in table {
            assert_eq!(module_version(&host(files).1).as_deref(), Some(expected));
        }
        for text in ["", "nonsense\n", "../../550.54\n", "550\n"] {
            let (_folder, root) =
                host(&[("sys/module/nvidia/version", text), ("proc/driver/nvidia/version", text)]);
            assert_eq!(module_version(&root), None, "{text}");
        }
    }

    #[test]
    fn only_what_nvidia_builds_is_the_drivers() {
        for name in ["libcuda.so.1", "libnvidia-ml.so.550.54.14", "libGLX_nvidia.so.0", "libcuda.so"] {
            assert!(stem(name).is_some(), "{name}");
        }
        let others = [
            "libGL.so.1",
            "libEGL.so.1",
            "libOpenCL.so.1",
            "libGLX_mesa.so.0",
            "libvulkan.so.1",
            "libcudart.so.12",
            "libcuda.sox",
            "libc.so.6",
            "nvidia_drv.so",
        ];
        for name in others {
            assert!(stem(name).is_none(), "{name}");
        }
    }
}
