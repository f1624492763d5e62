//! Headers and the dynamic section.

use std::collections::{BTreeMap, BTreeSet};

use goblin::container::{Container, Ctx};
use goblin::elf::program_header::{PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_TLS};
use goblin::elf::section_header::{SHF_EXECINSTR, SHT_NOBITS};
use goblin::elf::{Elf, Header, ProgramHeader, SectionHeader, header};

use super::image::{Image, Words};
use super::{ElfFacts, ElfKind, Linking, Reading, appended, notes, origin, strings, tls, versions};

/// Entries of a dynamic section; the largest in the wild have a few hundred.
const ENTRIES: usize = 8192;
/// Libraries one file may be linked with.
const NEEDED: usize = 4096;
/// Bytes of a name: longer ones are no library anybody can open.
const NAME_BYTES: usize = 1024;
/// Bytes of a path or search path; those that a build system wrote into every file of a large suite have a few thousand.
const PATH_BYTES: usize = 32 << 10;
/// Directories of one search path.
const SEARCH_PATH: usize = 512;

/// Bytes of a table of versions in which the walk nearly always ends.
const VERSION_TABLE: u64 = 32 << 10;

/// Bytes before the section headers in which their names are looked for.
const SECTION_NAMES: u64 = 64 << 10;

const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_SYMBOLIC: u64 = 16;
const DT_DEBUG: u64 = 21;
const DT_TEXTREL: u64 = 22;
const DT_BIND_NOW: u64 = 24;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS: u64 = 30;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERDEFNUM: u64 = 0x6fff_fffd;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_VERNEEDNUM: u64 = 0x6fff_ffff;
const DF_1_PIE: u64 = 0x0800_0000;

/// Headers and segments of one file: the way from addresses to bytes.
pub(super) struct Layout<'i, 'b> {
    pub(super) image: &'i Image<'b>,
    pub(super) words: Words,
    pub(super) header: Header,
    pub(super) segments: Vec<ProgramHeader>,
    pub(super) sections: Vec<SectionHeader>,
    section_names: &'b [u8],
}

impl<'i, 'b> Layout<'i, 'b> {
    pub(super) fn new(image: &'i Image<'b>) -> Result<Self, String> {
        let header = Elf::parse_header(image.header()).map_err(|e| e.to_string())?;
        let container = header.container().map_err(|e| e.to_string())?;
        let endian = header.endianness().map_err(|e| e.to_string())?;
        let words = Words { little: endian.is_little(), wide: container.is_big() };
        let ctx = Ctx::new(container, endian);
        let size = ProgramHeader::size(ctx) as u64 * u64::from(header.e_phnum);
        let segments = image.slice(header.e_phoff, size).filter(|bytes| !bytes.is_empty());
        let segments = match segments {
            None if header.e_phnum > 0 => None,
            None => Some(Vec::new()),
            Some(bytes) => ProgramHeader::parse(bytes, 0, usize::from(header.e_phnum), ctx).ok(),
        };
        let segments = segments.ok_or("its program headers lie outside the file")?;
        let sections = sections(image, &header, ctx, container);
        let section_names = sections
            .get(usize::from(header.e_shstrndx))
            .map_or(&[][..], |section| image.slice_up_to(section.sh_offset, section.sh_size));
        Ok(Self { image, words, header, segments, sections, section_names })
    }

    pub(super) fn segment(&self, kind: u32) -> Option<&ProgramHeader> {
        self.segments.iter().find(|segment| segment.p_type == kind)
    }

    pub(super) fn section_name(&self, section: &SectionHeader) -> Option<String> {
        string_at(self.section_names, section.sh_name as u64)
    }

    /// The content of the first section of a name, as far as it is at hand, and no more than `bound` bytes of it.
    pub(super) fn section(&self, name: &str, bound: u64) -> Option<&'b [u8]> {
        let named = |section: &&SectionHeader| {
            section.sh_type != SHT_NOBITS && self.section_name(section).is_some_and(|found| found == name)
        };
        let section = self.sections.iter().find(named)?;
        Some(self.image.slice_up_to(section.sh_offset, section.sh_size.min(bound)))
    }

    /// Everything from an address to the end of its segment, and no more than `bound` bytes of it.
    pub(super) fn at_address(&self, address: u64, bound: u64) -> Option<&'b [u8]> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr)?;
            let left = segment.p_filesz.checked_sub(within).filter(|&left| left > 0)?;
            Some(self.image.slice_up_to(segment.p_offset.checked_add(within)?, left.min(bound)))
        })
    }
}

