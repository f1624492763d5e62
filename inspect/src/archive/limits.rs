//! Bounds on what an archive may make us do.

/// How much of everything an artifact may contain.
///
/// The defaults are several times what the largest vendor packages need (a CUDA or Vivado installer), and far below
/// what would exhaust a machine that also controls an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the artifact itself, which is read from its beginning to its end to be hashed; the largest installers
    /// that vendors offer have some 100 GiB.
    pub artifact_bytes: u64,
    /// Entries in one archive. Each costs memory here and an inode in the store; a full Debian desktop has 300 000 files.
    pub entries: u64,
    /// Unpacked bytes in all, padding and headers included: what a decompression bomb is stopped by.
    pub total_bytes: u64,
    /// Unpacked bytes for each byte of the archive, once more than [`unproportioned_bytes`](Self::unproportioned_bytes)
    /// come out of it: a small file must not fill the disk of a large machine. Programs shrink to a third, logs to a
    /// twentieth.
    pub proportion: u64,
    /// Unpacked bytes that any archive may have: an image of an empty disk shrinks to almost nothing.
    pub unproportioned_bytes: u64,
    /// Unpacked bytes of one file: a disk would otherwise be filled by one entry before the total is noticed.
    pub file_bytes: u64,
    /// Bytes in a member's path; Linux refuses longer ones (`PATH_MAX`, less its NUL).
    pub path_bytes: usize,
    /// Bytes in a symbolic link's target; Linux refuses longer ones (`PATH_MAX`, less its NUL).
    pub symlink_bytes: usize,
    /// Directories above a member. Every level is a node in memory and a lookup when it is unpacked.
    pub nesting: usize,
    /// Memory for the names of all members, which are kept to notice links that are written through.
    pub name_memory: u64,
    /// Bytes of a control file (`control`, `postinst`, `METADATA`) or of a tar extension header: read whole into memory.
    /// The longest maintainer scripts of Debian have 100 KiB, `conffiles` and wheel `RECORD`s are not read whole.
    pub control_bytes: u64,
    /// Bytes of an ELF or PE file that are held in memory; of larger ones only head, dynamic section and section
    /// headers are kept, and their facts say so. The inspecting process is memory-capped.
    pub object_bytes: u64,
    /// Memory for facts: paths, links, and the names inside programs, which a small file can make very many.
    pub facts_bytes: u64,
    /// Bytes of an archive inside another that are held in memory to open it; of a larger one the facts say that it is there.
    pub nested_bytes: u64,
    /// Archives around one that is still opened.
    pub containers_deep: usize,
    /// Whether a hard link may name a file that the archive does not have: a layer of an image may name those of the
    /// layers below it. Whoever unpacks it looks for that file in its own tree.
    pub links_outside: bool,
    /// Memory an xz decoder may ask for. `xz -9` needs 65 MiB; the file names any amount it likes.
    pub decoder_memory: u64,
}

impl Limits {
    /// The unpacked bytes that an archive of this size may have.
    pub(crate) fn total_for(&self, archive_bytes: u64) -> u64 {
        let proportioned = archive_bytes.saturating_mul(self.proportion);
        self.total_bytes.min(proportioned.max(self.unproportioned_bytes))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            artifact_bytes: 256 << 30,
            entries: 1_000_000,
            total_bytes: 256 << 30,
            proportion: 200,
            unproportioned_bytes: 4 << 30,
            file_bytes: 128 << 30,
            path_bytes: 4095,
            symlink_bytes: 4095,
            nesting: 128,
            name_memory: 512 << 20,
            control_bytes: 4 << 20,
            object_bytes: 256 << 20,
            facts_bytes: 512 << 20,
            nested_bytes: 512 << 20,
            containers_deep: 6,
            links_outside: false,
            decoder_memory: 512 << 20,
        }
    }
}
