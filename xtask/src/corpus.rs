//! `cargo xtask corpus`: real files of vendors and of Debian to prove `inspect` on, kept in the cache folder.
//!
//! Wheels are pinned by hash. Debian packages are those of this machine's release, verified by apt; they are there for
//! the number and variety of their files, and no claim depends on one of them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::wheels::{self, Wheel};
use crate::{setup, sh};

/// How much of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What the tests need: 290 MB of downloads.
    Tests,
    /// Also what only the bench needs: 500 MB of downloads.
    All,
}

/// A camera maker's SDK.
pub(crate) const PYPYLON: Wheel = Wheel {
    file: "pypylon-26.9-cp39-abi3-manylinux_2_31_x86_64.whl",
    sha256: "da16954c3d2df3537f57850b611f0ba488d011df555674f95e73dc84f2827a5e",
};
/// A proprietary assembler.
pub(crate) const NVCC: Wheel = Wheel {
    file: "nvidia_cuda_nvcc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
    sha256: "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0",
};
/// A static program in a wheel.
pub(crate) const IMAGEIO_FFMPEG: Wheel = Wheel {
    file: "imageio_ffmpeg-0.6.0-py3-none-manylinux2014_x86_64.whl",
    sha256: "c7e46fcec401dd990405049d2e2f475e2b397779df2519b544b8aab515195282",
};

/// Wheels the tests walk. `pypylon` and `nvidia-cuda-nvcc` are vendors' binaries; the others bring many small
/// libraries by every compiler in use.
const WHEELS: &[Wheel] = &[
    PYPYLON,
    NVCC,
    Wheel {
        file: "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93",
    },
    Wheel {
        file: "numpy-2.4.6-cp311-cp311-win_amd64.whl",
        sha256: "1e254a00cdf42b1e4d5b3d68d33af63268d41340d8885df2ab6470f2e1500147",
    },
    Wheel {
        file: "scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "43af8d1f3bea642559019edfe64e9b11192a8978efbd1539d7bc2aaa23d92de4",
    },
    Wheel {
        file: "scipy-1.17.1-cp311-cp311-win_amd64.whl",
        sha256: "d30e57c72013c2a4fe441c2fcb8e77b14e152ad48b5464858e07e2ad9fbfceff",
    },
    Wheel {
        file: "pywin32-312-cp311-cp311-win_amd64.whl",
        sha256: "d11417d84412f859b722fad0841b3614459ed0047f7542d8362e77884f6b6e8a",
    },
    Wheel {
        file: "scikit_learn-1.9.1-cp311-cp311-win_amd64.whl",
        sha256: "220fa18152852a5ce29c49e1eaba9d44ec44631cd2e5cf65f5a40eafa5ab3412",
    },
];

/// Wheels that only the bench reads: large files of vendors.
const LARGE_WHEELS: &[Wheel] = &[
    Wheel {
        file: "pypylon-26.9-cp39-abi3-win_amd64.whl",
        sha256: "0e393a667d1704ba6deee54e61943edbc79f9bea4cd27578ae13b0b2359ded1b",
    },
    Wheel {
        file: "nvidia_cuda_nvcc_cu12-12.9.86-py3-none-win_amd64.whl",
        sha256: "8ed7f0b17dea662755395be029376db3b94fed5cbb17c2d35cc866c5b1b84099",
    },
    IMAGEIO_FFMPEG,
    Wheel {
        file: "imageio_ffmpeg-0.6.0-py3-none-win_amd64.whl",
        sha256: "02fa47c83703c37df6bfe4896aab339013f62bf02c5ebf2dce6da56af04ffc0a",
    },
];

/// The oracle for Windows programs. It is pure Python without dependencies, so it needs no installation.
const PEFILE: Wheel = Wheel {
    file: "pefile-2023.2.7-py3-none-any.whl",
    sha256: "da185cd2af68c08a6cd4481f7325ed600a88f6a813bad9dea07ab3ef73d8d8d6",
};

