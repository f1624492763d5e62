//! Sound, and runtimes of languages.

use super::Sign::{File, FileLike, Import, Interpreter, Library, LibraryPrefix, Mark, Path, Subsystem};
use super::{Rule, S, W, rule};
use crate::TechnologyKind::{Audio, Runtime};

/// Sound: the client libraries of the sound servers, and the kernel's device nodes.
pub(super) const SOUNDS: &[Rule] = &[
    rule(Audio, "ALSA", &[(Library("libasound"), S), (Path("/dev/snd"), S), (Subsystem("sound"), W)]),
    rule(Audio, "PulseAudio", &[(Library("libpulse"), S), (Library("libpulse-simple"), S)]),
    rule(Audio, "PipeWire", &[(LibraryPrefix("libpipewire"), S)]),
    rule(Audio, "JACK", &[(Library("libjack"), S), (Library("libjackserver"), S)]),
    rule(Audio, "PortAudio", &[(Library("libportaudio"), S)]),
    rule(Audio, "OSS", &[(Path("/dev/dsp"), S), (Path("/dev/mixer"), S)]),
];

/// Runtimes: their libraries, interpreters, and endings of compiled files.
pub(super) const RUNTIMES: &[Rule] = &[
    rule(
        Runtime,
        "Java",
        &[
            (Library("libjvm"), S),
            (Library("libjli"), S),
            (File("libjvm.so"), S),
            (FileLike("", ".jar"), S),
            (FileLike("", ".class"), W),
            (Interpreter("java"), S),
            (Import("jvm.dll"), S),
            (Mark("JNI_CreateJavaVM"), S),
            (File("rt.jar"), S),
        ],
    ),
    rule(
        Runtime,
        "Python",
        &[
            (LibraryPrefix("libpython"), S),
            (FileLike("libpython", ""), S),
            (Interpreter("python"), S),
            (Import("python"), S),
            (File("__init__.py"), S),
            (File("__main__.py"), S),
            (FileLike("", ".pyd"), S),
            (FileLike("", ".py"), W),
            (FileLike("", ".pyc"), W),
            (FileLike("", ".cpython-"), S),
            (FileLike("", ".abi3.so"), S),
        ],
    ),
    rule(
        Runtime,
        ".NET",
        &[
            (Library("libcoreclr"), S),
            (Library("libhostfxr"), S),
            (File("libcoreclr.so"), S),
            (File("libhostfxr.so"), S),
            (FileLike("", ".runtimeconfig.json"), S),
            (Import("mscoree"), S),
            (File("coreclr.dll"), S),
        ],
    ),
    rule(
        Runtime,
        "Mono",
        &[
            (LibraryPrefix("libmono-2"), S),
            (LibraryPrefix("libmonosgen"), S),
            (LibraryPrefix("libmonoboehm"), S),
            (Interpreter("mono"), S),
            (FileLike("libmonosgen", ""), S),
            (Path("/etc/mono"), W),
        ],
    ),
    rule(
        Runtime,
        "Node",
        &[
            (Interpreter("node"), S),
            (Library("libnode"), S),
            (FileLike("", ".node"), S),
            (Mark("NODE_MODULE_VERSION"), W),
        ],
    ),
    rule(Runtime, "Perl", &[(Library("libperl"), S), (Interpreter("perl"), S)]),
    rule(
        Runtime,
        "Tcl",
        &[
            (LibraryPrefix("libtcl"), S),
            (Interpreter("tclsh"), S),
            (Interpreter("wish"), S),
            (Import("tcl8"), S),
        ],
    ),
    rule(Runtime, "R", &[(Library("libR"), S), (Interpreter("Rscript"), S)]),
    rule(
        Runtime,
        "MATLAB Runtime",
        &[
            (LibraryPrefix("libmwmclmcr"), S),
            (Library("libmx"), W),
            (LibraryPrefix("libmwlaunchermain"), S),
            (Mark("MCR_CACHE_ROOT"), S),
            (Mark("mclInitializeApplication"), W),
            (Import("mclmcrrt"), S),
            (FileLike("", ".ctf"), W),
        ],
    ),
    rule(
        Runtime,
        "LabVIEW Run-Time Engine",
        &[
            (LibraryPrefix("liblvrt"), S),
            (Import("lvrt"), S),
            (FileLike("liblvrt", ""), S),
            (FileLike("", ".vi"), W),
            (Mark("LabVIEW Run-Time"), W),
        ],
    ),
    rule(Runtime, "Julia", &[(Library("libjulia"), S), (Interpreter("julia"), S)]),
    rule(Runtime, "Ruby", &[(LibraryPrefix("libruby"), S), (Interpreter("ruby"), S)]),
    rule(
        Runtime,
        "Lua",
        &[(LibraryPrefix("liblua5"), S), (LibraryPrefix("libluajit"), S), (Interpreter("lua"), S)],
    ),
    rule(Runtime, "Octave", &[(Library("liboctave"), S), (Interpreter("octave"), S)]),
    rule(
        Runtime,
        "Fortran",
        &[(Library("libgfortran"), S), (Library("libifcore"), S), (Library("libifport"), S)],
    ),
    rule(Runtime, "Intel MKL", &[(LibraryPrefix("libmkl_"), S), (Import("mkl_"), S)]),
    rule(Runtime, "OpenMP", &[(Library("libgomp"), S), (Library("libiomp5"), S), (Library("libomp"), S)]),
    rule(Runtime, "MPI", &[(Library("libmpi"), S), (Library("libmpich"), S)]),
];
