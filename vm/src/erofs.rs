//! A tree as a read-only disk: an EROFS image, the same bytes for the same tree.
//!
//! Files are not compressed: a guest in software emulation would pay for that with each page. The same content is there
//! once. Source: the kernel's `fs/erofs/erofs_fs.h` and its Documentation/filesystems/erofs.rst, "On-disk details"; every
//! number in it is little-endian.
//!
//! An own writer, since of the crates that know EROFS none writes one from files that lie in a store without holding all of
//! them in memory, and none promises the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

use hatchway_envs::digest::Sha256;
use hatchway_envs::store::manifest::{DIRECTORY_MODE, Manifest, Node};

use crate::error::Error;

const MAGIC: u32 = 0xe0f5_e1e2;
/// Where the superblock is, and how long.
const SUPER_AT: u64 = 1024;
const SUPER_BYTES: usize = 128;
const BLOCK_BITS: u8 = 12;
const BLOCK: u64 = 1 << BLOCK_BITS;
const BLOCK_BYTES: usize = 1 << BLOCK_BITS;
/// Inodes are numbered in units of this, from [`META_AT`].
const SLOT: u64 = 32;
/// `struct erofs_inode_extended`.
const INODE: u64 = 64;
/// The block in which inodes begin.
const META_BLOCK: u32 = 1;
const META_AT: u64 = META_BLOCK as u64 * BLOCK;
/// `i_format`: an extended inode, and where its data is.
const EXTENDED: u16 = 1;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;
/// `struct erofs_dirent`.
const DIRENT: usize = 12;
/// The time of everything in a store.
const MTIME_S: u64 = 1;
const FILE_MODE: u16 = 0o100_000;
const FOLDER_MODE: u16 = 0o040_000;
const LINK_MODE: u16 = 0o120_000;
/// `file_type` of a directory's entry.
const TYPE_FILE: u8 = 1;
const TYPE_FOLDER: u8 = 2;
const TYPE_LINK: u8 = 7;

/// Where contents come from.
pub type Open<'a> = dyn Fn(Sha256, bool) -> Result<Box<dyn Read>, Error> + 'a;

/// One inode before it is written.
#[derive(Debug)]
struct Inode<'a> {
    node: &'a Node,
    /// Names below a folder.
    children: Vec<(&'a str, usize)>,
    parent: usize,
    size: u64,
    /// Byte in the image.
    at: u64,
    /// First block of its data, where that is not behind the inode.
    block: Option<u32>,
    links: u32,
}

impl Inode<'_> {
    fn is_folder(&self) -> bool {
        matches!(self.node, Node::Directory)
    }

    fn number(&self) -> u64 {
        (self.at - META_AT) / SLOT
    }

    fn kind(&self) -> u8 {
        match self.node {
            Node::Directory => TYPE_FOLDER,
            Node::File { .. } => TYPE_FILE,
            Node::Link { .. } => TYPE_LINK,
        }
    }

    fn mode(&self) -> u16 {
        match self.node {
            Node::Directory => FOLDER_MODE | u16::try_from(DIRECTORY_MODE).unwrap_or(0o755),
            Node::File { executable: true, .. } => FILE_MODE | 0o555,
            Node::File { .. } => FILE_MODE | 0o444,
            Node::Link { .. } => LINK_MODE | 0o777,
        }
    }
}

/// The whole image, laid out.
#[derive(Debug)]
struct Image<'a> {
    inodes: Vec<Inode<'a>>,
    /// Blocks in all.
    blocks: u32,
    /// Contents in the order of their blocks.
    contents: Vec<(Sha256, bool, u64)>,
}

/// Writes the image of a tree.
///
/// # Errors
/// A content that cannot be read or is not as long as the manifest says; a tree of more than 16 TiB; what `to` refuses.
pub fn write(manifest: &Manifest, open: &Open<'_>, to: &mut dyn Write) -> Result<(), Error> {
    let image = Image::lay_out(manifest)?;
    let mut out = Out { to, at: 0 };
    out.zeros_to(SUPER_AT)?;
    out.put(&image.superblock())?;
    for (number, inode) in image.inodes.iter().enumerate() {
        out.zeros_to(inode.at)?;
        out.put(&image.inode(number))?;
        if inode.block.is_none() {
            image.inline(number, open, &mut out)?;
        }
    }
    out.zeros_to_block()?;
    // Folders that are too long to lie behind their inodes come first, then contents, as they were laid out.
    for (number, inode) in image.inodes.iter().enumerate() {
        if inode.block.is_some() && inode.is_folder() {
            out.put(&image.folder(number))?;
            out.zeros_to_block()?;
        }
    }
    for (sha256, executable, size) in &image.contents {
        out.copy(&mut open(*sha256, *executable)?, *size, *sha256)?;
        out.zeros_to_block()?;
    }
    Ok(())
}

