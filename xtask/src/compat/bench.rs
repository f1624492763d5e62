//! Where the programs are prepared: recipes, a store, shared files, pictures and logs, all in the target folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::edit;
use super::programs::{Program, Source};
use crate::{sh, wheels};

/// Longest time that a lock or a build may take; the first also fetches the indices.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Voxels along each edge of the volume that image programs open.
const EDGE: u8 = 64;

pub(super) struct Bench {
    folder: PathBuf,
    hatchway: PathBuf,
}

/// What the lock of a program says.
#[derive(Default)]
pub(super) struct Locked {
    pub(super) base: String,
    pub(super) rung: String,
    pub(super) packages: usize,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        let folder = super::folder()?;
        for name in ["recipes", "share", "pictures", "logs"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        }
        let bench = Self { hatchway: sh::target_folder()?.join("hatchway/hatchway"), folder };
        // Tools run as users of their own, which have to get there.
        let share = bench.share();
        fs::set_permissions(&share, fs::Permissions::from_mode(0o755))?;
        let volume = share.join("phantom.nii");
        fs::write(&volume, phantom()).with_context(|| format!("cannot write `{}`", volume.display()))?;
        Ok(bench)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What programs get to read: a volume.
    pub(super) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    pub(super) fn picture(&self, program: &Program) -> PathBuf {
        self.folder.join("pictures").join(format!("{}.png", program.name))
    }

    pub(super) fn log(&self, program: &Program) -> PathBuf {
        self.folder.join("logs").join(format!("{}.log", program.name))
    }

    /// `hatchway` with a store of this verb's own.
    pub(super) fn hatchway(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.hatchway);
        command.args(words).current_dir(&self.folder).env("HATCHWAY_DATA_DIR", self.folder.join("data"));
        command.env_remove("DISPLAY");
        command
    }

    /// Draft, edits, lock, tree.
    pub(super) fn prepare(&self, program: &Program) -> Result<()> {
        let folder = self.folder.join("recipes").join(program.name);
        sh::remove_folder(&folder)?;
        let artifact = match program.source {
            Source::Archive(name) => Some(name.to_owned()),
            Source::Wheel(wheel) => {
                Some(wheels::fetch(&wheels::folder()?, &wheel)?.to_string_lossy().into_owned())
            }
            Source::Recipe(text) => {
                fs::create_dir_all(&folder)?;
                fs::write(folder.join("recipe.toml"), text)?;
                None
            }
        };
        if let Some(artifact) = artifact {
            self.step(&["new", "--name", program.name, &artifact])?;
        }
        let path = folder.join("recipe.toml");
        let recipe =
            fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let recipe = program.edits.iter().fold(recipe, |recipe, edit| edit::apply(&recipe, edit));
        fs::write(&path, recipe).with_context(|| format!("cannot write `{}`", path.display()))?;
        self.step(&["lock", program.name])?;
        self.step(&["build", program.name])
    }

    fn step(&self, words: &[&str]) -> Result<()> {
        let shown = sh::Shown { stdout: false, stderr: false };
        let finished = sh::run_limited(&mut self.hatchway(words), PATIENCE, shown)?;
        if finished.status.success() {
            return Ok(());
        }
        let error = finished.stderr.lines().find(|line| line.starts_with("error"));
        bail!("`hatchway {}`: {}", words[0], error.unwrap_or("it says no error"))
    }

    pub(super) fn locked(&self, program: &Program) -> Locked {
        let path = self.folder.join("recipes").join(program.name).join("recipe.lock");
        let Ok(text) = fs::read_to_string(path) else { return Locked::default() };
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let packages = text.lines().filter(|line| *line == "[[package]]").count();
        Locked { base: value("base"), rung: value("rung"), packages }
    }
}

/// A NIfTI-1 file (nifti1.h): one file, 16-bit numbers, voxels of 0.5 mm; a ball with two smaller ones in it.
fn phantom() -> Vec<u8> {
    const HEADER: usize = 352;
    const INT16: i16 = 4;
    const MILLIMETRES: u8 = 2;
    let mut file = vec![0_u8; HEADER];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    let edge = i16::from(EDGE);
    for (index, size) in [3, edge, edge, edge, 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * index, &size.to_le_bytes());
    }
    put(70, &INT16.to_le_bytes());
    put(72, &16_i16.to_le_bytes());
    for (index, size) in [1.0_f32, 0.5, 0.5, 0.5].into_iter().enumerate() {
        put(76 + 4 * index, &size.to_le_bytes());
    }
    put(108, &352.0_f32.to_le_bytes());
    put(112, &1.0_f32.to_le_bytes());
    put(123, &[MILLIMETRES]);
    put(254, &1_i16.to_le_bytes());
    // The rows of the transform from voxels to millimetres.
    for (row, at) in [280, 296, 312].into_iter().enumerate() {
        put(at + 4 * row, &0.5_f32.to_le_bytes());
    }
    put(344, b"n+1\0");
    let ball = |at: [u8; 3], centre: [u8; 3], radius: f32| {
        let square = |axis: usize| (f32::from(at[axis]) - f32::from(centre[axis])).powi(2);
        (0..3).map(square).sum::<f32>() < radius.powi(2)
    };
    for z in 0..EDGE {
        for (y, x) in (0..EDGE).flat_map(|y| (0..EDGE).map(move |x| (y, x))) {
            let at = [x, y, z];
            let value: i16 = match () {
                () if ball(at, [42, 36, 32], 10.0) => 600,
                () if ball(at, [24, 24, 32], 7.0) => 1000,
                () if ball(at, [32, 32, 32], 28.0) => 200,
                () => 0,
            };
            file.extend(value.to_le_bytes());
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phantom_has_the_size_its_header_says() {
        let file = phantom();
        assert_eq!(file.len(), 352 + 2 * usize::from(EDGE).pow(3));
        assert_eq!(&file[344..348], b"n+1\0");
    }
}
