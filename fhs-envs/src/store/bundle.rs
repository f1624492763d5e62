//! Files that somebody brought: folders that have them by their digests, as a store has its artifacts. A stick with a copy of
//! another machine's `artifacts` is one. Nothing in it is trusted: each file is what its name says, or is passed over.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::seal;
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::Wanted;
use crate::progress::Progress;

/// Where in a bundle, or in a store, files are. A folder without it has them itself.
const ARTIFACTS: &str = "artifacts";

/// Takes a file from the first bundle that has it; false where none has.
///
/// # Errors
/// When the store's side cannot be written.
pub(super) fn take(
    bundles: &[PathBuf],
    wanted: &Wanted,
    partial: &Path,
    target: &Path,
    progress: &dyn Progress,
) -> Result<bool, Error> {
    for bundle in bundles {
        let Some(mut from) = open(bundle, wanted) else { continue };
        // What a download left is another beginning.
        let mut to = File::create(partial).map_err(Error::io("create", partial))?;
        let copied = io::copy(&mut from, &mut to).map_err(Error::io("write", partial))?;
        let right = Sha256::of_file(partial).is_ok_and(|(found, _)| found == wanted.sha256);
        if !right {
            fs::remove_file(partial).map_err(Error::io("remove", partial))?;
            progress.note(&format!(
                "{} in `{}` is damaged, and is passed over",
                wanted.what,
                bundle.display()
            ));
            continue;
        }
        seal(&to, false).and_then(|()| to.sync_all()).map_err(Error::io("sync", partial))?;
        fs::rename(partial, target).map_err(Error::io("rename", partial))?;
        progress.advance(copied);
        return Ok(true);
    }
    Ok(false)
}

/// A regular file of the right size; no link is followed, since a stick's may lead anywhere.
fn open(bundle: &Path, wanted: &Wanted) -> Option<impl Read> {
    let name = wanted.sha256.hex();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = [bundle.join(ARTIFACTS).join(&name), bundle.join(&name)]
        .iter()
        .find_map(|path| openat(CWD, path, flags, Mode::empty()).ok().map(File::from))?;
    let metadata = file.metadata().ok()?;
    let fits = metadata.is_file() && wanted.size.is_none_or(|size| size == metadata.len());
    // What grows meanwhile is no longer that file.
    fits.then(|| file.take(metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn only_what_is_what_its_name_says_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let wanted = |size| Wanted {
            urls: Vec::new(),
            what: "a file".into(),
            sha256: Sha256::of(b"content"),
            size: Some(size),
        };
        let name = Sha256::of(b"content").hex();
        for bundle in ["damaged", "linked", "folder", "right"] {
            fs::create_dir_all(at(bundle).join("artifacts")).unwrap();
        }
        fs::write(at("damaged").join("artifacts").join(&name), b"CONTENT").unwrap();
        fs::write(at("elsewhere"), b"content").unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("linked").join("artifacts").join(&name)).unwrap();
        fs::create_dir(at("folder").join("artifacts").join(&name)).unwrap();
        let (partial, target) = (at("partial"), at("target"));
        let bad: Vec<PathBuf> = ["missing", "damaged", "linked", "folder"].map(at).into();
        assert!(!take(&bad, &wanted(7), &partial, &target, &Quiet).unwrap());
        assert!(!partial.exists() && !target.exists());
        fs::write(at("right").join(&name), b"content").unwrap();
        let all: Vec<PathBuf> = bad.into_iter().chain([at("right")]).collect();
        assert!(!take(&all, &wanted(8), &partial, &target, &Quiet).unwrap(), "another size");
        assert!(take(&all, &wanted(7), &partial, &target, &Quiet).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"content");
        assert!(fs::metadata(&target).unwrap().permissions().readonly());
    }
}