impl<'a> Image<'a> {
    fn lay_out(manifest: &'a Manifest) -> Result<Self, Error> {
        let mut image = Self { inodes: inodes(manifest), blocks: 0, contents: Vec::new() };
        for number in 0..image.inodes.len() {
            if image.inodes[number].is_folder() {
                image.inodes[number].size = image.folder_size(number);
            }
        }
        let mut at = META_AT;
        for inode in &mut image.inodes {
            // What is behind an inode must lie in the inode's block.
            let inline = if inode.size < BLOCK - INODE { inode.size } else { 0 };
            at = at.next_multiple_of(SLOT);
            if at % BLOCK + INODE + inline > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            inode.at = at;
            at += INODE + inline;
        }
        image.place_data(at)?;
        Ok(image)
    }

    /// Gives blocks to what is not inline: folders first, then contents, each once.
    fn place_data(&mut self, meta_end: u64) -> Result<(), Error> {
        let mut next = meta_end.div_ceil(BLOCK);
        let mut known: HashMap<Sha256, u64> = HashMap::new();
        let is_apart = |inode: &Inode<'_>| inode.size >= BLOCK - INODE;
        for inode in self.inodes.iter_mut().filter(|inode| is_apart(inode) && inode.is_folder()) {
            inode.block = Some(block(next)?);
            next += inode.size.div_ceil(BLOCK);
        }
        for inode in self.inodes.iter_mut().filter(|inode| is_apart(inode) && !inode.is_folder()) {
            // Targets of links are shorter than that, as the manifest bounds them.
            let Node::File { sha256, executable, size } = inode.node else { continue };
            let first = *known.entry(*sha256).or_insert_with(|| {
                let first = next;
                next += size.div_ceil(BLOCK);
                self.contents.push((*sha256, *executable, *size));
                first
            });
            inode.block = Some(block(first)?);
        }
        self.blocks = block(next)?;
        Ok(())
    }

    /// Entries of a folder as they are written: sorted by their bytes, the folder itself and the one above among them.
    fn entries(&self, number: usize) -> Vec<(&str, usize)> {
        let inode = &self.inodes[number];
        let mut entries = vec![(".", number), ("..", inode.parent)];
        entries.extend(inode.children.iter().copied());
        entries.sort_unstable_by_key(|(name, _)| *name);
        entries
    }

