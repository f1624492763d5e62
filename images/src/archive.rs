//! An image as one tar archive that is an OCI layout and what `docker save` writes at once: `skopeo` and `umoci` read
//! `index.json`, engines as old as Docker 20.10 read `manifest.json`, and both find the same blobs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use hatchway_envs::Progress;
use hatchway_envs::digest::Sha256;

use crate::Image;
use crate::blob::{self, Blob};
use crate::document::{self, BLOBS, Documents, LAYOUT};
use crate::error::Error;
use crate::layout::Written;
use crate::staging::Staging;
use crate::tar::{Kind, Tar};

const MODE: u32 = 0o644;

/// Writes an image as the archive `file`; one that is there is replaced when the new one is complete.
///
/// # Errors
/// A full disk. What was there is then as it was.
pub fn write(image: &Image, file: &Path, reference: &str, progress: &dyn Progress) -> Result<Written, Error> {
    let file = std::path::absolute(file).map_err(Error::io("find", file))?;
    let staging = Staging::new(file.parent().unwrap_or(&file))?;
    let folder = staging.path("blobs");
    fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
    let blobs = blob::pack(image, &folder, progress)?;
    let documents = Documents::new(image, &blobs)?;
    let staged = staging.path("archive");
    let failed = || Error::io("write", &staged);
    let target = File::create_new(&staged).map_err(Error::io("create", &staged))?;
    let to = BufWriter::with_capacity(256 << 10, target);
    let to = members(to, image, &documents, &blobs, reference, &staged, |blob, to| {
        let path = folder.join(blob.sha256.hex());
        let mut content = File::open(&path).map_err(Error::io("open", &path))?;
        std::io::copy(&mut content, to).map_err(failed()).map(drop)?;
        // It is in the archive now: both at once would take twice the room.
        fs::remove_file(&path).map_err(Error::io("remove", &path))
    })?;
    let target = to.into_inner().map_err(|error| failed()(error.into_error()))?;
    target.sync_all().map_err(Error::io("sync", &staged))?;
    fs::rename(&staged, &file).map_err(Error::io("rename", &staged))?;
    crate::layout::sync(file.parent().unwrap_or(&file))?;
    Ok(Written { manifest: documents.manifest_sha256, config: documents.config_sha256, blobs, shared: 0 })
}

/// Writes the members of such an archive; `content` writes a blob's.
pub(crate) fn members<W: Write>(
    to: W,
    image: &Image,
    documents: &Documents,
    blobs: &[Blob],
    reference: &str,
    name: &Path,
    mut content: impl FnMut(&Blob, &mut dyn Write) -> Result<(), Error>,
) -> Result<W, Error> {
    let failed = |error| Error::io("write", name)(error);
    let index = document::index(vec![documents.entry(&image.about, reference, true)?])?;
    let list = documents.docker_list(&image.about, blobs)?;
    let mut tar = Tar::new(to);
    let small: [(&str, &[u8]); 3] =
        [(LAYOUT.0, LAYOUT.1.as_bytes()), ("index.json", &index), ("manifest.json", &list)];
    for (path, mut bytes) in small {
        let kind = Kind::File { size: bytes.len() as u64 };
        tar.add(path, MODE, kind, &mut bytes).map_err(failed)?;
    }
    for path in ["blobs", BLOBS] {
        tar.add(path, 0o755, Kind::Directory, &mut std::io::empty()).map_err(failed)?;
    }
    let path = |sha256: Sha256| format!("{BLOBS}/{sha256}");
    let own =
        [(documents.config_sha256, &documents.config), (documents.manifest_sha256, &documents.manifest)];
    for (sha256, bytes) in own {
        let kind = Kind::File { size: bytes.len() as u64 };
        tar.add(&path(sha256), MODE, kind, &mut bytes.as_slice()).map_err(failed)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    for blob in blobs.iter().filter(|blob| seen.insert(blob.sha256)) {
        tar.add_written(&path(blob.sha256), blob.size, |to| content(blob, to), failed)?;
    }
    tar.finish().map_err(failed)
}
