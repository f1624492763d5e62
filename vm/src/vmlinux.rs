//! The kernel itself, out of the image that unpacks it when a machine is started.
//!
//! In software emulation a guest's start spends more than a second on that, for the same bytes each time. QEMU can begin with
//! the kernel itself, at the entry it has for Xen's PVH. What such a start leaves out is the place in memory that the image
//! draws by lot (KASLR). Sources: the kernel's Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; Xen's
//! `xen/include/public/elfnote.h`; LZ4's `lz4_Frame_format.md`, "Legacy frame".

use std::io::Read;

use goblin::elf::Elf;
use goblin::elf::header::{EM_X86_64, ET_EXEC};
use hatchway_inspect::archive::{self, Compression, Limits};

/// Offsets in the image, and what is there.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The version of the header that has a payload.
const VERSION_MIN: u16 = 0x208;
const SECTOR: usize = 512;
/// Sectors where the header says none.
const SETUP_SECTORS_DEFAULT: u8 = 4;
/// Behind the payload the kernel's build writes how large it is unpacked; `gzip` has that at its own end.
const SIZE: usize = 4;
/// Bytes of a kernel: Debian's have 50 to 70 MB.
const KERNEL_MAX: usize = 256 << 20;
/// How LZ4 begins as the kernel's build writes it, and the bytes of one of its blocks.
const LZ4: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
const LZ4_BLOCK: usize = 8 << 20;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const ENTRY: (&str, u32) = ("Xen", 18);

/// The kernel in `image`; none where it is packed in a way that is not known here, or has no entry for QEMU. Such an image
/// starts as it is.
pub(crate) fn of(image: &[u8]) -> Option<Vec<u8>> {
    let payload = payload(image)?;
    let (packed, size) = payload.split_at_checked(payload.len().checked_sub(SIZE)?)?;
    let size = usize::try_from(u32::from_le_bytes(size.try_into().ok()?)).ok()?;
    if size > KERNEL_MAX {
        return None;
    }
    let kernel = match packed {
        [0x1f, 0x8b, ..] => unpacked(payload, Compression::Gzip, size),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unpacked(packed, Compression::Xz, size),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => unpacked(packed, Compression::Zstd, size),
        _ => lz4(packed.strip_prefix(LZ4)?, size),
    }?;
    (kernel.len() == size && has_entry(&kernel)).then_some(kernel)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let version = u16::from_le_bytes(image.get(VERSION..VERSION + 2)?.try_into().ok()?);
    if !image.get(MAGIC.0..)?.starts_with(MAGIC.1) || version < VERSION_MIN {
        return None;
    }
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    };
    let start = (usize::from(sectors) + 1) * SECTOR;
    let start = start.checked_add(usize::try_from(word(PAYLOAD_OFFSET)?).ok()?)?;
    let end = start.checked_add(usize::try_from(word(PAYLOAD_LENGTH)?).ok()?)?;
    image.get(start..end)
}

/// At most one byte more than it is to have.
fn unpacked(packed: &[u8], compression: Compression, size: usize) -> Option<Vec<u8>> {
    let reader = archive::decompressed(packed, compression, &Limits::default()).ok()?;
    let mut kernel = Vec::new();
    reader.take(size as u64 + 1).read_to_end(&mut kernel).ok()?;
    Some(kernel)
}