    /// The entries that share a block, block by block.
    fn grouped<'e>(entries: &'e [(&'e str, usize)]) -> Vec<&'e [(&'e str, usize)]> {
        let mut groups = Vec::new();
        let (mut from, mut used) = (0, 0);
        for (index, (name, _)) in entries.iter().enumerate() {
            let bytes = DIRENT + name.len();
            if used + bytes > BLOCK_BYTES {
                groups.push(&entries[from..index]);
                (from, used) = (index, 0);
            }
            used += bytes;
        }
        groups.push(&entries[from..]);
        groups
    }

    fn folder_size(&self, number: usize) -> u64 {
        let entries = self.entries(number);
        let groups = Self::grouped(&entries);
        let last = groups.last().map_or(0, |group| group.iter().map(|(name, _)| DIRENT + name.len()).sum());
        (groups.len() as u64 - 1) * BLOCK + last as u64
    }

    /// The data of a folder.
    fn folder(&self, number: usize) -> Vec<u8> {
        let entries = self.entries(number);
        let groups = Self::grouped(&entries);
        let mut data = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let mut name_at = group.len() * DIRENT;
            for (name, child) in *group {
                let child = &self.inodes[*child];
                data.extend(child.number().to_le_bytes());
                data.extend(u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
                data.extend([child.kind(), 0]);
                name_at += name.len();
            }
            group.iter().for_each(|(name, _)| data.extend(name.bytes()));
            if index + 1 < groups.len() {
                data.resize((index + 1) * BLOCK_BYTES, 0);
            }
        }
        data
    }

    /// What lies behind an inode.
    fn inline(&self, number: usize, open: &Open<'_>, out: &mut Out<'_>) -> Result<(), Error> {
        match self.inodes[number].node {
            Node::Directory => out.put(&self.folder(number)),
            Node::Link { target } => out.put(target.as_bytes()),
            Node::File { sha256, executable, size } if *size > 0 => {
                out.copy(&mut open(*sha256, *executable)?, *size, *sha256)
            }
            Node::File { .. } => Ok(()),
        }
    }

    /// `struct erofs_super_block`.
    fn superblock(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUPER_BYTES);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([0; 8]); // no checksum, no compatible features
        bytes.extend([BLOCK_BITS, 0]);
        bytes.extend(u16::try_from(self.inodes[0].number()).unwrap_or(0).to_le_bytes());
        bytes.extend((self.inodes.len() as u64).to_le_bytes());
        bytes.extend(MTIME_S.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(META_BLOCK.to_le_bytes());
        bytes.resize(SUPER_BYTES, 0); // no extended attributes, no names, no further features
        bytes
    }

    /// `struct erofs_inode_extended`.
    fn inode(&self, number: usize) -> Vec<u8> {
        let inode = &self.inodes[number];
        let layout = if inode.block.is_some() { FLAT_PLAIN } else { FLAT_INLINE };
        let mut bytes = Vec::new();
        bytes.extend((EXTENDED | layout << 1).to_le_bytes());
        bytes.extend([0; 2]); // no extended attributes
        bytes.extend(inode.mode().to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(inode.size.to_le_bytes());
        bytes.extend(inode.block.unwrap_or(0).to_le_bytes());
        bytes.extend(u32::try_from(number + 1).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend([0; 8]); // user and group 0
        bytes.extend(MTIME_S.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(inode.links.to_le_bytes());
        bytes.resize(usize::try_from(INODE).unwrap_or(64), 0);
        bytes
    }
}

fn block(number: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::TooLarge)
}

/// The root first, then everything in the order of its path.
fn inodes(manifest: &Manifest) -> Vec<Inode<'_>> {
    let new =
        |node, parent| Inode { node, children: Vec::new(), parent, size: 0, at: 0, block: None, links: 1 };
    let mut inodes = vec![new(&Node::Directory, 0)];
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::from([("", 0)]);
    for (path, node) in &manifest.nodes {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // A folder of an entry is itself an entry, and comes before it.
        let parent = numbers.get(folder).copied().unwrap_or(0);
        let number = inodes.len();
        let mut inode = new(node, parent);
        match node {
            Node::Directory => {
                numbers.insert(path, number);
            }
            Node::File { size, .. } => inode.size = *size,
            Node::Link { target } => inode.size = target.len() as u64,
        }
        inodes.push(inode);
        inodes[parent].children.push((name, number));
    }
    for number in 0..inodes.len() {
        if inodes[number].is_folder() {
            let below = inodes[number].children.iter().filter(|(_, child)| inodes[*child].is_folder());
            inodes[number].links = 2 + u32::try_from(below.count()).unwrap_or(u32::MAX - 2);
        }
    }
    inodes
}

/// What is written, and how much of it there is.
struct Out<'a> {
    to: &'a mut dyn Write,
    at: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.to.write_all(bytes).map_err(Error::Disk)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn zeros_to(&mut self, at: u64) -> Result<(), Error> {
        let zeros = [0; BLOCK_BYTES];
        while self.at < at {
            let most = usize::try_from((at - self.at).min(BLOCK)).unwrap_or(zeros.len());
            self.put(&zeros[..most])?;
        }
        Ok(())
    }

    fn zeros_to_block(&mut self) -> Result<(), Error> {
        self.zeros_to(self.at.next_multiple_of(BLOCK))
    }

    fn copy(&mut self, from: &mut dyn Read, size: u64, sha256: Sha256) -> Result<(), Error> {
        let copied = io::copy(&mut from.take(size), self.to).map_err(Error::Disk)?;
        self.at += copied;
        let more = from.read(&mut [0]).map_err(Error::Disk)?;
        if copied == size && more == 0 { Ok(()) } else { Err(Error::Damaged { sha256, size }) }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8], executable: bool) -> Node {
        Node::File { sha256: Sha256::of(content), size: content.len() as u64, executable }
    }

    fn image(manifest: &Manifest, contents: &[Vec<u8>]) -> Vec<u8> {
        let by_digest: HashMap<Sha256, Vec<u8>> =
            contents.iter().map(|content| (Sha256::of(content), content.clone())).collect();
        let open = |sha256: Sha256, _: bool| -> Result<Box<dyn Read>, Error> {
            Ok(Box::new(io::Cursor::new(by_digest[&sha256].clone())))
        };
        let mut bytes = Vec::new();
        write(manifest, &open, &mut bytes).unwrap();
        bytes
    }

    /// What the tools of EROFS itself read from it.
    fn extracted(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        let to = folder.path().join("out");
        let done = Command::new("fsck.erofs")
            .arg(format!("--extract={}", to.display()))
            .arg(&path)
            .output()
            .expect("fsck.erofs, of erofs-utils, reads the image");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        folder
    }

    fn compare(manifest: &Manifest, contents: &[Vec<u8>]) {
        let folder = extracted(&image(manifest, contents));
        let root = folder.path().join("out");
        let mut seen = 0;
        for (path, node) in &manifest.nodes {
            let at = root.join(path);
            let is = std::fs::symlink_metadata(&at).unwrap_or_else(|error| panic!("{path}: {error}"));
            match node {
                Node::Directory => {
                    assert!(is.is_dir(), "{path}");
                    seen += std::fs::read_dir(&at).unwrap().count();
                }
                Node::Link { target } => {
                    assert_eq!(std::fs::read_link(&at).unwrap().to_str(), Some(target.as_str()));
                }
                Node::File { sha256, .. } => {
                    let content = std::fs::read(&at).unwrap();
                    assert_eq!(Sha256::of(&content), *sha256, "{path}: {} bytes", content.len());
                }
            }
        }
        seen += std::fs::read_dir(&root).unwrap().count();
        assert_eq!(seen, manifest.nodes.len(), "there is something that is not in the manifest");
    }

    #[test]
    fn every_size_at_a_border_is_read_back() {
        let sizes = [0, 1, 63, 64, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 100_000];
        let mut manifest = Manifest::default();
        let mut contents = Vec::new();
        for (index, size) in sizes.into_iter().enumerate() {
            let content: Vec<u8> =
                (0..size).map(|at| u8::try_from((at * 7 + index) % 251).unwrap()).collect();
            manifest.insert(&format!("usr/bin/{size}"), file(&content, size % 2 == 0));
            manifest.insert(&format!("again/{size}"), file(&content, false));
            manifest.insert(&format!("links/{size}"), Node::Link { target: "x/".repeat(index * 100 + 1) });
            contents.push(content);
        }
        manifest.insert("empty", Node::Directory);
        compare(&manifest, &contents);
    }

    #[test]
    fn folders_of_many_names_are_read_back() {
        let mut manifest = Manifest::default();
        for number in 0..2000 {
            manifest.insert(&format!("a/{}-{number}", "n".repeat(number % 200)), file(b"same", false));
            manifest.insert(&format!("b/+{number}/-x"), file(b"same", false));
        }
        compare(&manifest, &[b"same".to_vec()]);
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_and_the_same_content_lies_there_once() {
        let content = vec![7; 300_000];
        let mut manifest = Manifest::default();
        manifest.insert("one", file(&content, false));
        let one = image(&manifest, std::slice::from_ref(&content));
        manifest.insert("other", file(&content, true));
        let both = image(&manifest, std::slice::from_ref(&content));
        assert_eq!(both, image(&manifest, &[content]));
        assert!(both.len() < one.len() + 8192, "{} and {}", one.len(), both.len());
    }

    #[test]
    fn a_content_that_is_not_as_long_as_it_should_be_is_an_error() {
        let mut manifest = Manifest::default();
        manifest.insert("file", Node::File { sha256: Sha256::of(b"x"), size: 5000, executable: false });
        for length in [4999, 5001] {
            let open = |_: Sha256, _: bool| -> Result<Box<dyn Read>, Error> {
                Ok(Box::new(io::Cursor::new(vec![0; length])))
            };
            let error = write(&manifest, &open, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, Error::Damaged { size: 5000, .. }), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_tree_is_read_back(
            entries in proptest::collection::btree_map("[-+.a-z0-9]{1,40}(/[-+.a-z0-9]{1,12}){0,3}", 0_usize..9000, 1..60),
        ) {
            let mut manifest = Manifest::default();
            let mut contents = Vec::new();
            let is_dot = |path: &str| path.split('/').any(|part| part == "." || part == "..");
            for (path, size) in entries.iter().filter(|(path, _)| !is_dot(path)) {
                let is_file = |part: &str| matches!(manifest.nodes.get(part), Some(Node::File { .. } | Node::Link { .. }));
                if path.match_indices('/').any(|(at, _)| is_file(&path[..at])) || manifest.nodes.contains_key(path) {
                    continue;
                }
                let content = vec![u8::try_from(size % 256).unwrap(); *size];
                manifest.insert(path, file(&content, size % 3 == 0));
                contents.push(content);
            }
            compare(&manifest, &contents);
        }
    }
}
