//! A reader of ELF files that looks at nothing but what the loader needs, a few pages of a file however large.
//!
//! Formats: System V ABI (gABI) chapters 4 and 5; symbol versions: LSB Core, chapter 10.7.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::object::{Filter, ONLY_DYN_AND_EXEC, Object, Refusal, VersionNeeded, VersionsNeeded};

/// Bytes read at once, at multiples of it.
const BLOCK: u64 = 8192;
/// Blocks read of one file: eight megabytes of dynamic section, names and version tables.
const BLOCKS: usize = 1024;
/// Program headers; the loader of no system knows more than `PN_XNUM`, and no linker writes a thousand.
const SEGMENTS: u16 = 1024;
/// Entries of a dynamic section.
const ENTRIES: usize = 8192;
/// Libraries one file may be linked with.
const NEEDED: usize = 4096;
/// Bytes of a name.
const NAME_BYTES: usize = 1024;
/// Bytes and directories of a search path.
const PATH_BYTES: usize = 32 << 10;
const SEARCH_PATH: usize = 512;
/// Versions of one file.
const VERSIONS: usize = 16_384;

const ELF_HEADER: usize = 64;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_AUXILIARY: u64 = 0x7fff_fffd;
const DT_FILTER: u64 = 0x7fff_ffff;
const DF_1_NODEFLIB: u64 = 0x800;
const VER_FLG_WEAK: u16 = 2;

/// Reads what the loader wants to know of an open file, a few pages of it however large it is.
///
/// # Errors
/// Why the loader cannot load it.
pub fn read(file: &File) -> Result<Object, Refusal> {
    let mut blocks = Blocks { file, blocks: HashMap::new(), error: None };
    let head = blocks.up_to(0, ELF_HEADER);
    if let Some(error) = blocks.error {
        return Err(Refusal::Unreadable(error.to_string()));
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(what_it_is(&mut blocks));
    }
    if head.len() < 52 {
        return Err(Refusal::TooShort);
    }
    let (wide, little) = match (head.get(4), head.get(5)) {
        (Some(&class @ (1 | 2)), Some(&order @ (1 | 2))) => (class == 2, order == 1),
        _ => return Err(Refusal::Invalid("invalid ELF header".to_owned())),
    };
    let mut reader = Reader { blocks, wide, little, segments: Vec::new(), strings: 0 };
    let object = reader.object(&head);
    if let Some(error) = reader.blocks.error {
        return Err(Refusal::Unreadable(error.to_string()));
    }
    object.ok_or_else(|| Refusal::Invalid("what its headers speak of lies outside the file".to_owned()))
}

/// A text that begins like a linker script: comments, then a command of `ld` (binutils manual, "Scripts").
fn what_it_is(blocks: &mut Blocks<'_>) -> Refusal {
    let head = blocks.up_to(0, 4096);
    let text = String::from_utf8_lossy(&head);
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("/*") {
        let Some((_, after)) = comment.split_once("*/") else { break };
        rest = after.trim_start();
    }
    let commands = ["INPUT", "GROUP", "OUTPUT_FORMAT", "SEARCH_DIR", "AS_NEEDED"];
    if commands
        .iter()
        .any(|command| rest.strip_prefix(command).is_some_and(|r| r.trim_start().starts_with('(')))
    {
        Refusal::LinkerScript
    } else if head.len() < 52 {
        Refusal::TooShort
    } else {
        Refusal::NotElf
    }
}

/// The blocks of a file that were read.
struct Blocks<'f> {
    file: &'f File,
    blocks: HashMap<u64, Vec<u8>>,
    /// Why a block could not be read: then nothing that was read says what the file is.
    error: Option<std::io::Error>,
}

