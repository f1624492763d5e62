//! What a power cut may leave of a folder: a model of names and contents that knows what was synced, played from a log of
//! system calls.
//!
//! The model promises less than ext4 does: a file's sync does not make its name durable, a folder's sync makes its names
//! durable and nothing below them, and of what was not synced anything may be lost or torn, each for itself.

pub mod log;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// A file, a folder or a link, by number.
pub type Id = usize;

/// What has a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Inode {
    /// Names.
    Folder {
        /// By name.
        names: BTreeMap<String, Id>,
        /// Permissions.
        mode: u32,
    },
    /// Bytes.
    File {
        /// The content.
        bytes: Vec<u8>,
        /// Permissions.
        mode: u32,
        /// Seconds since the epoch, where somebody has set them.
        time: Option<u64>,
    },
    /// A symbolic link, which is written together with its name.
    Link(String),
}

/// One change.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new inode under a name.
    Make(Id, String, Id, Inode),
    /// Another name.
    Name(Id, String, Id),
    /// A name less.
    Remove(Id, String),
    /// A name moves, atomically as far as one folder goes.
    Rename(Id, String, Id, String),
    /// Bytes at an offset.
    Write(Id, usize, Vec<u8>),
    /// Another length.
    Truncate(Id, usize),
    /// Permissions.
    Mode(Id, u32),
    /// Time of change.
    Time(Id, u64),
    /// One inode becomes durable: a file's content, or a folder's names.
    Sync(Id),
    /// Everything becomes durable.
    SyncAll,
}

/// Inodes by number; 0 is the folder itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World(pub BTreeMap<Id, Inode>);

/// What a power cut does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is gone, names and contents.
    All,
    /// Names are there, contents are empty.
    Contents,
    /// Names are there, of contents the first half; the rest reads as zeros.
    Torn,
    /// Each name and each content is lost or torn or not, by the numbers that this one begins.
    Any(u64),
    /// Nothing: the program was ended, not the machine.
    Nothing,
}

