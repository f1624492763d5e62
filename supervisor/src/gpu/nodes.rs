//! Device nodes of GPUs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Folders with nodes, and the beginnings of the names in each. `nvidia0` and its like, with what belongs to all of them;
/// the rights to parts of a GPU; the nodes of the kernel's own drivers.
const NODES: [(&str, &[&str]); 4] = [
    ("/dev", &["nvidia"]),
    ("/dev/nvidia-caps", &["nvidia-cap"]),
    ("/dev/nvidia-caps-imex-channels", &["channel"]),
    ("/dev/dri", &["renderD", "card"]),
];
/// More than that no machine has.
const NODES_MAX: usize = 256;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Its group.
    pub gid: u32,
}

/// Those of this host. A driver that lives in a container has none of its own.
#[must_use]
pub fn nodes() -> Vec<Node> {
    let mut found = Vec::new();
    for (folder, prefixes) in NODES {
        let Ok(entries) = fs::read_dir(Path::new(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // The metadata of the entry itself: a link is no node.
            let Ok(metadata) = entry.metadata() else { continue };
            if prefixes.iter().any(|prefix| name.starts_with(prefix))
                && metadata.file_type().is_char_device()
                && found.len() < NODES_MAX
            {
                let (path, mode, gid) = (entry.path(), metadata.mode() & 0o7777, metadata.gid());
                found.push(Node { path, mode, gid });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
