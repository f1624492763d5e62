//! Names of one file that wait for its content.

use std::collections::{BTreeMap, HashMap};

use super::super::{Entry, MemberPath};

/// Memory for names that wait; the largest groups in packages have some thousand.
pub(super) const MEMORY: u64 = 64 << 20;
/// Memory of a waiting entry beside its name.
const OVERHEAD: u64 = 256;

/// A file's identity in the archive: inode and device.
pub(super) type Group = (u64, u64);

/// Names of one file, in order.
pub(super) type Pending = Vec<Entry>;

#[derive(Debug, Default)]
pub(super) struct Links {
    /// Waiting names by the order in which their groups began, so that the rest comes in a stated order.
    waiting: BTreeMap<u64, Pending>,
    order: HashMap<Group, u64>,
    files: HashMap<Group, MemberPath>,
    begun: u64,
    memory: u64,
}

impl Links {
    /// The name under which this group's content was handed out.
    pub(super) fn file(&self, group: Group) -> Option<&MemberPath> {
        self.files.get(&group)
    }

    pub(super) fn wait(&mut self, group: Group, entry: Entry) -> Result<(), String> {
        self.spend(&entry.path)?;
        let begun = self.begun;
        let place = *self.order.entry(group).or_insert(begun);
        if place == begun {
            self.begun = self.begun.saturating_add(1);
        }
        self.waiting.entry(place).or_default().push(entry);
        Ok(())
    }

    /// Content has come: remembers its name, and gives the names that waited for it.
    pub(super) fn deliver(&mut self, group: Group, file: &MemberPath) -> Pending {
        // Without room to remember it, later names of the file are files of their own.
        if self.spend(file).is_ok() {
            self.files.insert(group, file.clone());
        }
        self.order.remove(&group).and_then(|place| self.waiting.remove(&place)).unwrap_or_default()
    }

    /// Groups whose content never came.
    pub(super) fn rest(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    fn spend(&mut self, path: &MemberPath) -> Result<(), String> {
        self.memory = self.memory.saturating_add(path.as_str().len() as u64 + OVERHEAD);
        if self.memory > MEMORY {
            return Err("memory for the names of hard links".to_owned());
        }
        Ok(())
    }
}
