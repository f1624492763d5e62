//! Wheels by name, version and hash. pip knows where from; in the tree stands only what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// The Python that wheels are fetched for, whatever version fetches them.
const PYTHON_VERSION: &str = "311";

/// One wheel, pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wheel {
    /// Its file: `NAME-VERSION-PYTHON-ABI-PLATFORM.whl`, which says everything pip has to know.
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
}

impl Wheel {
    /// Name, version and platform tags.
    fn parts(&self) -> Result<(&'static str, &'static str, Vec<&'static str>)> {
        let fields: Vec<&str> = self.file.trim_end_matches(".whl").split('-').collect();
        let [name, version, _, _, platforms] = fields[..] else {
            bail!("`{}` is no name of a wheel", self.file);
        };
        Ok((name, version, platforms.split('.').collect()))
    }
}

/// The folder that all verbs keep their wheels in.
pub(crate) fn folder() -> Result<PathBuf> {
    let user = if sh::is_root()? { "root" } else { "user" };
    Ok(sh::cache()?.join(user).join("wheels"))
}

/// The wheel in `folder`, fetched if it is not there with the pinned hash.
pub(crate) fn fetch(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let file = folder.join(wheel.file);
    if file.exists() && sha256(&file)? == wheel.sha256 {
        println!("\nalready fetched: {}", file.display());
        return Ok(file);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let (name, version, platforms) = wheel.parts()?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("{name}=={version} --hash=sha256:{}\n", wheel.sha256))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]).args([
        "--progress-bar=off",
        "--disable-pip-version-check",
        "--python-version",
        PYTHON_VERSION,
    ]);
    platforms.iter().for_each(|platform| {
        pip.args(["--platform", platform]);
    });
    pip.arg("--requirement").arg(&requirements).arg("--dest").arg(folder);
    println!("\n$ {}", sh::shown(&pip));
    sh::run(&mut pip)?;
    if sha256(&file)? != wheel.sha256 {
        bail!("`{}` does not have the pinned hash", file.display());
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    Ok(file)
}

/// Unpacks a wheel into `folder`, with the modes of the zip's reader and not those pip would set.
pub(crate) fn unpack(wheel: &Path, folder: &Path) -> Result<()> {
    sh::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))
}

/// Fills a folder that is not there yet; one that was left half filled has another name.
pub(crate) fn unpack_once(folder: &Path, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let half =
        folder.with_file_name(format!("{}.half", folder.file_name().unwrap_or_default().to_string_lossy()));
    sh::remove_folder(&half)?;
    fs::create_dir_all(&half).with_context(|| format!("cannot make `{}`", half.display()))?;
    unpack(&half)?;
    fs::rename(&half, folder).with_context(|| format!("cannot make `{}`", folder.display()))
}

fn sha256(file: &Path) -> Result<String> {
    let text = sh::capture(Command::new("sha256sum").arg("--").arg(file))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_says_what_to_ask_for() {
        let file = "nvidia_cuda_nvcc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl";
        let (name, version, platforms) = Wheel { file, sha256: "" }.parts().unwrap();
        assert_eq!((name, version), ("nvidia_cuda_nvcc_cu12", "12.9.86"));
        assert_eq!(platforms, ["manylinux2010_x86_64", "manylinux_2_12_x86_64"]);
        assert!(Wheel { file: "x.whl", sha256: "" }.parts().is_err());
    }
}
