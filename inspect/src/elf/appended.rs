//! Data behind everything the headers speak of.

use goblin::elf::section_header::{SHT_NOBITS, SHT_NULL};

use super::dynamic::Layout;
use super::image::Image;
use crate::Appended;
use crate::appended::name_of;

/// Bytes looked at to tell what is appended: the first volume descriptor of an ISO image stands at 32 KiB.
pub(super) const HEAD: u64 = 64 << 10;
/// Fewer bytes than this are what a linker or a signing tool aligned the file to, not a payload.
const ALIGNMENT: u64 = 16;
/// Bytes of padding looked through.
const PADDING: u64 = 256 << 20;
/// What [`name_of`] says of bytes it does not know.
const UNKNOWN: &str = "data";
/// How a signed kernel module ends (Linux, `include/linux/module_signature.h`).
const MODULE_SIGNATURE: &[u8] = b"~Module signature appended~\n";

/// Finds what lies behind the last segment, the last section and the section headers. Padding with zeros is nothing.
pub(super) fn find(layout: &Layout<'_, '_>) -> Option<Appended> {
    let length = layout.image.length();
    let end = end(layout).min(length);
    if length - end < ALIGNMENT {
        return None;
    }
    let image = layout.image;
    let padding = image.zeros(end, PADDING);
    if padding == length - end {
        return None;
    }
    let at_hand = image.at_hand(end);
    if at_hand == length - end && ends_with_signature(image, end) {
        return Some(Appended { offset: end, size: length - end, what: "module-signature".to_owned() });
    }
    // An ISO image begins with zeros, and so does the padding before a payload that is aligned.
    let what = name_of(image.slice_up_to(end, HEAD));
    let skipped = if what == UNKNOWN && padding < at_hand { padding } else { 0 };
    let offset = end.saturating_add(skipped);
    let what = if skipped > 0 { name_of(image.slice_up_to(offset, HEAD)) } else { what };
    (length.saturating_sub(offset) >= ALIGNMENT).then(|| Appended {
        offset,
        size: length.saturating_sub(offset),
        what: what.to_owned(),
    })
}

fn ends_with_signature(image: &Image<'_>, end: u64) -> bool {
    let size = MODULE_SIGNATURE.len() as u64;
    let at = image.length().checked_sub(size).filter(|&at| at >= end);
    at.and_then(|at| image.slice(at, size)) == Some(MODULE_SIGNATURE)
}

/// The first byte that neither program headers, section headers nor what they describe reach.
///
/// A claim of section headers beyond the end of the file is not believed: the loader does not look at them, and a
/// protector garbles them.
fn end(layout: &Layout<'_, '_>) -> u64 {
    let length = layout.image.length();
    let header = &layout.header;
    let table = |offset: u64, size: u16, count: u16| {
        if count == 0 { 0 } else { offset.saturating_add(u64::from(size) * u64::from(count)) }
    };
    let segments = layout.segments.iter().filter(|segment| segment.p_filesz > 0);
    let segments = segments.map(|segment| segment.p_offset.saturating_add(segment.p_filesz));
    let in_file = layout.sections.iter().filter(|one| !matches!(one.sh_type, SHT_NOBITS | SHT_NULL));
    let sections = in_file.map(|section| section.sh_offset.saturating_add(section.sh_size));
    let section_headers = table(header.e_shoff, header.e_shentsize, header.e_shnum);
    let believed = sections.chain([section_headers]).filter(|&end| end <= length);
    let loaded = segments.chain([table(header.e_phoff, header.e_phentsize, header.e_phnum)]);
    loaded.chain(believed).chain([u64::from(header.e_ehsize)]).max().unwrap_or(0)
}