/// Section headers are a convenience: where they are missing or wrong, there are none.
fn sections(image: &Image<'_>, header: &Header, ctx: Ctx, container: Container) -> Vec<SectionHeader> {
    if header.e_shoff == 0 || header.e_shnum == 0 {
        return Vec::new();
    }
    let size = SectionHeader::size(Ctx::new(container, ctx.le)) as u64;
    let Some(bytes) = image.slice(header.e_shoff, size * u64::from(header.e_shnum)) else {
        return Vec::new();
    };
    // `parse` takes an offset of zero for "no section headers".
    SectionHeader::parse_from(bytes, 0, usize::from(header.e_shnum), ctx).unwrap_or_default()
}

/// The dynamic section's entries, and the string table they point into.
pub(super) struct Dynamic<'b> {
    entries: Vec<(u64, u64)>,
    strings: &'b [u8],
}

impl<'b> Dynamic<'b> {
    fn read(layout: &Layout<'_, 'b>) -> Result<Self, String> {
        let mut dynamic = Self { entries: Vec::new(), strings: &[] };
        let Some(segment) = layout.segment(PT_DYNAMIC) else { return Ok(dynamic) };
        let size = layout.words.size();
        let bytes =
            layout.image.slice_up_to(segment.p_offset, segment.p_filesz.min((ENTRIES * size * 2) as u64));
        if bytes.is_empty() && segment.p_filesz > 0 && !layout.image.is_partial() {
            // Files that hold only debug information keep the header and not the section.
            return Ok(dynamic);
        }
        for entry in bytes.chunks_exact(size * 2).take(ENTRIES) {
            let (Some(tag), Some(value)) = (layout.words.word(entry, 0), layout.words.word(entry, size))
            else {
                break;
            };
            if tag == 0 {
                break;
            }
            dynamic.entries.push((tag, value));
        }
        if let Some(address) = dynamic.value(DT_STRTAB) {
            let size = dynamic.value(DT_STRSZ).unwrap_or(u64::MAX);
            dynamic.strings = layout.at_address(address, size).unwrap_or_default();
        }
        Ok(dynamic)
    }

    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        self.entries.iter().find(|&&(found, _)| found == tag).map(|&(_, value)| value)
    }

    fn has(&self, tag: u64) -> bool {
        self.value(tag).is_some()
    }

    fn string_of(&self, tag: u64, what: &str) -> Result<Option<String>, String> {
        self.value(tag).map(|offset| self.string(offset, what)).transpose()
    }

    fn string(&self, offset: u64, what: &str) -> Result<String, String> {
        string_at(self.strings, offset).ok_or_else(|| format!("its {what} lies outside the string table"))
    }
}

/// A NUL-terminated name in a string table.
pub(super) fn string_at(table: &[u8], offset: u64) -> Option<String> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    terminated(rest, NAME_BYTES)
}

fn terminated(bytes: &[u8], bound: usize) -> Option<String> {
    let window = &bytes[..bytes.len().min(bound)];
    let end = memchr::memchr(0, window)?;
    Some(String::from_utf8_lossy(&window[..end]).into_owned())
}

/// How a file is linked, and nothing more.
pub(super) fn linking(image: &Image<'_>) -> Result<Linking, String> {
    let layout = Layout::new(image)?;
    let dynamic = Dynamic::read(&layout)?;
    let soname = dynamic.string_of(DT_SONAME, "own name")?;
    let interpreter = interpreter(&layout);
    Ok(Linking { machine: machine(layout.header.e_machine), soname, needed: needed(&dynamic)?, interpreter })
}

pub(super) fn read(path: &str, image: &Image<'_>) -> Result<Reading, String> {
    let layout = Layout::new(image)?;
    let dynamic = Dynamic::read(&layout)?;
    let soname = dynamic.string_of(DT_SONAME, "own name")?;
    let interpreter = interpreter(&layout);
    let kind = kind(&layout, &dynamic, interpreter.is_some(), soname.is_some());
    let needed = needed(&dynamic)?;
    let said = notes::read(&layout);
    let go = origin::go(&layout, &said);
    let found = strings::scan(&layout, go.is_some());
    let storage = layout.segment(PT_TLS).map(|segment| segment.p_memsz);
    let is_program = matches!(kind, ElfKind::Executable | ElfKind::Pie);
    let mut facts = ElfFacts {
        path: path.to_owned(),
        class: if layout.words.wide { 64 } else { 32 },
        machine: machine(layout.header.e_machine),
        kind,
        static_linked: is_program && interpreter.is_none() && needed.is_empty(),
        executable_stack: executable_stack(&layout, kind),
        versions_needed: versions_needed(&layout, &dynamic)?,
        versions_defined: versions_defined(&layout, &dynamic)?,
        dlopen_candidates: strings::libraries(found.libraries, &needed, [&soname, &interpreter]),
        rpath: search_path(&dynamic, DT_RPATH, "RPATH")?,
        runpath: search_path(&dynamic, DT_RUNPATH, "RUNPATH")?,
        flags: flags(&dynamic),
        partial: false,
        interpreter,
        soname,
        needed,
        dlopen_notes: said.libraries,
        isa_level: said.isa_level,
        tls_bytes: storage,
        tls_models: tls::models(&layout, &dynamic, kind, storage.is_some()),
        minimum_kernel: said.minimum_kernel,
        libc: None,
        made_with: origin::made_with(&layout, go, found.rust),
        packer: origin::packer(&layout, &found.signs),
        build_id: said.build_id,
        appended: appended::find(&layout),
    };
    facts.libc = origin::libc(&facts, said.android, &found.signs);
    // A file that is read on demand has been asked for everything now.
    let ends_early = ends_early(&layout);
    facts.partial = image.is_partial() || ends_early;
    if facts.static_linked {
        facts.dlopen_candidates.retain(|candidate| !origin::is_of_static_glibc(&candidate.name));
    }
    Ok(Reading { facts, ends_early, paths: found.paths, endpoints: found.endpoints, marks: found.marks })
}

