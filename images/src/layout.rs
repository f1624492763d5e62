//! An image into an OCI layout in a folder (OCI image specification, "Image Layout").
//!
//! A new layout appears by one rename. Into one that is there blobs are renamed first and the index last, so whoever reads it
//! sees the image as it was or as it is; blobs that no index names are what an interrupted export leaves at worst.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use hatchway_envs::Progress;
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::write_atomically;
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::Image;
use crate::blob::{self, Blob};
use crate::document::{self, BLOBS, Documents, LAYOUT, REFERENCE};
use crate::error::Error;
use crate::staging::Staging;

const INDEX: &str = "index.json";
/// Bytes of an index that is read: thousands of images.
const INDEX_BYTES_MAX: u64 = 4 << 20;

/// An image that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The digest of its manifest.
    pub manifest: Sha256,
    /// The digest of its configuration.
    pub config: Sha256,
    /// Its layers, the lowest first.
    pub blobs: Vec<Blob>,
    /// How many of its layers were there already.
    pub shared: usize,
}

/// Writes an image into the layout `folder` under a name, where it takes the place of one of the same name.
///
/// # Errors
/// [`Error::NoLayout`], [`Error::Layout`], a full disk. What was there is then as it was.
pub fn write(
    image: &Image,
    folder: &Path,
    reference: &str,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    let there = folder.join(LAYOUT.0).exists();
    if there {
        check(&folder)?;
    } else if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Error::NoLayout(folder));
    }
    let parent = folder.parent().unwrap_or(&folder);
    // On the file system that it will be renamed on: a layout may be a mount.
    let staging = Staging::new(if there { &folder } else { parent })?;
    let staged = staging.path("layout");
    let blobs_folder = staged.join(BLOBS);
    fs::create_dir_all(&blobs_folder).map_err(Error::io("create", &blobs_folder))?;
    let blobs = blob::pack(image, &blobs_folder, progress)?;
    let documents = Documents::new(image, &blobs)?;
    put(&blobs_folder.join(documents.config_sha256.hex()), &documents.config)?;
    put(&blobs_folder.join(documents.manifest_sha256.hex()), &documents.manifest)?;
    let entry = documents.entry(&image.about, reference, false)?;
    let mut written =
        Written { manifest: documents.manifest_sha256, config: documents.config_sha256, blobs, shared: 0 };
    if there {
        written.shared = add(&folder, &blobs_folder, &written.blobs, entry, reference)?;
    } else {
        put(&staged.join(INDEX), &document::index(vec![entry])?)?;
        put(&staged.join(LAYOUT.0), LAYOUT.1.as_bytes())?;
        sync(&staged)?;
        fs::rename(&staged, &folder).map_err(Error::io("rename", &staged))?;
        sync(parent)?;
    }
    Ok(written)
}

/// Whether this version can add to a layout.
fn check(folder: &Path) -> Result<(), Error> {
    let path = folder.join(LAYOUT.0);
    let text: Value = read_json(folder, &path)?;
    match text["imageLayoutVersion"].as_str() {
        Some(version) if version.starts_with("1.") => Ok(()),
        version => {
            let reason = format!("its version is {}", version.unwrap_or("not said"));
            Err(Error::Layout { path: folder.to_owned(), reason })
        }
    }
}

/// Moves blobs into a layout and names them in its index; gives how many of the layers were there.
fn add(folder: &Path, from: &Path, blobs: &[Blob], entry: Value, reference: &str) -> Result<usize, Error> {
    let alone = File::open(folder).map_err(Error::io("open", folder))?;
    rustix::fs::flock(&alone, FlockOperation::LockExclusive)
        .map_err(|errno| Error::io("lock", folder)(errno.into()))?;
    let place = folder.join(BLOBS);
    fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
    let is_there = |blob: &&Blob| {
        fs::metadata(place.join(blob.sha256.hex())).is_ok_and(|there| there.len() == blob.size)
    };
    let shared = blobs.iter().filter(is_there).count();
    for file in fs::read_dir(from).map_err(Error::io("read", from))? {
        let file = file.map_err(Error::io("read", from))?;
        // Over one that is there, too: ours is what its name says.
        fs::rename(file.path(), place.join(file.file_name())).map_err(Error::io("rename", file.path()))?;
    }
    sync(folder)?;
    let index_path = folder.join(INDEX);
    let mut index: Value = if index_path.exists() {
        read_json(folder, &index_path)?
    } else {
        serde_json::json!({ "schemaVersion": 2, "manifests": [] })
    };
    let Some(entries) = index["manifests"].as_array_mut() else {
        let reason = format!("`{INDEX}` has no list of images");
        return Err(Error::Layout { path: folder.to_owned(), reason });
    };
    let same = |there: &Value| there["annotations"][REFERENCE] == reference;
    let at = entries.iter().position(same).unwrap_or(entries.len());
    entries.retain(|there| !same(there));
    entries.insert(at, entry);
    write_atomically(&index_path, &document::canonical("the index", &index)?)?;
    Ok(shared)
}

fn read_json(folder: &Path, path: &Path) -> Result<Value, Error> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(INDEX_BYTES_MAX).read_to_end(&mut text).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Layout {
        path: folder.to_owned(),
        reason: format!("`{}` cannot be read: {error}", path.file_name().unwrap_or_default().display()),
    })
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}

/// Makes all that was written to a folder's file system durable.
pub(crate) fn sync(folder: &Path) -> Result<(), Error> {
    let open = File::open(folder).map_err(Error::io("open", folder))?;
    rustix::fs::syncfs(&open).map_err(|errno| Error::io("sync", folder)(errno.into()))
}