/// Blocks, each behind its length, up to the end.
fn lz4(mut blocks: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut kernel = vec![0; size];
    let mut filled = 0;
    while let Some((length, rest)) = blocks.split_first_chunk() {
        let (block, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let room = kernel.get_mut(filled..)?;
        let most = room.len().min(LZ4_BLOCK);
        filled += lz4_flex::block::decompress_into(block, room.get_mut(..most)?).ok()?;
        blocks = rest;
    }
    (filled == size && blocks.is_empty()).then_some(kernel)
}

/// Whether QEMU can begin in it.
fn has_entry(kernel: &[u8]) -> bool {
    let Ok(elf) = Elf::parse(kernel) else { return false };
    let fits =
        elf.is_64 && elf.little_endian && elf.header.e_machine == EM_X86_64 && elf.header.e_type == ET_EXEC;
    let mut notes = elf.iter_note_headers(kernel).into_iter().flatten().flatten();
    fits && notes.any(|note| (note.name, note.n_type) == ENTRY && matches!(note.desc.len(), 4 | 8))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use proptest::prelude::*;

    /// A kernel with one note, of this name, and this many bytes behind it.
    fn kernel(note: &[u8; 4], more: usize) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([2_u16, 62].iter().flat_map(|number| number.to_le_bytes()));
        elf.extend(1_u32.to_le_bytes());
        elf.extend([0_u64, 64, 0].iter().flat_map(|number| number.to_le_bytes()));
        elf.extend(0_u32.to_le_bytes());
        elf.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|number| number.to_le_bytes()));
        // The one segment: notes, 20 bytes behind the two headers.
        elf.extend([4_u32, 4].iter().flat_map(|number| number.to_le_bytes()));
        elf.extend([120_u64, 120, 120, 20, 20, 4].iter().flat_map(|number| number.to_le_bytes()));
        elf.extend([4_u32, 4, 18].iter().flat_map(|number| number.to_le_bytes()));
        elf.extend(note);
        elf.extend(0x0100_0000_u32.to_le_bytes());
        elf.extend((0..more).map(|at| u8::try_from(at % 251).unwrap()));
        elf
    }

    /// An image with what is packed behind a header and a sector of setup.
    fn image(packed: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTORS] = 1;
        image[MAGIC.0..MAGIC.0 + 4].copy_from_slice(MAGIC.1);
        image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&3_u32.to_le_bytes());
        let length = u32::try_from(packed.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend(b"...");
        image.extend(packed);
        image.extend(b"the rest");
        image
    }

    fn sized(mut packed: Vec<u8>, size: usize) -> Vec<u8> {
        packed.extend(u32::try_from(size).unwrap().to_le_bytes());
        packed
    }

    fn lz4_of(kernel: &[u8]) -> Vec<u8> {
        let mut packed = LZ4.to_vec();
        for block in kernel.chunks(LZ4_BLOCK) {
            let block = lz4_flex::block::compress(block);
            packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            packed.extend(block);
        }
        packed
    }

    fn by(command: &[&str], kernel: &[u8]) -> Vec<u8> {
        let (input, output) = (Stdio::piped(), Stdio::piped());
        let mut child =
            Command::new(command[0]).args(&command[1..]).stdin(input).stdout(output).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(kernel).unwrap());
            child.wait_with_output().unwrap().stdout
        })
    }

    #[test]
    fn a_kernel_comes_out_as_it_was_packed() {
        // Two blocks of LZ4's.
        let kernel = kernel(b"Xen\0", LZ4_BLOCK + 4711);
        let size = kernel.len();
        let xz = ["xz", "--check=crc32", "--x86", "--lzma2"];
        for packed in
            [sized(lz4_of(&kernel), size), sized(by(&xz, &kernel), size), by(&["gzip", "-n"], &kernel)]
        {
            assert!(of(&image(&packed)).unwrap() == kernel, "{:02x?}", &packed[..4]);
        }
    }

    #[test]
    fn what_is_not_known_starts_as_it_is() {
        let whole = kernel(b"Xen\0", 100);
        let size = whole.len();
        let good = image(&sized(lz4_of(&whole), size));
        assert!(of(&good).is_some());
        let changed = |at: usize, byte: u8| {
            let mut image = good.clone();
            image[at] = byte;
            of(&image)
        };
        let (payload, end) = (2 * SECTOR + 3, good.len() - b"the rest".len());
        assert_eq!(changed(MAGIC.0, b'h'), None, "no header");
        assert_eq!(changed(VERSION, 7), None, "a header without a payload");
        assert_eq!(changed(PAYLOAD_LENGTH + 3, 1), None, "a payload beyond the end");
        assert_eq!(changed(payload, 3), None, "another compression");
        assert_eq!(changed(payload + 4, 1), None, "a block that ends early");
        assert_eq!(changed(end - SIZE, 0), None, "another size");
        assert_eq!(changed(end - 1, 255), None, "more than any kernel has");
        let other = kernel(b"Xem\0", 100);
        assert_eq!(of(&image(&sized(lz4_of(&other), size))), None, "no entry");
        assert_eq!(of(&image(&sized(lz4_of(b"a text"), 6))), None, "no program");
    }

    proptest! {
        #[test]
        fn any_image_is_survived(changes in prop::collection::vec((0..2000_usize, any::<u8>()), 1..20)) {
            let kernel = kernel(b"Xen\0", 700);
            let mut image = image(&sized(lz4_of(&kernel), kernel.len()));
            for (at, byte) in changes {
                let at = at % image.len();
                image[at] = byte;
            }
            drop(of(&image));
        }
    }
}