/// Small packages with many programs and libraries each, 38 MB packed.
const DEBIAN: &[&str] = &[
    "apache2-bin",
    "collectd-core",
    "gimp",
    "grub-efi-amd64-bin",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-good",
    "libmono-corlib4.5-dll",
    "libmono-system-core4.0-cil",
    "mono-4.0-service",
    "nsis-common",
    "pulseaudio",
    "python3-distlib",
    "samba-libs",
    "systemd-boot-efi",
    "texlive-binaries",
    "uwsgi-core",
    "vlc-plugin-base",
];

/// The corpus on disk.
pub(crate) struct Corpus {
    /// Holds `files`, one folder per wheel and package, and `python`, the oracle for Windows programs.
    pub(crate) folder: PathBuf,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let extent = if args.flag("--tests") { Extent::Tests } else { Extent::All };
    args.finish()?;
    setup::setup(yes)?;
    let corpus = prepare(extent)?;
    println!("\n{}", sh::table(&corpus.rows()?));
    println!("HATCHWAY_CORPUS={}", corpus.folder.display());
    Ok(())
}

/// Fetches and unpacks what is not there yet.
pub(crate) fn prepare(extent: Extent) -> Result<Corpus> {
    let corpus = Corpus { folder: sh::cache()?.join("corpus") };
    let wheels_folder = wheels::folder()?;
    let large = if extent == Extent::All { LARGE_WHEELS } else { &[] };
    for wheel in WHEELS.iter().chain(large) {
        let file = wheels::fetch(&wheels_folder, wheel)?;
        corpus.enter(wheel.file, |folder| wheels::unpack(&file, folder))?;
    }
    let oracle = wheels::fetch(&wheels_folder, &PEFILE)?;
    wheels::unpack_once(&corpus.folder.join("python"), |folder| wheels::unpack(&oracle, folder))?;
    for deb in debs(&corpus.folder.join("debs"))? {
        let name = deb.file_name().and_then(|name| name.to_str()).context("a package without a name")?;
        corpus.enter(name, |folder| sh::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(folder)))?;
    }
    Ok(corpus)
}

impl Corpus {
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// The wheel of a project for Linux or for Windows, as it was fetched.
    pub(crate) fn wheel(start: &str, end: &str) -> Result<PathBuf> {
        let mut all = WHEELS.iter().chain(LARGE_WHEELS).map(|wheel| wheel.file);
        let file = all.find(|file| file.starts_with(start) && file.ends_with(end));
        Ok(wheels::folder()?.join(file.with_context(|| format!("no wheel `{start}…{end}` in the table"))?))
    }

    fn enter(&self, file: &str, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let name = file.trim_end_matches(".whl").trim_end_matches(".deb");
        wheels::unpack_once(&self.files().join(name), unpack)
    }

    /// What is in each folder, and the sum.
    fn rows(&self) -> Result<Vec<Vec<String>>> {
        let mut rows = vec![["folder", "ELF", "PE", "MiB"].map(str::to_owned).to_vec()];
        let mut sum = Counted::default();
        let mut folders: Vec<PathBuf> = Vec::new();
        for child in fs::read_dir(self.files()).context("the corpus has no files")? {
            folders.push(child?.path());
        }
        folders.sort();
        for folder in folders {
            let counted = Counted::below(&folder)?;
            sum.elf += counted.elf;
            sum.pe += counted.pe;
            sum.bytes += counted.bytes;
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            rows.push(counted.row(name));
        }
        rows.push(sum.row("sum".to_owned()));
        Ok(rows)
    }
}

/// Programs and libraries in a folder.
#[derive(Default)]
struct Counted {
    elf: u64,
    pe: u64,
    bytes: u64,
}

