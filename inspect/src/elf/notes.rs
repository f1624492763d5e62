//! Notes: build id, ABI, processor level, and what a file says it loads at run time.

use goblin::elf::program_header::PT_NOTE;
use goblin::elf::section_header::SHT_NOTE;
use serde::Deserialize;

use super::DlopenNote;
use super::dynamic::Layout;
use super::image::Words;

/// Notes looked at in one file.
const NOTES: usize = 1024;
/// Segments and sections of notes looked at in one file.
const STRETCHES: usize = 64;
/// Bytes of one stretch of notes.
const STRETCH_BYTES: u64 = 1 << 20;

/// Bytes of a build id worth keeping: the linkers write 8 (fast hashes) to 32 (SHA-256), `--build-id=0x…` any number.
const BUILD_ID_BYTES: usize = 64;

// Types of notes of the owner `GNU` (elf.h, "Defined note types for GNU systems").
const NT_GNU_ABI_TAG: u32 = 1;
const NT_GNU_BUILD_ID: u32 = 3;
const NT_GNU_PROPERTY: u32 = 5;
/// The first word of an ABI tag: 0 is Linux (LSB Core, section "Vendor-specific ELF Note Elements").
const ABI_LINUX: u32 = 0;
/// Of the owner `Android`: bionic's `crtbegin` names the API level with it.
const NT_ANDROID_IDENT: u32 = 1;
/// Of the owner `Go` (cmd/internal/buildid).
const NT_GO_BUILDID: u32 = 4;
const NT_FDO_DLOPEN: u32 = 0x407c_0c0a;
const X86_ISA_1_NEEDED: u32 = 0xc000_8002;

/// What the notes of a file say.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) isa_level: Option<String>,
    /// Libraries loaded at run time, sorted, without duplicates.
    pub(super) libraries: Vec<DlopenNote>,
    pub(super) build_id: Option<String>,
    pub(super) minimum_kernel: Option<String>,
    /// Made for bionic.
    pub(super) android: bool,
    /// Linked by the Go toolchain.
    pub(super) go: bool,
}

/// Reads all notes; of a kind that should be there once, the first counts.
pub(super) fn read(layout: &Layout<'_, '_>) -> Said {
    let mut isa = 0_u32;
    let mut said = Said::default();
    for (bytes, align) in stretches(layout) {
        for note in (Notes { words: layout.words, bytes, align }).take(NOTES) {
            match (note.name, note.kind) {
                (b"GNU", NT_GNU_PROPERTY) => isa |= isa_needed(layout.words, note.content),
                (b"GNU", NT_GNU_BUILD_ID) if said.build_id.is_none() => {
                    said.build_id = build_id(note.content);
                }
                (b"GNU", NT_GNU_ABI_TAG) if said.minimum_kernel.is_none() => {
                    said.minimum_kernel = minimum_kernel(layout.words, note.content);
                }
                (b"FDO", NT_FDO_DLOPEN) => said.libraries.extend(dlopen(note.content)),
                (b"Android", NT_ANDROID_IDENT) => said.android = true,
                // The owner is padded to four bytes.
                (b"Go" | b"Go\0", NT_GO_BUILDID) => said.go = true,
                _ => {}
            }
        }
    }
    // Segments and sections describe the same bytes twice.
    said.libraries.sort();
    said.libraries.dedup();
    said.isa_level = isa_name(isa);
    said
}

fn build_id(content: &[u8]) -> Option<String> {
    (!content.is_empty() && content.len() <= BUILD_ID_BYTES).then(|| crate::scripts::hex(content))
}

/// The oldest kernel that the C library the file was linked with runs on, if that kernel is Linux.
fn minimum_kernel(words: Words, content: &[u8]) -> Option<String> {
    let word = |index: usize| words.u32(content, index * 4);
    (word(0)? == ABI_LINUX).then_some(())?;
    Some(format!("{}.{}.{}", word(1)?, word(2)?, word(3)?))
}

fn stretches<'b>(layout: &Layout<'_, 'b>) -> Vec<(&'b [u8], usize)> {
    let align = |claimed: u64| if claimed == 8 { 8 } else { 4 };
    let segments = layout.segments.iter().filter(|segment| segment.p_type == PT_NOTE);
    let segments = segments.map(|segment| (segment.p_offset, segment.p_filesz, align(segment.p_align)));
    // Notes that are not loaded have a section only.
    let sections = layout.sections.iter().filter(|section| section.sh_type == SHT_NOTE);
    let sections = sections.map(|section| (section.sh_offset, section.sh_size, align(section.sh_addralign)));
    segments
        .chain(sections)
        .take(STRETCHES)
        .map(|(offset, size, align)| (layout.image.slice_up_to(offset, size.min(STRETCH_BYTES)), align))
        .collect()
}

struct Note<'b> {
    name: &'b [u8],
    kind: u32,
    content: &'b [u8],
}

struct Notes<'b> {
    words: Words,
    bytes: &'b [u8],
    align: usize,
}

impl<'b> Iterator for Notes<'b> {
    type Item = Note<'b>;

    fn next(&mut self) -> Option<Note<'b>> {
        let name_size = usize::try_from(self.words.u32(self.bytes, 0)?).ok()?;
        let content_size = usize::try_from(self.words.u32(self.bytes, 4)?).ok()?;
        let kind = self.words.u32(self.bytes, 8)?;
        let name = self.bytes.get(12..12_usize.checked_add(name_size)?)?;
        let start = (12 + name_size).checked_next_multiple_of(self.align)?;
        let end = start.checked_add(content_size)?;
        let content = self.bytes.get(start..end)?;
        let next = end.checked_next_multiple_of(self.align)?;
        self.bytes = self.bytes.get(next..).unwrap_or_default();
        Some(Note { name: name.strip_suffix(b"\0").unwrap_or(name), kind, content })
    }
}

fn isa_needed(words: Words, mut properties: &[u8]) -> u32 {
    let mut needed = 0;
    while let (Some(kind), Some(size)) = (words.u32(properties, 0), words.u32(properties, 4)) {
        if kind == X86_ISA_1_NEEDED
            && size == 4
            && let Some(bits) = words.u32(properties, 8)
        {
            needed |= bits;
        }
        let Some(step) =
            usize::try_from(size).ok().and_then(|size| size.checked_next_multiple_of(words.size()))
        else {
            break;
        };
        properties = properties.get(step.saturating_add(8)..).unwrap_or_default();
    }
    needed
}

fn isa_name(bits: u32) -> Option<String> {
    let name = match 32 - bits.leading_zeros() {
        // Every x86-64 processor has the first level.
        0 | 1 => return None,
        2 => "x86-64-v2",
        3 => "x86-64-v3",
        4 => "x86-64-v4",
        _ => return Some(format!("x86-64-isa-{bits:#x}")),
    };
    Some(name.to_owned())
}

/// One element of the note's JSON array. Keys a later version of that specification may add are ignored.
#[derive(Deserialize)]
struct Described {
    feature: Option<String>,
    description: Option<String>,
    priority: Option<String>,
    #[serde(default)]
    soname: Vec<String>,
}

fn dlopen(content: &[u8]) -> Vec<DlopenNote> {
    let text = content.split(|&byte| byte == 0).next().unwrap_or_default();
    let described: Vec<Described> = serde_json::from_slice(text).unwrap_or_default();
    described
        .into_iter()
        .take(NOTES)
        .map(|one| DlopenNote {
            feature: one.feature,
            description: one.description,
            priority: one.priority,
            sonames: one.soname,
        })
        .collect()
}
