//! What an installer wrote, as a tar archive: how it is written, read again and put into a tree.
//!
//! What it removed from the tree is an empty file `.wh.NAME`, a whiteout as the layers of OCI images have it (OCI image
//! specification, "Representing Changes").

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::capture::Captured;
use super::merge::Merge;
use super::unpack::CONTROL;
use crate::digest::{HashingWriter, Sha256};
use crate::error::Error;
use crate::store::manifest::{Manifest, Node};
use crate::store::{Store, Workspace};

/// What the name of a whiteout begins with.
const WHITEOUT: &str = ".wh.";
/// The modification time of all that is in the archive, in seconds since the epoch: that of everything in the store.
const MTIME_S: u64 = 1;

/// The path that a whiteout removes, if `path` is one.
pub(super) fn whiteout(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = name.strip_prefix(WHITEOUT)?;
    Some(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") })
}

/// What was captured as one manifest, whiteouts among its files.
///
/// # Errors
/// A file whose name is that of a whiteout.
pub(super) fn manifest(captured: &Captured) -> Result<Manifest, Error> {
    let mut manifest = Manifest::default();
    for (path, node) in &captured.written {
        if whiteout(path).is_some() {
            let reason = format!("`/{path}` is named like a whiteout");
            return Err(Error::BadLayout { package: "what the installer wrote".into(), reason });
        }
        manifest.insert(path, node.clone());
    }
    for path in &captured.removed {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // What lay in a folder that is gone, or that is no folder any more, is gone with it.
        let mut above = folder.match_indices('/').map(|(slash, _)| &folder[..slash]).chain([folder]);
        let implied = |above: &str| {
            let written = captured.written.get(above);
            captured.removed.contains(above) || written.is_some_and(|node| *node != Node::Directory)
        };
        if !above.any(implied) {
            let separator = if folder.is_empty() { "" } else { "/" };
            let path = format!("{folder}{separator}{WHITEOUT}{name}");
            manifest.insert(&path, Node::File { sha256: Sha256::of(b""), size: 0, executable: false });
        }
    }
    Ok(manifest)
}

/// The paths in which two manifests differ, whiteouts as the paths they remove.
pub(super) fn differences(one: &Manifest, other: &Manifest) -> Vec<String> {
    let paths: BTreeSet<&String> = one.nodes.keys().chain(other.nodes.keys()).collect();
    let differs = paths.into_iter().filter(|path| one.nodes.get(*path) != other.nodes.get(*path));
    differs.map(|path| format!("/{}", whiteout(path).unwrap_or_else(|| path.clone()))).collect()
}

/// Writes the archive of a manifest among the store's artifacts; gives its digest and size. The same manifest gives the
/// same bytes.
pub(super) fn store(
    store: &Store,
    workspace: &Workspace<'_>,
    manifest: &Manifest,
) -> Result<(Sha256, u64), Error> {
    let temporary = workspace.scratch("captured")?.join("tar");
    let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    let mut archive = tar::Builder::new(HashingWriter::new(BufWriter::new(file)));
    for (path, node) in &manifest.nodes {
        append(workspace, &mut archive, path, node)?;
    }
    let failed = || Error::io("write", &temporary);
    let (file, sha256, size) = archive.into_inner().map_err(failed())?.finish();
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME_S);
    file.set_permissions(fs::Permissions::from_mode(0o444))
        .and_then(|()| file.set_modified(time))
        .and_then(|()| file.sync_all())
        .map_err(failed())?;
    let place = store.artifact(sha256);
    fs::rename(&temporary, &place).map_err(Error::io("rename", &temporary))?;
    sync_folder(&place)?;
    Ok((sha256, size))
}

/// Makes a new name durable.
pub(super) fn sync_folder(of: &Path) -> Result<(), Error> {
    let folder = of.parent().unwrap_or(of);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", folder))
}

fn append(
    workspace: &Workspace<'_>,
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    node: &Node,
) -> Result<(), Error> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME_S);
    header.set_size(0);
    header.set_mode(0o755);
    let written = match node {
        Node::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, path, std::io::empty())
        }
        Node::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            // Only the longer way changes the text: it takes blank parts out.
            match header.set_link_name_literal(target) {
                Ok(()) => archive.append_data(&mut header, path, std::io::empty()),
                Err(_) => archive.append_link(&mut header, path, target),
            }
        }
        Node::File { size: 0, executable, .. } => {
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            archive.append_data(&mut header, path, std::io::empty())
        }
        Node::File { sha256, size, executable } => {
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            header.set_size(*size);
            archive.append_data(&mut header, path, workspace.open(*sha256, *executable)?)
        }
    };
    written.map_err(Error::io("write", path))
}

/// Puts what was captured into the tree: what was removed goes first.
pub(super) fn apply(workspace: &Workspace<'_>, manifest: &Manifest, merge: &mut Merge) -> Result<(), Error> {
    let list = manifest.nodes.get(&format!("{CONTROL}/removed"));
    if let Some(Node::File { sha256, executable, .. }) = list {
        let list = String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned();
        for path in list.lines() {
            merge.remove(path);
        }
    }
    let own = |path: &str| path == CONTROL || path.strip_prefix(CONTROL).is_some_and(|r| r.starts_with('/'));
    for (path, node) in manifest.nodes.iter().filter(|(path, _)| !own(path)) {
        let there = merge.tree.nodes.get(path);
        if *node == Node::Directory && there == Some(node) {
            continue;
        }
        merge.remove(path);
        merge.tree.insert(path, node.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn file(content: &str) -> Node {
        Node::File { sha256: Sha256::of(content.as_bytes()), size: content.len() as u64, executable: false }
    }

    #[test]
    fn what_is_removed_becomes_a_whiteout_where_nothing_else_says_it() {
        let captured = Captured {
            written: BTreeMap::from([("a".to_owned(), file("x")), ("new/x".to_owned(), file("y"))]),
            removed: ["a/below", "gone", "gone/too", "top/file"].map(str::to_owned).into(),
            dropped: Vec::new(),
        };
        let manifest = manifest(&captured).unwrap();
        let paths: Vec<&str> = manifest.nodes.keys().map(String::as_str).collect();
        assert_eq!(paths, [".wh.gone", "a", "new", "new/x", "top", "top/.wh.file"]);
        assert_eq!(whiteout("top/.wh.file").as_deref(), Some("top/file"));
        assert_eq!(whiteout(".wh.gone").as_deref(), Some("gone"));
        assert_eq!(whiteout("top/file"), None);
    }

    #[test]
    fn an_installer_cannot_name_a_file_like_a_whiteout() {
        let written = BTreeMap::from([("etc/.wh.passwd".to_owned(), file("x"))]);
        assert!(manifest(&Captured { written, ..Captured::default() }).is_err());
    }

    #[test]
    fn differences_name_what_people_see() {
        let with = |nodes: &[(&str, Node)]| Manifest {
            nodes: nodes.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect(),
        };
        let one = with(&[("a", file("1")), ("b", file("1")), ("c/.wh.d", file(""))]);
        let two = with(&[("a", file("2")), ("b", file("1"))]);
        assert_eq!(differences(&one, &two), ["/a", "/c/d"]);
    }
}