/// Whether a segment that is loaded lies beyond the end of the file. One that holds only debug information keeps the
/// headers of what was taken out of it, and says so of its code (`SHT_NOBITS`).
fn ends_early(layout: &Layout<'_, '_>) -> bool {
    let stripped = |section: &SectionHeader| {
        section.sh_type == SHT_NOBITS && section.sh_flags & u64::from(SHF_EXECINSTR) != 0
    };
    let beyond = |segment: &ProgramHeader| {
        let end = segment.p_offset.saturating_add(segment.p_filesz);
        segment.p_type == PT_LOAD && segment.p_filesz > 0 && end > layout.image.length()
    };
    layout.segments.iter().any(beyond) && !layout.sections.iter().any(stripped)
}

fn needed(dynamic: &Dynamic<'_>) -> Result<Vec<String>, String> {
    let offsets = dynamic.entries.iter().filter(|&&(tag, _)| tag == DT_NEEDED).take(NEEDED);
    offsets.map(|&(_, offset)| dynamic.string(offset, "list of needed libraries")).collect()
}

fn search_path(dynamic: &Dynamic<'_>, tag: u64, what: &str) -> Result<Vec<String>, String> {
    let Some(offset) = dynamic.value(tag) else { return Ok(Vec::new()) };
    let rest =
        usize::try_from(offset).ok().and_then(|offset| dynamic.strings.get(offset..)).unwrap_or_default();
    let text =
        terminated(rest, PATH_BYTES).ok_or_else(|| format!("its {what} lies outside the string table"))?;
    Ok(text
        .split(':')
        .filter(|directory| !directory.is_empty())
        .take(SEARCH_PATH)
        .map(str::to_owned)
        .collect())
}

fn interpreter(layout: &Layout<'_, '_>) -> Option<String> {
    let segment = layout.segment(PT_INTERP)?;
    let size = segment.p_filesz.min(PATH_BYTES as u64);
    terminated(layout.image.slice_up_to(segment.p_offset, size), PATH_BYTES)
}

/// libc is a shared library with an interpreter, and a static PIE has none: the flag decides where the linker set it.
/// Linkers older than the flag still give `DT_DEBUG` to programs only.
fn kind(layout: &Layout<'_, '_>, dynamic: &Dynamic<'_>, interpreter: bool, soname: bool) -> ElfKind {
    match layout.header.e_type {
        header::ET_EXEC => ElfKind::Executable,
        header::ET_REL => ElfKind::Relocatable,
        header::ET_CORE => ElfKind::Core,
        header::ET_DYN if dynamic.value(DT_FLAGS_1).unwrap_or(0) & DF_1_PIE != 0 => ElfKind::Pie,
        header::ET_DYN if (interpreter || dynamic.has(DT_DEBUG)) && !soname => ElfKind::Pie,
        header::ET_DYN => ElfKind::Shared,
        _ => ElfKind::Other,
    }
}

/// Without a `PT_GNU_STACK` the kernel and the loader make the stack executable, except on newer architectures.
fn executable_stack(layout: &Layout<'_, '_>, kind: ElfKind) -> bool {
    if !matches!(kind, ElfKind::Executable | ElfKind::Pie | ElfKind::Shared) {
        return false;
    }
    match layout.segment(PT_GNU_STACK) {
        Some(segment) => segment.p_flags & PF_X != 0,
        None => matches!(layout.header.e_machine, header::EM_386 | header::EM_X86_64 | header::EM_ARM),
    }
}