impl Blocks<'_> {
    fn block(&mut self, number: u64) -> Option<&[u8]> {
        if !self.blocks.contains_key(&number) {
            if self.blocks.len() >= BLOCKS {
                return None;
            }
            let mut bytes = vec![0; usize::try_from(BLOCK).ok()?];
            let mut filled = 0;
            while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                let offset = number.checked_mul(BLOCK)?.checked_add(filled as u64)?;
                match self.file.read_at(room, offset) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.error = Some(error);
                        return None;
                    }
                }
            }
            bytes.truncate(filled);
            self.blocks.insert(number, bytes);
        }
        self.blocks.get(&number).map(Vec::as_slice)
    }

    /// At most `length` bytes at `offset`: fewer where the file ends. `length` is one of our own constants or the size
    /// of a table whose entries are bounded.
    fn up_to(&mut self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = offset;
        while bytes.len() < length {
            let within = usize::try_from(at % BLOCK).unwrap_or(0);
            let Some(rest) = self.block(at / BLOCK).and_then(|block| block.get(within..)) else { break };
            let taken = rest.get(..length - bytes.len()).unwrap_or(rest);
            if taken.is_empty() {
                break;
            }
            bytes.extend_from_slice(taken);
            let Some(next) = at.checked_add(taken.len() as u64) else { break };
            at = next;
        }
        bytes
    }

    fn exactly(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        Some(self.up_to(offset, length)).filter(|bytes| bytes.len() == length)
    }

    /// A text that ends with a NUL within `bound` bytes.
    fn terminated(&mut self, offset: u64, bound: usize) -> Option<String> {
        let mut window = 256.min(bound);
        loop {
            let bytes = self.up_to(offset, window);
            if let Some(end) = memchr::memchr(0, &bytes) {
                return Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned());
            }
            if bytes.len() < window || window >= bound {
                return None;
            }
            window = (window * 8).min(bound);
        }
    }
}

/// A loadable segment: address, offset, bytes in the file.
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

struct Reader<'f> {
    blocks: Blocks<'f>,
    wide: bool,
    little: bool,
    segments: Vec<Segment>,
    /// Offset of the string table.
    strings: u64,
}

