//! Folders and links that packages ask for in tmpfiles.d(5), as far as they are part of a tree: what a boot would make in
//! `/var`, `/etc` and `/srv`. Those in `/run` and `/tmp` are the launch's; modes and owners a tree does not have.

use std::collections::BTreeMap;

use super::generate::own;
use super::merge::Merge;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Bytes of one configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Adds what is missing.
pub(crate) fn add(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for folder in ["usr/lib/tmpfiles.d", "etc/tmpfiles.d"] {
        let names = merge.names(folder).into_iter().filter(|name| name.ends_with(".conf"));
        files.extend(names.map(|name| (name.clone(), format!("{folder}/{name}"))));
    }
    for path in files.values() {
        let Some(Node::File { sha256, executable, size }) = merge.node(path).cloned() else { continue };
        if size > FILE_BYTES_MAX {
            continue;
        }
        let text = workspace.read(sha256, executable)?;
        for (place, node) in String::from_utf8_lossy(&text).lines().filter_map(parse) {
            let missing = merge.resolve(&place).is_ok_and(|at| !merge.tree.nodes.contains_key(&at));
            // Below what is a file in the tree nothing can be made; systemd says so and goes on, too.
            let below_folders = place
                .match_indices('/')
                .all(|(at, _)| matches!(merge.node(&place[..at]), None | Some(Node::Directory)));
            if missing && below_folders {
                merge.put_if_missing(&place, node).map_err(own)?;
            }
        }
    }
    Ok(())
}

/// Path and node of a line that concerns a tree.
fn parse(line: &str) -> Option<(String, Node)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kind, path, rest @ ..] = &words[..] else { return None };
    let place = path.strip_prefix('/')?.trim_end_matches('/');
    let in_tree = ["var/", "etc/", "srv/"].iter().any(|folder| place.starts_with(folder));
    let parts_fit = place.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !in_tree
        || !parts_fit
        || place.starts_with("var/tmp/")
        || path.contains(['%', '"', '\\', '*', '?', '['])
    {
        return None;
    }
    match kind.trim_end_matches(['+', '!', '-', '=', '~', '^', '$', '?']) {
        "d" | "D" | "v" | "q" | "Q" => Some((place.to_owned(), Node::Directory)),
        "L" => {
            let target = rest.get(4).filter(|target| !target.contains(['%', '"', '\\']))?;
            Some((place.to_owned(), Node::Link { target: (*target).to_owned() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_links_of_the_tree_are_taken() {
        let folder = Some(("var/lib/acme".to_owned(), Node::Directory));
        assert_eq!(parse("d /var/lib/acme 0755 root root -"), folder);
        assert_eq!(parse("d! /var/lib/acme/"), folder);
        let link = Node::Link { target: "../proc/self/mounts".into() };
        assert_eq!(parse("L+ /etc/mtab - - - - ../proc/self/mounts"), Some(("etc/mtab".into(), link)));
        for other in [
            "",
            "# d /var/x",
            "d /run/acme",
            "d /tmp/x",
            "f /var/lib/x",
            "d /var/../usr/x",
            "d /var/lib/%m",
            "d var/x",
            "L /etc/x",
            "z /var/log 0700",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