fn flags(dynamic: &Dynamic<'_>) -> Vec<String> {
    let flags = dynamic.value(DT_FLAGS).unwrap_or(0);
    let flags_1 = dynamic.value(DT_FLAGS_1).unwrap_or(0);
    let named = [
        ("initfirst", flags_1 & 0x20 != 0),
        ("interpose", flags_1 & 0x400 != 0),
        ("nodeflib", flags_1 & 0x800 != 0),
        ("nodelete", flags_1 & 0x8 != 0),
        ("noopen", flags_1 & 0x40 != 0),
        ("now", flags & 0x8 != 0 || flags_1 & 0x1 != 0 || dynamic.has(DT_BIND_NOW)),
        ("origin", flags & 0x1 != 0 || flags_1 & 0x80 != 0),
        ("static-tls", flags & 0x10 != 0),
        ("symbolic", flags & 0x2 != 0 || dynamic.has(DT_SYMBOLIC)),
        ("textrel", flags & 0x4 != 0 || dynamic.has(DT_TEXTREL)),
    ];
    named.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()).collect()
}

fn versions_needed(
    layout: &Layout<'_, '_>,
    dynamic: &Dynamic<'_>,
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let Some(address) = dynamic.value(DT_VERNEED) else { return Ok(BTreeMap::new()) };
    let count = dynamic.value(DT_VERNEEDNUM).unwrap_or(0);
    let found = version_table(layout, address, |table| {
        versions::needed(layout.words, table, count, dynamic.strings)
    })?;
    Ok(found.into_iter().map(|(file, set)| (file, versions::in_order(set))).collect())
}

fn versions_defined(layout: &Layout<'_, '_>, dynamic: &Dynamic<'_>) -> Result<Vec<String>, String> {
    let Some(address) = dynamic.value(DT_VERDEF) else { return Ok(Vec::new()) };
    let count = dynamic.value(DT_VERDEFNUM).unwrap_or(0);
    let found: BTreeSet<String> = version_table(layout, address, |table| {
        versions::defined(layout.words, table, count, dynamic.strings)
    })?;
    Ok(versions::in_order(found))
}

/// Walks a table whose length nothing says. Nearly all end soon; what the walk does not find in the first bytes, it may
/// find in the rest of the segment.
fn version_table<T: Default>(
    layout: &Layout<'_, '_>,
    address: u64,
    walk: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let beginning = layout.at_address(address, VERSION_TABLE).unwrap_or_default();
    if let Ok(found) = walk(beginning) {
        return Ok(found);
    }
    let table = layout.at_address(address, u64::MAX).unwrap_or_default();
    if table.is_empty() && layout.image.is_partial() {
        return Ok(T::default());
    }
    walk(table)
}

pub(crate) fn machine(number: u16) -> String {
    let name = match number {
        header::EM_386 => "i386",
        header::EM_X86_64 => "x86-64",
        header::EM_AARCH64 => "aarch64",
        header::EM_ARM => "arm",
        header::EM_RISCV => "riscv",
        header::EM_PPC64 => "ppc64",
        header::EM_PPC => "ppc",
        header::EM_MIPS => "mips",
        header::EM_S390 => "s390",
        header::EM_IA_64 => "ia64",
        header::EM_SPARCV9 => "sparc64",
        header::EM_BPF => "bpf",
        258 => "loongarch",
        other => return format!("machine-{other}"),
    };
    name.to_owned()
}

/// Machine, and the content of a section by its name.
pub(super) fn section_of_object<'b>(
    bytes: &'b [u8],
    name: &str,
) -> Result<(String, Option<&'b [u8]>), String> {
    let image = Image::whole(bytes);
    let layout = Layout::new(&image)?;
    Ok((machine(layout.header.e_machine), layout.section(name, u64::MAX)))
}

/// Offset and length of what the loader wants of a file whose beginning is at hand, in the order of the file.
pub(super) fn wanted_stretches(head: &[u8]) -> Vec<(u64, u64)> {
    let Ok(layout) =
        Layout::new(&Image::whole(head)).map(|layout| (layout.header, layout.segments, layout.words))
    else {
        return Vec::new();
    };
    let (header, segments, words) = layout;
    let mut wanted: Vec<(u64, u64)> = segments
        .iter()
        .filter(|segment| segment.p_type == PT_DYNAMIC)
        .take(1)
        .map(|segment| (segment.p_offset, segment.p_filesz))
        .collect();
    // The names of the sections usually stand right before their headers, and behind them what is appended.
    let section = if words.wide { 64 } else { 40 };
    let names = header.e_shoff.min(SECTION_NAMES);
    wanted.push((header.e_shoff - names, names + section * u64::from(header.e_shnum) + appended::HEAD));
    wanted.sort_unstable();
    wanted
}