impl World {
    /// The folder as it is on disk, all of it durable.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let mut world = Self(BTreeMap::new());
        let mut known = HashMap::new();
        world.read_into(root, &mut known);
        world
    }

    fn read_into(&mut self, path: &Path, known: &mut HashMap<u64, Id>) -> Id {
        let there = fs::symlink_metadata(path).unwrap();
        if let Some(id) = known.get(&there.ino()) {
            return *id;
        }
        let id = known.len();
        known.insert(there.ino(), id);
        let mode = there.mode() & 0o7777;
        let inode = if there.is_dir() {
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                names.insert(name, self.read_into(&entry.path(), known));
            }
            Inode::Folder { names, mode }
        } else if there.is_symlink() {
            Inode::Link(fs::read_link(path).unwrap().into_os_string().into_string().unwrap())
        } else {
            let time = u64::try_from(there.mtime()).ok();
            Inode::File { bytes: fs::read(path).unwrap(), mode, time }
        };
        self.0.insert(id, inode);
        id
    }

    /// The number behind a path below the folder; of what is not there, `None`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Id> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(0, |id, name| match self.0.get(&id)? {
            Inode::Folder { names, .. } => names.get(name).copied(),
            Inode::File { .. } | Inode::Link(_) => None,
        })
    }

    fn names(&mut self, folder: Id) -> &mut BTreeMap<String, Id> {
        match self.0.get_mut(&folder) {
            Some(Inode::Folder { names, .. }) => names,
            other => panic!("{folder} is no folder: {other:?}"),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Make(folder, name, id, inode) => {
                self.0.insert(*id, inode.clone());
                self.names(*folder).insert(name.clone(), *id);
            }
            Op::Name(folder, name, id) => drop(self.names(*folder).insert(name.clone(), *id)),
            Op::Remove(folder, name) => drop(self.names(*folder).remove(name)),
            Op::Rename(from, old, to, new) => {
                let id = self.names(*from).remove(old).unwrap_or_else(|| panic!("there is no `{old}`"));
                self.names(*to).insert(new.clone(), id);
            }
            Op::Write(id, offset, new) => {
                let Some(Inode::File { bytes, .. }) = self.0.get_mut(id) else { panic!("no file {id}") };
                bytes.resize(bytes.len().max(offset + new.len()), 0);
                bytes[*offset..offset + new.len()].copy_from_slice(new);
            }
            Op::Truncate(id, length) => {
                let Some(Inode::File { bytes, .. }) = self.0.get_mut(id) else { panic!("no file {id}") };
                bytes.resize(*length, 0);
            }
            Op::Mode(id, new) => match self.0.get_mut(id) {
                Some(Inode::File { mode, .. } | Inode::Folder { mode, .. }) => *mode = *new,
                other => panic!("no mode: {other:?}"),
            },
            Op::Time(id, new) => {
                if let Some(Inode::File { time, .. }) = self.0.get_mut(id) {
                    *time = Some(*new);
                }
            }
            Op::Sync(_) | Op::SyncAll => {}
        }
    }

    /// Puts the world on disk, in a folder that is not there yet.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, root: &Path) {
        let mut written = HashMap::new();
        self.write_one(0, root, &mut written);
    }

    fn write_one(&self, id: Id, path: &Path, written: &mut HashMap<Id, std::path::PathBuf>) {
        match &self.0[&id] {
            Inode::Folder { names, mode } => {
                fs::create_dir(path).unwrap();
                for (name, id) in names {
                    self.write_one(*id, &path.join(name), written);
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Inode::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            Inode::File { bytes, mode, time } => {
                if let Some(first) = written.get(&id) {
                    return fs::hard_link(first, path).unwrap();
                }
                fs::write(path, bytes).unwrap();
                let file = fs::File::options().write(true).open(path).unwrap();
                if let Some(time) = time {
                    file.set_modified(UNIX_EPOCH + Duration::from_secs(*time)).unwrap();
                }
                file.set_permissions(fs::Permissions::from_mode(*mode)).unwrap();
                written.insert(id, path.to_owned());
            }
        }
    }

    /// What tells this world from others, as far as it can be reached by names; without times that nobody set.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut pending = vec![0];
        let mut seen = BTreeMap::new();
        while let Some(id) = pending.pop() {
            if seen.insert(id, ()).is_none() {
                let inode = &self.0[&id];
                (id, inode).hash(&mut hasher);
                if let Inode::Folder { names, .. } = inode {
                    pending.extend(names.values());
                }
            }
        }
        hasher.finish()
    }

    /// Every path with what is there, to compare with a folder on disk.
    #[must_use]
    pub fn listing(&self) -> BTreeMap<String, Inode> {
        let mut all = BTreeMap::new();
        let mut pending = vec![(String::new(), 0)];
        while let Some((path, id)) = pending.pop() {
            let mut inode = self.0[&id].clone();
            if let Inode::Folder { names, .. } = &mut inode {
                pending.extend(names.iter().map(|(name, id)| (format!("{path}/{name}"), *id)));
                names.clear();
            }
            // A time that nobody set is the moment of the last write.
            if let Inode::File { time, .. } = &mut inode {
                *time = time.filter(|time| *time == 1);
            }
            all.insert(path, inode);
        }
        all
    }
}

/// The world while it changes, and what of it is durable.
#[derive(Debug, Clone)]
pub struct Disk {
    /// As programs see it.
    pub seen: World,
    durable: World,
}