impl Counted {
    fn below(folder: &Path) -> Result<Self> {
        let mut counted = Self::default();
        for (path, kind) in binaries(folder)? {
            counted.bytes += fs::metadata(&path)?.len();
            match kind {
                Kind::Elf => counted.elf += 1,
                Kind::Pe => counted.pe += 1,
            }
        }
        Ok(counted)
    }

    fn row(&self, name: String) -> Vec<String> {
        vec![name, self.elf.to_string(), self.pe.to_string(), (self.bytes >> 20).to_string()]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Elf,
    Pe,
}

/// Every program and library below a folder, in order of their paths.
pub(crate) fn binaries(folder: &Path) -> Result<Vec<(PathBuf, Kind)>> {
    let mut pending = vec![folder.to_path_buf()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for child in
            fs::read_dir(&directory).with_context(|| format!("cannot list `{}`", directory.display()))?
        {
            let child = child?;
            let file_type = child.file_type()?;
            if file_type.is_dir() {
                pending.push(child.path());
            } else if file_type.is_file()
                && let Some(kind) = kind(&child.path())?
            {
                found.push((child.path(), kind));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn kind(path: &Path) -> Result<Option<Kind>> {
    let mut head = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    file.take(4).read_to_end(&mut head)?;
    Ok(match head.as_slice() {
        b"\x7fELF" => Some(Kind::Elf),
        [b'M', b'Z', ..] => Some(Kind::Pe),
        _ => None,
    })
}

/// The Debian packages, downloaded where there is none of that name.
fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let missing: Vec<&str> =
        DEBIAN.iter().copied().filter(|name| deb(folder, name).is_ok_and(|deb| deb.is_none())).collect();
    if !missing.is_empty() {
        let download = || {
            let mut command = Command::new("apt-get");
            command.args(["download", "--quiet", "-o", "APT::Sandbox::User=root"]);
            command.args(&missing).current_dir(folder);
            println!("\n$ {}", sh::shown(&command));
            sh::run(&mut command)
        };
        if download().is_err() {
            // Images of containers come without lists of packages.
            if !sh::is_root()? {
                bail!("apt knows no source of {}\nhint: run `sudo apt-get update`", missing.join(", "));
            }
            sh::run(Command::new("apt-get").args(["update", "--quiet"]))?;
            download()?;
        }
    }
    let found = DEBIAN.iter().map(|name| {
        let deb = deb(folder, name)?;
        deb.with_context(|| format!("apt-get downloaded no file of `{name}`"))
    });
    found.collect()
}

fn deb(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for child in fs::read_dir(folder)? {
        let file = child?.file_name();
        let file = file.to_string_lossy();
        if file.starts_with(&format!("{name}_")) && file.ends_with(".deb") {
            return Ok(Some(folder.join(file.as_ref())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_pinned_once() {
        let all: Vec<&Wheel> = WHEELS.iter().chain(LARGE_WHEELS).chain([&PEFILE]).collect();
        for (index, wheel) in all.iter().enumerate() {
            assert!(wheel.sha256.len() == 64 && wheel.file.ends_with(".whl"), "{}", wheel.file);
            assert!(all[..index].iter().all(|other| other.sha256 != wheel.sha256), "{}", wheel.file);
        }
    }

    #[test]
    fn a_folder_is_filled_once_and_never_half() {
        let scratch = sh::Scratch::new("xtask-test").unwrap();
        let folder = scratch.path.join("a/b");
        assert!(wheels::unpack_once(&folder, |_| bail!("broken")).is_err());
        assert!(!folder.exists());
        wheels::unpack_once(&folder, |half| Ok(fs::write(half.join("x"), "\x7fELF…")?)).unwrap();
        wheels::unpack_once(&folder, |_| bail!("not again")).unwrap();
        fs::write(folder.join("y"), "MZ").unwrap();
        fs::write(folder.join("z"), "").unwrap();
        let kinds: Vec<Kind> = binaries(&folder).unwrap().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, [Kind::Elf, Kind::Pe]);
    }
}
