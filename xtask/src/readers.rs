//! `cargo xtask readers`: other programs' readers of images and of network messages, from PyPI by pinned hash, for the tests of
//! reconstruction. They are in a folder of their own, for they bring a NumPy that Debian's programs do not work with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::wheels::{self, Wheel};
use crate::{build, setup, sh};

/// Where the tests look for them.
const VARIABLE: &str = "HATCHWAY_READERS";

const WHEELS: &[Wheel] = &[
    Wheel {
        file: "numpy-2.3.4-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "a7b2f9a18b5ff9824a6af80de4f37f4ec3c2aab05ef08f51c77a093f5b89adda",
    },
    Wheel {
        file: "nibabel-5.4.2-py3-none-any.whl",
        sha256: "553482c5f1e1034fc312edf6fb7f32236c0056439845d1c29293b7e8c98d4854",
    },
    Wheel {
        file: "importlib_resources-7.1.0-py3-none-any.whl",
        sha256: "1bd7b48b4088eddb2cd16382150bb515af0bd2c70128194392725f82ad2c96a1",
    },
    Wheel {
        file: "packaging-26.4-py3-none-any.whl",
        sha256: "81383611a09c1bc0b08b76e0fd5829d7c6824c65b27a6aee339da133f4233ea2",
    },
    Wheel {
        file: "typing_extensions-4.16.0-py3-none-any.whl",
        sha256: "481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8",
    },
    Wheel {
        file: "pydicom-3.0.2-py3-none-any.whl",
        sha256: "abf971a5440f84dbaf42c4b6758e30e62480902584f8b270b9a5d146e278a07b",
    },
    Wheel {
        file: "pynrrd-1.1.3-py3-none-any.whl",
        sha256: "21f7e370045e7ef8a86841965b2ff3a18937efbb4e2078e346168463f8f34b7e",
    },
    Wheel {
        file: "pyigtl-0.3.4-py3-none-any.whl",
        sha256: "80cdefca7f98ee93c4c42ff1560a914244963df45495dde1784720ac9f28fe29",
    },
    Wheel {
        file: "simpleitk-2.5.7-cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "ed2dcb431771baadb4f18a55771c87928e4c04b88072826eee7d4cd3091e4aac",
    },
    Wheel {
        file: "vtk-9.6.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "0fd9fa3f851192619ac0cec05591ab88adbed67ba063903297d2bb40b457bd00",
    },
    Wheel {
        file: "slicer_core-5.13.31053.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256: "f60188a18321859c4317c79d00697e88bcc868c8679fde16a210c555b6c9b95e",
    },
];

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    println!("\nexport {VARIABLE}={}", prepare()?.display());
    Ok(())
}

/// A command for the tests that need them.
pub(crate) fn tests() -> Result<Command> {
    let mut tests = sh::cargo();
    tests.args(["test", "--workspace", "--features", build::WITH, "--test", "readers"]);
    tests.args(["--", "--ignored", "--nocapture"]);
    tests.env(VARIABLE, prepare()?);
    Ok(tests)
}

/// Fetches and unpacks what is not there; an unpacked set is kept under the hashes of all.
fn prepare() -> Result<PathBuf> {
    let fetched = wheels::folder()?;
    let files = WHEELS.iter().map(|wheel| wheels::fetch(&fetched, wheel)).collect::<Result<Vec<_>>>()?;
    let key: String = WHEELS.iter().map(|wheel| &wheel.sha256[..4]).collect();
    let folder = fetched.with_file_name(format!("readers-{key}"));
    wheels::unpack_once(&folder, |folder| files.iter().try_for_each(|file| wheels::unpack(file, folder)))?;
    Ok(folder)
}
