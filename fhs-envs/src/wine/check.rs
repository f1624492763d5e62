//! What a Windows program is linked with, held against what the Wine of its tree has, before it is started.
//!
//! Wine ends a program whose library is missing with code 53 and says nothing with its messages off; one that calls a
//! function that is not there it ends in the middle. Both stand in the files: imports of the program and of the libraries
//! beside it, exports of Wine's. What Wine exports may still be a stub, which only a call shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use hatchway_inspect::{WindowsLinkage, windows_api_sets};
use serde::{Deserialize, Serialize};

use super::PREFIX;
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Store;
use crate::store::manifest::{Manifest, Node};

/// A program or library larger than this is not read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Files looked at for one program.
const FILES_MAX: usize = 4096;
/// The map of API sets among Wine's libraries.
const API_SETS: &str = "apisetschema.dll";

/// What is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Libraries, each with a file that is linked with it: the program does not start.
    pub libraries: Vec<(String, String)>,
    /// Functions: library, function, and the file that calls it. The program ends when it does.
    pub functions: Vec<(String, String, String)>,
    /// It is managed code, for which there is no runtime.
    pub dotnet: bool,
    /// It is for 32 bit, and the prefix has no such part.
    pub no_32: bool,
}

/// Checks a program of a tree; `None` where it is not in the tree, or no program that Windows loads.
///
/// # Errors
/// When the tree cannot be read.
pub fn check(store: &Store, tree: Sha256, program: &str) -> Result<Option<Findings>, Error> {
    let manifest = store.manifest(tree)?;
    let view = View { store, manifest: &manifest };
    let Some(first) = view.linkage(program)? else { return Ok(None) };
    let folder = program.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let system = if first.bits == 64 { "system32" } else { "syswow64" };
    let system = format!("{PREFIX}/drive_c/windows/{system}");
    let mut findings = Findings { dotnet: first.dotnet, ..Findings::default() };
    let (own, windows) = (view.names(&folder), view.names(&system));
    if windows.is_empty() {
        findings.no_32 = first.bits == 32;
        return Ok(Some(findings));
    }
    let sets = match windows.get(API_SETS) {
        Some(path) => windows_api_sets(&view.read(path)?.unwrap_or_default()),
        None => BTreeMap::new(),
    };
    let mut known: BTreeMap<String, Option<WindowsLinkage>> = BTreeMap::new();
    let mut queue = vec![(program.to_owned(), first)];
    let mut seen = BTreeSet::from([program.to_owned()]);
    while let Some((by, linkage)) = queue.pop() {
        let by = by.rsplit('/').next().unwrap_or(&by).to_owned();
        for import in &linkage.imports {
            let host = behind(&sets, &import.library);
            let place = own.get(&host).or_else(|| windows.get(&host));
            let Some(path) = place else {
                let missing = (import.library.clone(), by.clone());
                if !import.delayed && !findings.libraries.contains(&missing) {
                    findings.libraries.push(missing);
                }
                continue;
            };
            if !known.contains_key(path) {
                known.insert(path.clone(), view.linkage(path)?);
            }
            // What cannot be read is not judged.
            let Some(Some(library)) = known.get(path) else { continue };
            let missing = import.functions.iter().filter(|function| !library.gives(function));
            let told = missing.map(|function| (host.clone(), function.to_string(), by.clone()));
            findings.functions.extend(told);
            if own.contains_key(&host) && seen.len() < FILES_MAX && seen.insert(path.clone()) {
                queue.push((path.clone(), library.clone()));
            }
        }
    }
    findings.libraries.sort();
    findings.functions.sort();
    findings.functions.dedup();
    Ok(Some(findings))
}

/// The library that a name stands for: of an API set the one behind it; one without an ending ends in `.dll`.
fn behind(sets: &BTreeMap<String, String>, name: &str) -> String {
    let stem = name.strip_suffix(".dll").unwrap_or(name);
    let set = stem.rsplit_once('-').and_then(|(set, _)| sets.get(set));
    match set {
        Some(host) => host.clone(),
        None if name.contains('.') => name.to_owned(),
        None => format!("{name}.dll"),
    }
}

struct View<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
}

impl View<'_> {
    /// The files of a folder by their names in lower case, as Windows looks for them.
    fn names(&self, folder: &str) -> BTreeMap<String, String> {
        let Ok(place) = self.manifest.resolve(folder) else { return BTreeMap::new() };
        let prefix = format!("{place}/");
        let nodes = self.manifest.nodes.range(prefix.clone()..);
        let below = nodes.map(|(path, _)| path).take_while(|path| path.starts_with(&prefix));
        let direct = below.filter(|path| !path[prefix.len()..].contains('/'));
        direct.map(|path| (path[prefix.len()..].to_ascii_lowercase(), format!("/{path}"))).collect()
    }

    fn linkage(&self, path: &str) -> Result<Option<WindowsLinkage>, Error> {
        Ok(self.read(path)?.and_then(|bytes| WindowsLinkage::read(&bytes)))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let place = self.manifest.resolve(path).ok();
        let node = place.and_then(|place| self.manifest.nodes.get(&place));
        let Some(Node::File { sha256, size, executable }) = node.filter(|node| is_small(node)) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(*size).unwrap_or(0));
        let file = self.store.open_object(*sha256, *executable)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Ok(Some(bytes))
    }
}

fn is_small(node: &Node) -> bool {
    matches!(node, Node::File { size, .. } if *size <= FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_set_is_the_library_behind_it_in_any_of_its_versions() {
        let sets = BTreeMap::from([("api-ms-win-core-file-l1-2".to_owned(), "kernelbase.dll".to_owned())]);
        assert_eq!(behind(&sets, "api-ms-win-core-file-l1-2-4.dll"), "kernelbase.dll");
        assert_eq!(behind(&sets, "api-ms-win-core-file-l9-9-9.dll"), "api-ms-win-core-file-l9-9-9.dll");
        assert_eq!(behind(&sets, "kernel32"), "kernel32.dll");
        assert_eq!(behind(&sets, "odd-name.dll"), "odd-name.dll");
    }
}
