//! The recipe's patches: beside it when it is locked, in the store from then on.

use std::path::{Path, PathBuf};

use hatchway_envs::build::patch::PATCH_BYTES_MAX;
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, LockedPatch};

use crate::context::Context;
use crate::error::Error;
use crate::recipe::Located;

/// Takes the patches into the store; gives them as the lock has them.
///
/// # Errors
/// When one is missing or too large to be one.
pub(crate) fn gather(context: &Context, located: &Located) -> Result<Vec<LockedPatch>, Error> {
    let patches = located.recipe.environment.patch.iter();
    let one = |(at, file): (&crate::recipe::Inside, &toml::Spanned<String>)| {
        let file = file.get_ref().clone();
        let beside = find(located, &file)?;
        let (sha256, _) = context.store.import(&beside, None)?;
        Ok(LockedPatch { at: at.as_str().to_owned(), file, sha256 })
    };
    patches.map(one).collect()
}

/// Sees that the store has the patches of a lock.
///
/// # Errors
/// When it has one no more, and there is another beside the recipe, or none.
pub(crate) fn provide(context: &Context, located: &Located, lock: &Lock) -> Result<(), Error> {
    for patch in lock.patches.iter().filter(|patch| !context.store.artifact(patch.sha256).exists()) {
        context.store.import(&find(located, &patch.file)?, Some(patch.sha256))?;
    }
    Ok(())
}

/// Whether a patch beside the recipe is another one than was locked.
///
/// # Errors
/// When one that is there cannot be read.
pub(crate) fn differ(located: &Located, lock: &Lock) -> Result<bool, Error> {
    for patch in &lock.patches {
        let path = located.folder().join(&patch.file);
        match Sha256::of_file(&path) {
            Ok((found, _)) if found != patch.sha256 => return Ok(true),
            Ok(_) => {}
            // The store has it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
    }
    Ok(false)
}

fn find(located: &Located, file: &str) -> Result<PathBuf, Error> {
    let path = located.folder().join(file);
    let missing = || Error::NoPatch { file: file.to_owned(), folder: located.folder().to_owned() };
    let metadata = std::fs::metadata(&path).map_err(|_| missing())?;
    if !metadata.is_file() {
        return Err(missing());
    }
    if metadata.len() > PATCH_BYTES_MAX {
        return Err(too_large(&path, metadata.len()));
    }
    Ok(path)
}

fn too_large(path: &Path, size: u64) -> Error {
    Error::Usage(format!("`{}` has {size} bytes: a patch may have {PATCH_BYTES_MAX}", path.display()))
}
