//! The files of an image: each has its name only once it is whole.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;
use crate::image::{Encoding, Image, Labels, View, write_dicom, write_nifti, write_nrrd};
use crate::mdf::Mdf;
use crate::mdf::write::Options;
use crate::run::write_image;

/// The files that a plan names, beside the plan.
pub(super) struct Outputs<'p> {
    pub(super) folder: &'p Path,
    pub(super) image: &'p Path,
    pub(super) nrrd: Option<&'p Path>,
    pub(super) nifti: Option<&'p Path>,
    pub(super) dicom: Option<&'p Path>,
    pub(super) png: Option<&'p Path>,
    pub(super) view: &'p View,
}

impl Outputs<'_> {
    fn paths(&self) -> Vec<PathBuf> {
        let all = [Some(self.image), self.nrrd, self.nifti, self.dicom, self.png];
        all.into_iter().flatten().map(|path| self.folder.join(path)).collect()
    }

    /// What cannot be written is told before anything is computed. `inputs` are never written over, and no file twice.
    pub(super) fn check(&self, inputs: &[&Path], force: bool) -> Result<(), Error> {
        let inputs: Vec<PathBuf> = inputs.iter().map(|path| place(&self.folder.join(path))).collect();
        let mut seen: Vec<PathBuf> = Vec::new();
        for path in self.paths() {
            let place = place(&path);
            if inputs.contains(&place) || seen.contains(&place) {
                return Err(Error::Twice(path));
            }
            seen.push(place);
        }
        match self.paths().into_iter().find(|path| !force && path.symlink_metadata().is_ok()) {
            Some(path) => Err(Error::Exists(path)),
            None => Ok(()),
        }
    }

    pub(super) fn write(&self, image: &Image, scan: &Mdf, unit: &str, force: bool) -> Result<(), Error> {
        let options = Options { overwrite: force, ..Options::default() };
        write_image(&self.folder.join(self.image), image, scan, options)?;
        if let Some(path) = self.nrrd {
            nrrd(&self.folder.join(path), image, force)?;
        }
        if let Some(path) = self.nifti {
            nifti(&self.folder.join(path), image, force)?;
        }
        if let Some(path) = self.dicom {
            dicom(&self.folder.join(path), image, &Labels::of(scan, code(unit)), force)?;
        }
        if let Some(path) = self.png {
            whole(&self.folder.join(path), force, |out| self.view.png(image, out))?;
        }
        Ok(())
    }

    /// The last lines of a summary.
    pub(super) fn wrote(&self, image: &Image, unit: &str) -> String {
        let most = image.frame(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Units of x-space have small numbers.
        let most = if most.abs() < 1e-3 { format!("{most:.3e}") } else { format!("{most:.3}") };
        let mut text = format!("image     up to {most} {unit}\n");
        for path in self.paths() {
            text += &format!("wrote     {}\n", path.display());
        }
        text
    }
}

/// A file by its folder and its name, whichever way a plan gets there; as far as its folder is there.
fn place(path: &Path) -> PathBuf {
    let resolved = path.canonicalize().ok();
    let beside = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    resolved.or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// A unit as UCUM writes it; other units are arbitrary ones.
fn code(unit: &str) -> Option<&str> {
    (unit == "mmol/L").then_some(unit)
}

/// Writes NRRD.
pub(super) fn nrrd(path: &Path, image: &Image, force: bool) -> Result<(), Error> {
    whole(path, force, |out| {
        let failed = |source| Error::Io { action: "write", path: path.into(), source };
        write_nrrd(image, Encoding::Gzip, out).map_err(failed)
    })
}

/// Writes DICOM.
pub(super) fn dicom(path: &Path, image: &Image, labels: &Labels, force: bool) -> Result<(), Error> {
    whole(path, force, |out| write_dicom(image, labels, out))
}

/// Writes NIfTI-1, whose writer wants a path. The path's end says whether it is compressed.
pub(super) fn nifti(path: &Path, image: &Image, force: bool) -> Result<(), Error> {
    let is_packed = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
    let file = unnamed(path, if is_packed { ".nii.gz" } else { ".nii" })?;
    write_nifti(image, file.path())?;
    name(file, path, force)
}

/// Writes a file that has its name only once it is whole.
pub(super) fn whole(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut BufWriter<&fs::File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::Io { action: "write", path: path.into(), source };
    let file = unnamed(path, "")?;
    let mut out = BufWriter::new(file.as_file());
    write(&mut out)?;
    out.into_inner().map_err(|error| io(error.into_error()))?;
    name(file, path, force)
}

/// A file beside the one that it is to become.
fn unnamed(path: &Path, end: &str) -> Result<NamedTempFile, Error> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".image-")
        .suffix(end)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|source| Error::Io { action: "write", path: path.into(), source })
}

fn name(file: NamedTempFile, path: &Path, force: bool) -> Result<(), Error> {
    let io = |source| Error::Io { action: "write", path: path.into(), source };
    file.as_file().sync_all().map_err(io)?;
    let named = if force { file.persist(path) } else { file.persist_noclobber(path) };
    named.map(drop).map_err(|error| io(error.error))
}
