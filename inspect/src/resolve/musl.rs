//! The places musl's loader looks into (`load_library` in its `ldso/dynlink.c`).
//!
//! `LD_LIBRARY_PATH` comes first; then the search paths of the object and of all that led to it, `RUNPATH` before
//! `RPATH` and both inherited; then the directories of `/etc/ld-musl-<machine>.path`. The first file of that name is it:
//! nothing is passed over. Of the tokens it knows `$ORIGIN` only, and it looks at no symbol versions.

use super::path::{PATH_BYTES, Tokens, file_name, join, parent};
use super::search::{Outcome, Places};
use super::{Edge, Loaded, Root, Rule};

/// Where musl looks if no file says otherwise.
const DIRECTORIES: &str = "/lib:/usr/local/lib:/usr/lib";
/// Directories of the path file.
const DIRECTORIES_MAX: usize = 256;
/// Libraries that are part of the loader itself: `lib`, one of these, a dot.
const OWN: [&str; 7] = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];

/// Whether an interpreter is musl's.
pub(super) fn is_loader(interpreter: &str) -> bool {
    file_name(interpreter).starts_with("ld-musl-")
}

/// Whether a name means the loader itself.
pub(super) fn is_own_name(name: &str) -> bool {
    let Some((stem, _)) = name.strip_prefix("lib").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    OWN.contains(&stem)
}

pub(super) fn find(
    places: &mut Places<'_>,
    objects: &[Loaded],
    edge: &mut Edge,
    name: &str,
    interpreter: &str,
) -> Outcome {
    let found = if name.contains('/') {
        places.open_path(edge, name)
    } else {
        places
            .by_library_path(edge, name)
            .or_else(|| by_search_paths(places, objects, edge, name))
            .or_else(|| by_path_file(places, edge, name, interpreter))
    };
    found.unwrap_or(Outcome::Absent)
}

fn by_search_paths(
    places: &mut Places<'_>,
    objects: &[Loaded],
    edge: &mut Edge,
    name: &str,
) -> Option<Outcome> {
    let mut at = Some(edge.wanted_by);
    while let Some((index, ancestor)) = at.and_then(|index| Some((index, objects.get(index)?))) {
        let runpath = ancestor.object.runpath.as_ref();
        let entries = runpath.or(ancestor.object.rpath.as_ref());
        for entry in entries.into_iter().flatten().filter(|entry| !entry.is_empty()) {
            let Some(directory) = expand(entry, ancestor).and_then(|path| places.absolute(&path)) else {
                continue;
            };
            let of = (index != edge.wanted_by).then(|| ancestor.path.clone());
            let rule = match (runpath, of) {
                (Some(_), None) => Rule::Runpath(entry.clone()),
                (Some(_), Some(of)) => Rule::Runpath(format!("{entry} of {of}")),
                (None, of) => Rule::Rpath { entry: entry.clone(), of },
            };
            if let Some(outcome) = first(places, edge, &directory, name, &rule) {
                return Some(outcome);
            }
        }
        at = ancestor.loader.filter(|&loader| loader < index);
    }
    None
}

/// An entry with any other token is not used.
fn expand(entry: &str, owner: &Loaded) -> Option<String> {
    let tokens = Tokens { origin: parent(&owner.path), lib: "$", platform: "$" };
    tokens.expand(entry).filter(|path| !path.contains('$') && path.len() <= PATH_BYTES)
}

fn by_path_file(places: &mut Places<'_>, edge: &mut Edge, name: &str, interpreter: &str) -> Option<Outcome> {
    for directory in directories(places.root, interpreter) {
        if let Some(outcome) = first(places, edge, &directory, name, &Rule::Configured) {
            return Some(outcome);
        }
    }
    None
}

/// The file lies beside the directory the loader is in: `/lib/ld-musl-x86_64.so.1` reads `/etc/ld-musl-x86_64.path`.
fn directories(root: &dyn Root, interpreter: &str) -> Vec<String> {
    let machine = file_name(interpreter).strip_prefix("ld-musl-").and_then(|rest| rest.split('.').next());
    let prefix = parent(parent(interpreter));
    let file = join(prefix, &format!("etc/ld-musl-{}.path", machine.unwrap_or_default()));
    let text = root.text(&file).unwrap_or_else(|| DIRECTORIES.to_owned());
    text.split([':', '\n'])
        .filter(|directory| directory.starts_with('/'))
        .take(DIRECTORIES_MAX)
        .map(str::to_owned)
        .collect()
}

/// A file of another word size or machine ends the search as a damaged one does.
fn first(
    places: &mut Places<'_>,
    edge: &mut Edge,
    directory: &str,
    name: &str,
    rule: &Rule,
) -> Option<Outcome> {
    let before = edge.passed.len();
    let outcome = places.open(edge, directory, name, rule);
    if outcome.is_none() && edge.passed.len() > before {
        return edge.passed.pop().map(|passed| Outcome::Refused(passed.path, passed.refusal));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_loader("/lib/ld-musl-x86_64.so.1") && !is_loader("/lib64/ld-linux-x86-64.so.2"));
        assert!(is_own_name("libc.so") && is_own_name("libm.so.6"));
        assert!(!is_own_name("libcap.so.2") && !is_own_name("m.so") && !is_own_name("libc"));
    }
}