impl Reader<'_> {
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.little { field.iter().rev().fold(0, add) } else { field.iter().fold(0, add) })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        u16::try_from(self.number(bytes, at, 2)?).ok()
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        u32::try_from(self.number(bytes, at, 4)?).ok()
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.wide { 8 } else { 4 })
    }

    fn offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            (within < segment.size).then(|| segment.offset.checked_add(within))?
        })
    }

    fn string(&mut self, at: u64, bound: usize) -> Option<String> {
        self.blocks.terminated(self.strings.checked_add(at)?, bound)
    }

    fn object(&mut self, head: &[u8]) -> Option<Object> {
        let kind = self.u16(head, 16)?;
        let mut object = Object {
            class: if self.wide { 64 } else { 32 },
            machine: crate::elf::machine(self.u16(head, 18)?),
            refused: self.refusal(head, kind),
            ..Object::default()
        };
        if matches!(kind, 1 | 4) {
            return Some(object);
        }
        let (mut dynamic, mut interpreter) = (None, None);
        for (kind, segment) in self.program_headers(head)? {
            match kind {
                PT_LOAD => self.segments.push(segment),
                PT_DYNAMIC => dynamic = Some(segment),
                PT_INTERP => interpreter = Some(segment.offset),
                _ => {}
            }
        }
        object.interpreter = interpreter.and_then(|offset| self.blocks.terminated(offset, 4096));
        let Some(dynamic) = dynamic else { return Some(object) };
        let entries = self.entries(&dynamic);
        let value = |tag: u64| entries.iter().rev().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let Some(strings) = value(DT_STRTAB) else { return Some(object) };
        self.strings = self.offset(strings)?;
        if let Some(at) = value(DT_SONAME) {
            object.soname = Some(self.string(at, NAME_BYTES)?);
        }
        for &(tag, at) in entries.iter().filter(|entry| entry.0 == DT_NEEDED).take(NEEDED) {
            debug_assert_eq!(tag, DT_NEEDED);
            object.needed.push(self.string(at, NAME_BYTES)?);
        }
        for &(tag, at) in entries.iter().filter(|e| matches!(e.0, DT_AUXILIARY | DT_FILTER)).take(NEEDED) {
            let name = self.string(at, NAME_BYTES)?;
            object.filters.push(Filter { name, optional: tag == DT_AUXILIARY });
        }
        object.rpath = self.search_path(value(DT_RPATH))?;
        object.runpath = self.search_path(value(DT_RUNPATH))?;
        object.no_default_directories = value(DT_FLAGS_1).unwrap_or(0) & DF_1_NODEFLIB != 0;
        object.version_table = value(DT_VERSYM).is_some();
        if let Some(address) = value(DT_VERNEED) {
            object.versions_needed = self.versions_needed(address)?;
        }
        if let Some(address) = value(DT_VERDEF) {
            object.versions_defined = Some(self.versions_defined(address)?);
        }
        Some(object)
    }

    /// What `open_verify` of glibc (`elf/dl-load.c`) does not accept, in its words. It is asked about files of the
    /// right class and machine only.
    fn refusal(&self, head: &[u8], kind: u16) -> Option<String> {
        let why = if head.get(6) != Some(&1) {
            "ELF file version ident does not match current one"
        } else if !matches!(head.get(7), Some(0 | 3)) {
            "ELF file OS ABI invalid"
        } else if head.get(7) == Some(&0) && head.get(8) != Some(&0) {
            "ELF file ABI version invalid"
        } else if head.get(9..16).is_none_or(|padding| padding.iter().any(|&byte| byte != 0)) {
            "nonzero padding in e_ident"
        } else if self.u32(head, 20) != Some(1) {
            "ELF file version does not match current one"
        } else if !matches!(kind, 2 | 3) {
            ONLY_DYN_AND_EXEC
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    fn program_headers(&mut self, head: &[u8]) -> Option<Vec<(u32, Segment)>> {
        let (table, count) = if self.wide { (32, 56) } else { (28, 44) };
        let (table, count) = (self.word(head, table)?, self.u16(head, count)?.min(SEGMENTS));
        let size = if self.wide { 56 } else { 32 };
        let bytes = self.blocks.exactly(table, size * usize::from(count))?;
        let one = |entry: &[u8]| {
            // `p_offset`, `p_vaddr` and `p_filesz`, which stand elsewhere in the 32-bit form.
            let [offset, address, filesz] = if self.wide { [8, 16, 32] } else { [4, 8, 16] };
            let segment = Segment {
                address: self.word(entry, address)?,
                offset: self.word(entry, offset)?,
                size: self.word(entry, filesz)?,
            };
            Some((self.u32(entry, 0)?, segment))
        };
        bytes.chunks_exact(size).map(one).collect()
    }

    fn entries(&mut self, dynamic: &Segment) -> Vec<(u64, u64)> {
        let size = if self.wide { 16 } else { 8 };
        let length = usize::try_from(dynamic.size).unwrap_or(usize::MAX).min(ENTRIES * size);
        let bytes = self.blocks.up_to(dynamic.offset, length);
        bytes
            .chunks_exact(size)
            .map_while(|entry| Some((self.word(entry, 0)?, self.word(entry, size / 2)?)))
            .take_while(|&(tag, _)| tag != 0)
            .collect()
    }

    fn search_path(&mut self, at: Option<u64>) -> Option<Option<Vec<String>>> {
        let Some(at) = at else { return Some(None) };
        let text = self.string(at, PATH_BYTES)?;
        if text.is_empty() {
            return Some(Some(Vec::new()));
        }
        Some(Some(text.split(':').take(SEARCH_PATH).map(str::to_owned).collect()))
    }

    fn versions_needed(&mut self, address: u64) -> Option<Vec<VersionsNeeded>> {
        let mut at = self.offset(address)?;
        let mut found = Vec::new();
        let mut budget = VERSIONS;
        loop {
            budget = budget.checked_sub(1)?;
            let entry = self.blocks.exactly(at, 16)?;
            let library = self.string(u64::from(self.u32(&entry, 4)?), NAME_BYTES)?;
            let mut versions = Vec::new();
            let mut aux = at.checked_add(u64::from(self.u32(&entry, 8)?))?;
            loop {
                budget = budget.checked_sub(1)?;
                let one = self.blocks.exactly(aux, 16)?;
                let name = self.string(u64::from(self.u32(&one, 8)?), NAME_BYTES)?;
                versions.push(VersionNeeded { name, weak: self.u16(&one, 4)? & VER_FLG_WEAK != 0 });
                match self.u32(&one, 12)? {
                    0 => break,
                    next => aux = aux.checked_add(u64::from(next))?,
                }
            }
            found.push(VersionsNeeded { library, versions });
            match self.u32(&entry, 12)? {
                0 => return Some(found),
                next => at = at.checked_add(u64::from(next))?,
            }
        }
    }

    fn versions_defined(&mut self, address: u64) -> Option<Vec<String>> {
        let mut at = self.offset(address)?;
        let mut found = Vec::new();
        for _ in 0..VERSIONS {
            let entry = self.blocks.exactly(at, 20)?;
            let aux = at.checked_add(u64::from(self.u32(&entry, 12)?))?;
            let name = self.blocks.exactly(aux, 8)?;
            found.push(self.string(u64::from(self.u32(&name, 0)?), NAME_BYTES)?);
            match self.u32(&entry, 16)? {
                0 => return Some(found),
                next => at = at.checked_add(u64::from(next))?,
            }
        }
        None
    }
}
