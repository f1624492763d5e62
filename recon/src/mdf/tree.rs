//! Every group and dataset of a file by its path, for listings and for what a file has beyond the specification.

use serde::Serialize;

use super::File;
use super::stored::shape_name;
use crate::Error;

/// Groups within groups; MDF has three levels, custom ones a few more.
const DEPTH_MAX: usize = 16;
/// Objects of one file. MDF has under a hundred; hard links can make a small file look endless.
const OBJECTS_MAX: usize = 10_000;

/// One object of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its path.
    pub path: String,
    /// Shape and type, or what keeps it from being read; `group` for a group.
    pub what: String,
    /// How a dataset is stored; empty for a group.
    pub storage: String,
    /// How many attributes it has.
    pub attributes: usize,
    /// It is a dataset.
    pub is_dataset: bool,
}

/// A file's objects, and the groups whose members cannot be listed, each with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// Objects, parents before members.
    pub entries: Vec<Entry>,
    /// Groups that cannot be listed. Old-style groups with soft links are such.
    pub unlisted: Vec<(String, String)>,
}

impl Tree {
    /// Lists a file, up to 16 levels and 10 000 objects.
    #[must_use]
    pub fn of(file: &File) -> Self {
        let mut tree = Self::default();
        tree.walk(file, "", 0);
        tree
    }

    fn walk(&mut self, file: &File, path: &str, depth: usize) {
        if depth >= DEPTH_MAX {
            self.unlisted.push((path.to_owned(), format!("groups are listed {DEPTH_MAX} levels deep")));
            return;
        }
        let group = match file.group(path) {
            Ok(group) => group,
            Err(error) => return self.unlisted.push((path.to_owned(), cause(&error))),
        };
        let attributes = group.attrs().map_or(0, |all| all.len());
        let what = "group".to_owned();
        let storage = String::new();
        self.entries.push(Entry { path: path.to_owned(), what, storage, attributes, is_dataset: false });
        match group.datasets() {
            Ok(mut names) => {
                names.sort();
                self.datasets(file, path, &names);
            }
            Err(error) => self.unlisted.push((path.to_owned(), error.to_string())),
        }
        match group.groups() {
            Ok(mut names) => {
                names.sort();
                for name in names {
                    if self.is_full(path) {
                        return;
                    }
                    self.walk(file, &format!("{path}/{name}"), depth + 1);
                }
            }
            Err(error) => self.unlisted.push((path.to_owned(), error.to_string())),
        }
        self.unlisted.dedup();
    }

    fn datasets(&mut self, file: &File, group: &str, names: &[String]) {
        for name in names {
            if self.is_full(group) {
                return;
            }
            let path = format!("{group}/{name}");
            self.entries.push(match file.get(&path) {
                Ok(stored) => Entry {
                    what: format!("{}, {}", shape_name(stored.shape()), stored.kind().name()),
                    storage: stored.storage().name(),
                    attributes: stored.attributes().unwrap_or(0),
                    is_dataset: true,
                    path,
                },
                Err(error) => Entry {
                    what: cause(&error),
                    storage: String::new(),
                    attributes: 0,
                    is_dataset: true,
                    path,
                },
            });
        }
    }

    fn is_full(&mut self, path: &str) -> bool {
        let full = self.entries.len() >= OBJECTS_MAX;
        if full && self.unlisted.len() < OBJECTS_MAX {
            self.unlisted.push((path.to_owned(), format!("{OBJECTS_MAX} objects are listed")));
        }
        full
    }
}

/// The last cause of an error, or itself.
pub(super) fn cause(error: &Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