impl Disk {
    /// All of it durable.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { durable: world.clone(), seen: world }
    }

    /// Goes on by one change.
    pub fn apply(&mut self, op: &Op) {
        self.seen.apply(op);
        match op {
            Op::SyncAll => self.durable = self.seen.clone(),
            Op::Sync(id) => {
                let inode = self.seen.0[id].clone();
                if let Inode::Folder { names, .. } = &inode {
                    for child in names.values() {
                        let child_inode = unsynced(&self.seen.0[child]);
                        self.durable.0.entry(*child).or_insert(child_inode);
                    }
                }
                self.durable.0.insert(*id, inode);
            }
            _ => {}
        }
    }

    /// What is left when the power goes now.
    #[must_use]
    pub fn after(&self, loss: Loss) -> World {
        match loss {
            Loss::Nothing => self.seen.clone(),
            Loss::All => self.durable.clone(),
            Loss::Contents => self.with_contents(|_, old| old.to_vec()),
            Loss::Torn => self.with_contents(|new, _| torn(new)),
            Loss::Any(seed) => self.any(seed),
        }
    }

    /// All names, and of files that were not synced what `left` makes of the content seen and the one that was.
    fn with_contents(&self, left: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> World {
        let mut world = self.seen.clone();
        for (id, inode) in &mut world.0 {
            if let Inode::File { bytes, .. } = inode {
                let old = match self.durable.0.get(id) {
                    Some(Inode::File { bytes, .. }) => bytes.as_slice(),
                    _ => &[],
                };
                if bytes.as_slice() != old {
                    *bytes = left(bytes, old);
                }
            }
        }
        world
    }

    fn any(&self, seed: u64) -> World {
        let mut dice = seed | 1;
        let mut roll = |sides: u64| {
            // splitmix64
            dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % sides
        };
        let mut world = self.seen.clone();
        for (id, inode) in &mut world.0 {
            let old = self.durable.0.get(id);
            match (inode, old) {
                (Inode::Folder { names, .. }, old) => {
                    let none = BTreeMap::new();
                    let before = if let Some(Inode::Folder { names, .. }) = old { names } else { &none };
                    let changed: Vec<String> = names
                        .keys()
                        .chain(before.keys())
                        .filter(|name| names.get(*name) != before.get(*name))
                        .cloned()
                        .collect();
                    for name in changed {
                        if roll(2) == 0 {
                            match before.get(&name) {
                                Some(id) => drop(names.insert(name, *id)),
                                None => drop(names.remove(&name)),
                            }
                        }
                    }
                }
                (Inode::File { bytes, .. }, old) => {
                    let before =
                        if let Some(Inode::File { bytes, .. }) = old { bytes.as_slice() } else { &[] };
                    if bytes.as_slice() != before {
                        match roll(4) {
                            0 => *bytes = before.to_vec(),
                            1 => *bytes = torn(bytes),
                            2 => bytes.fill(0),
                            _ => {}
                        }
                    }
                }
                (Inode::Link(_), _) => {}
            }
        }
        world
    }
}

/// An inode whose name is durable and nothing else.
fn unsynced(inode: &Inode) -> Inode {
    match inode {
        Inode::Folder { mode, .. } => Inode::Folder { names: BTreeMap::new(), mode: *mode },
        Inode::File { mode, .. } => Inode::File { bytes: Vec::new(), mode: *mode, time: None },
        Inode::Link(target) => Inode::Link(target.clone()),
    }
}

fn torn(bytes: &[u8]) -> Vec<u8> {
    let mut torn = bytes.to_vec();
    torn[bytes.len() / 2..].fill(0);
    torn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Inode {
        Inode::File { bytes: text.into(), mode: 0o644, time: None }
    }

    #[test]
    fn what_was_synced_stays_and_nothing_else() {
        let empty = Inode::Folder { names: BTreeMap::new(), mode: 0o755 };
        let mut disk = Disk::new(World(BTreeMap::from([(0, empty)])));
        disk.apply(&Op::Make(0, "a".into(), 1, file("")));
        disk.apply(&Op::Write(1, 0, b"abcd".to_vec()));
        disk.apply(&Op::Sync(1));
        // The content is durable, its name is not.
        assert_eq!(disk.after(Loss::All).find("a"), None);
        disk.apply(&Op::Sync(0));
        assert_eq!(disk.after(Loss::All).find("a"), Some(1));
        disk.apply(&Op::Write(1, 4, b"efgh".to_vec()));
        assert_eq!(disk.after(Loss::Contents).0[&1], file("abcd"));
        assert_eq!(disk.after(Loss::Torn).0[&1], file("abcd\0\0\0\0"));
        assert_eq!(disk.after(Loss::Nothing).0[&1], file("abcdefgh"));
        disk.apply(&Op::Rename(0, "a".into(), 0, "b".into()));
        assert_eq!(disk.after(Loss::All).find("a"), Some(1));
        disk.apply(&Op::SyncAll);
        assert_eq!(disk.after(Loss::All), disk.after(Loss::Nothing));
    }

    #[test]
    fn a_world_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let names = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("l".to_owned(), 2)]);
        let world = World(BTreeMap::from([
            (0, Inode::Folder { names, mode: 0o755 }),
            (1, Inode::File { bytes: b"x".to_vec(), mode: 0o444, time: Some(1) }),
            (2, Inode::Link("a".into())),
        ]));
        let root = folder.path().join("root");
        world.write(&root);
        assert_eq!(World::read(&root).listing(), world.listing());
        let there = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
        assert_eq!(there("a"), there("b"));
    }
}
