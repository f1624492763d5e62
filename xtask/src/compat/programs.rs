//! The programs, what has to be changed in their drafts, and by what they are known to work.

use std::fmt;

use super::edit::Edit;
use crate::corpus;
use crate::wheels::Wheel;

pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) source: Source,
    pub(super) edits: &'static [Edit],
    /// `SHARE` stands for the folder with the volume, which is shown to every program.
    pub(super) arguments: &'static [&'static str],
    pub(super) proof: Proof,
}

/// Where the artifact comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A package of Debian's archive.
    Archive(&'static str),
    /// A file of the Python package index, which has programs of vendors in it.
    Wheel(Wheel),
    /// No artifact: an environment alone, by its recipe.
    Recipe(&'static str),
}

/// What is seen when it works.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    /// A line with these words, and exit code 0.
    Prints(&'static str),
    /// A picture, `seconds` after the start and after acts: words of `xdotool`, and the seconds waited behind them.
    Draws { seconds: u64, acts: &'static [(&'static str, u64)] },
    /// A service on a port of 127.0.0.1: what it is sent, and what its answer has in it.
    Answers { port: u16, sends: &'static str, says: &'static str },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(name) => f.write_str(name),
            Self::Wheel(wheel) => {
                let mut parts = wheel.file.split('-');
                write!(f, "{}-{}.whl", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            Self::Recipe(_) => f.write_str("recipe alone"),
        }
    }
}

impl Program {
    pub(super) fn kind(&self) -> &'static str {
        let foreign = matches!(self.source, Source::Archive(name) if name.ends_with(":i386"));
        match (self.proof, foreign) {
            (Proof::Prints(_), false) => "console",
            (Proof::Prints(_), true) => "console, i386",
            (Proof::Draws { .. }, false) => "graphical",
            (Proof::Draws { .. }, true) => "graphical, i386",
            (Proof::Answers { .. }, _) => "service",
        }
    }
}

const fn run(key: &'static str, value: &'static str) -> Edit {
    Edit { section: "run", key, value }
}

const fn environment(key: &'static str, value: &'static str) -> Edit {
    Edit { section: "environment", key, value }
}

const DISPLAY: Edit = run("display", "\"nested\"");
const NETWORK: Edit = run("network", "\"host\"");
const GPU: Edit = run("gpu", "true");
const BULLSEYE: Edit = environment("base", "\"debian:bullseye\"");
/// Its packages have scripts that nobody has read for Hatchway; they run in a build sandbox.
const SCRIPTS: Edit = environment("configure", "\"scripts\"");

const fn draws(seconds: u64) -> Proof {
    Proof::Draws { seconds, acts: &[] }
}

const CMAKE: Wheel = Wheel {
    file: "cmake-3.31.6-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "1c8b05df0602365da91ee6a3336fe57525b137706c4ab5675498f662ae1dbcec",
};
const RUFF: Wheel = Wheel {
    file: "ruff-0.8.4-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "e5fe710ab6061592521f902fca7ebcb9fabd27bc7c57c764298b1c1f15fff720",
};
const SLICER_CORE: Wheel = Wheel {
    file: "slicer_core-5.13.31053.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256: "f60188a18321859c4317c79d00697e88bcc868c8679fde16a210c555b6c9b95e",
};

/// The three packages of the talk that Hatchway's idea comes from.
const SCIENTIFIC: &str = r#"schema = 1

[package]
name = "scientific"
version = "1"

[environment]
python = { version = "3.11", requirements = ["numpy", "scipy", "pyfftw"] }
"#;

/// 3D Slicer's own classes read the volume.
const LOADS_VOLUME: &str = "\
from slicer import MRMLCore
scene, node = MRMLCore.vtkMRMLScene(), MRMLCore.vtkMRMLScalarVolumeNode()
storage = MRMLCore.vtkMRMLVolumeArchetypeStorageNode()
scene.AddNode(node)
scene.AddNode(storage)
storage.SetFileName('SHARE/phantom.nii')
assert storage.ReadData(node)
print('loaded', node.GetImageData().GetDimensions(), node.GetSpacing())
";

#[rustfmt::skip] // a table
pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "amide", source: Source::Archive("debian:trixie/main/amide"),
        edits: &[DISPLAY, environment("packages", "[\"librsvg2-common\"]")], arguments: &["SHARE/phantom.nii"],
        // It warns that the file says nothing about durations; the volume is drawn when it is ticked.
        proof: Proof::Draws { seconds: 14, acts: &[("mousemove 177 158 click 1", 2), ("mousemove 177 158 click 1", 8), ("mousemove 68 111 click 1", 5)] } },
    Program { name: "xmedcon", source: Source::Archive("debian:bookworm/main/xmedcon"), edits: &[DISPLAY],
        arguments: &["-f", "SHARE/phantom.nii"], proof: draws(12) },
    Program { name: "mricron", source: Source::Archive("debian:bullseye/main/mricron"), edits: &[DISPLAY],
        arguments: &["SHARE/phantom.nii"], proof: draws(12) },
    Program { name: "imagej", source: Source::Archive("debian:bookworm/main/imagej"), edits: &[DISPLAY, environment("packages", "[\"dpkg\"]")],
        arguments: &[], proof: draws(20) },
    Program { name: "pulseview", source: Source::Archive("debian:bookworm/main/pulseview"), edits: &[DISPLAY],
        arguments: &[], proof: draws(15) },
    Program { name: "cutecom", source: Source::Archive("debian:trixie/main/cutecom"), edits: &[DISPLAY],
        arguments: &[], proof: draws(12) },
    Program { name: "galculator", source: Source::Archive("debian:bullseye/main/galculator"), edits: &[DISPLAY, BULLSEYE],
        arguments: &[], proof: draws(12) },
    Program { name: "xpdf", source: Source::Archive("debian:trixie/main/xpdf"), edits: &[DISPLAY],
        arguments: &[], proof: draws(12) },
    Program { name: "xterm", source: Source::Archive("debian:bullseye/main/xterm"), edits: &[DISPLAY],
        arguments: &["-hold", "-e", "ls", "-l", "/"], proof: draws(8) },
    Program { name: "xterm-i386", source: Source::Archive("debian:trixie/main/xterm:i386"), edits: &[DISPLAY],
        arguments: &["-hold", "-e", "ls", "-l", "/"], proof: draws(8) },
    Program { name: "rar-i386", source: Source::Archive("debian:bullseye/non-free/rar:i386"), edits: &[],
        arguments: &[], proof: Proof::Prints("RAR 6.23") },
    Program { name: "hello-i386", source: Source::Archive("debian:bookworm/main/hello:i386"), edits: &[],
        arguments: &[], proof: Proof::Prints("Hello, world!") },
    Program { name: "redis", source: Source::Archive("debian:trixie/main/redis-server"), edits: &[NETWORK, SCRIPTS],
        arguments: &["--port", "7379", "--bind", "127.0.0.1"],
        proof: Proof::Answers { port: 7379, sends: "PING\r\n", says: "+PONG" } },
    Program { name: "mosquitto", source: Source::Archive("debian:bookworm/main/mosquitto"), edits: &[NETWORK],
        arguments: &["-p", "7883"],
        // CONNECT of MQTT 3.1.1 with a clean session, and the CONNACK that accepts it (sections 3.1, 3.2).
        proof: Proof::Answers { port: 7883, sends: "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", says: "\x20\x02\x00\x00" } },
    Program { name: "memcached", source: Source::Archive("debian:bullseye/main/memcached"), edits: &[NETWORK],
        arguments: &["-p", "7211", "-l", "127.0.0.1"],
        proof: Proof::Answers { port: 7211, sends: "version\r\n", says: "VERSION 1.6" } },
    Program { name: "orthanc", source: Source::Archive("debian:bookworm/main/orthanc"), edits: &[NETWORK, SCRIPTS, run("state", "[\"/var/lib/orthanc\"]")],
        arguments: &["/etc/orthanc"],
        proof: Proof::Answers { port: 8042, sends: "GET /system HTTP/1.0\r\n\r\n", says: "HTTP/1." } },
    Program { name: "webfs", source: Source::Archive("debian:bookworm/main/webfs"), edits: &[NETWORK],
        arguments: &["-F", "-i", "127.0.0.1", "-p", "7800", "-r", "/usr/share"],
        proof: Proof::Answers { port: 7800, sends: "GET / HTTP/1.0\r\n\r\n", says: "200 OK" } },
    Program { name: "tigervnc", source: Source::Archive("debian:bookworm/main/tigervnc-standalone-server"),
        edits: &[NETWORK, run("program", "\"/usr/bin/Xtigervnc\"")],
        arguments: &[":77", "-rfbport", "7900", "-SecurityTypes", "None", "-localhost"],
        proof: Proof::Answers { port: 7900, sends: "", says: "RFB 003.008" } },
    Program { name: "rar", source: Source::Archive("debian:trixie/non-free/rar"), edits: &[],
        arguments: &[], proof: Proof::Prints("RAR 7.11") },
    Program { name: "openssl", source: Source::Archive("debian:bullseye/main/openssl"), edits: &[],
        arguments: &["version"], proof: Proof::Prints("OpenSSL 1.1.1") },
    Program { name: "dcmtk", source: Source::Archive("debian:trixie/main/dcmtk"),
        edits: &[run("program", "\"/usr/bin/dcmdump\"")], arguments: &["--version"], proof: Proof::Prints("dcmtk: dcmdump v3.6.9") },
    Program { name: "hdf5-tools", source: Source::Archive("debian:trixie/main/hdf5-tools"),
        edits: &[run("program", "\"/usr/bin/h5dump\"")], arguments: &["--version"], proof: Proof::Prints("h5dump: Version 1.14") },
    Program { name: "gnuplot", source: Source::Archive("debian:bullseye/main/gnuplot-nox"), edits: &[BULLSEYE],
        arguments: &["-e", "set terminal dumb; plot sin(x)"], proof: Proof::Prints("sin(x") },
    Program { name: "ffmpeg", source: Source::Archive("debian:trixie/main/ffmpeg"), edits: &[],
        arguments: &["-version"], proof: Proof::Prints("ffmpeg version 7.1") },
    Program { name: "vulkan", source: Source::Archive("debian:bookworm/main/vulkan-tools"),
        edits: &[GPU, run("program", "\"/usr/bin/vulkaninfo\""), environment("packages", "[\"mesa-vulkan-drivers\"]")],
        // Mesa's renderer in software: on a host with a GPU that Mesa or NVIDIA drives, it stands beside that.
        arguments: &["--summary"], proof: Proof::Prints("llvmpipe (LLVM") },
    Program { name: "opencl", source: Source::Archive("debian:bookworm/main/clinfo"),
        edits: &[GPU, environment("packages", "[\"pocl-opencl-icd\"]"), SCRIPTS],
        arguments: &["-l"], proof: Proof::Prints("Portable Computing Language") },
    Program { name: "ptxas", source: Source::Wheel(corpus::NVCC), edits: &[],
        arguments: &["--version"], proof: Proof::Prints("Cuda compilation tools, release 12.9") },
    Program { name: "pypylon", source: Source::Wheel(corpus::PYPYLON), edits: &[],
        arguments: &["-c", "from pypylon import pylon; print('pylon', pylon.GetPylonVersion())"], proof: Proof::Prints("pylon [") },
    Program { name: "imageio-ffmpeg", source: Source::Wheel(corpus::IMAGEIO_FFMPEG), edits: &[],
        arguments: &["-version"], proof: Proof::Prints("ffmpeg version 7.0") },
    Program { name: "cmake", source: Source::Wheel(CMAKE), edits: &[],
        arguments: &["--version"], proof: Proof::Prints("cmake version 3.31.6") },
    Program { name: "ruff", source: Source::Wheel(RUFF), edits: &[],
        arguments: &["--version"], proof: Proof::Prints("ruff 0.8.4") },
    Program { name: "slicer-core", source: Source::Wheel(SLICER_CORE), edits: &[],
        arguments: &["-c", LOADS_VOLUME], proof: Proof::Prints("loaded (64, 64, 64) (0.5, 0.5, 0.5)") },
    Program { name: "scientific", source: Source::Recipe(SCIENTIFIC), edits: &[],
        arguments: &["-c", "import numpy, scipy.fft, pyfftw; x = numpy.random.rand(64, 64); \
            print('largest difference', abs(scipy.fft.fft2(x) - pyfftw.interfaces.numpy_fft.fft2(x)).max() < 1e-9)"],
        proof: Proof::Prints("largest difference True") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_of_each_kind_as_the_page_promises() {
        let count = |is: &dyn Fn(&Program) -> bool| PROGRAMS.iter().filter(|program| is(program)).count();
        let from = |suite: &str| count(&|p| p.source.to_string().starts_with(suite)) > 0;
        assert!(PROGRAMS.len() >= 30);
        assert!(count(&|p| p.kind().starts_with("graphical")) >= 8);
        assert!(count(&|p| p.kind() == "service") >= 5);
        assert!(count(&|p| p.kind().ends_with("i386")) >= 3);
        assert!(count(&|p| !p.source.to_string().starts_with("debian:")) >= 5);
        assert!(["debian:bookworm/", "debian:trixie/", "debian:bullseye/"].into_iter().all(from));
    }

    #[test]
    fn names_are_given_once() {
        let mut names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROGRAMS.len());
    }
}
