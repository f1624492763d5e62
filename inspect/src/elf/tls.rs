//! How a file reaches thread-local variables: the TLS models of Ulrich Drepper's "ELF Handling For Thread-Local Storage".
//!
//! Code itself is not looked at. Each model asks the loader for relocations of its own kind, and a program needs none for
//! variables of its own.

use std::collections::BTreeSet;

use goblin::elf::header;
use goblin::elf::reloc;

use super::ElfKind;
use super::dynamic::{Dynamic, Layout};

/// Bytes looked at of one table of relocations, those that only add the load address left out.
const TABLE_BYTES: u64 = 64 << 20;

const DT_PLTRELSZ: u64 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_REL: u64 = 17;
const DT_RELSZ: u64 = 18;
const DT_PLTREL: u64 = 20;
const DT_JMPREL: u64 = 23;
/// How many relocations at the beginning of a table only add the load address.
const DT_RELACOUNT: u64 = 0x6fff_fff9;
const DT_RELCOUNT: u64 = 0x6fff_fffa;

/// The relocations of one machine by which a model shows itself.
struct Kinds {
    /// The number of a module, for `__tls_get_addr`.
    module: &'static [u32],
    /// A distance from the thread pointer.
    thread_pointer: &'static [u32],
    descriptor: &'static [u32],
}

/// RISC-V's, which goblin does not have: RISC-V ELF psABI 1.0, table "Relocation types".
const RISCV: Kinds = Kinds { module: &[6, 7], thread_pointer: &[10, 11], descriptor: &[12] };

fn kinds(machine: u16) -> Option<Kinds> {
    Some(match machine {
        header::EM_X86_64 => Kinds {
            module: &[reloc::R_X86_64_DTPMOD64],
            thread_pointer: &[reloc::R_X86_64_TPOFF64],
            descriptor: &[reloc::R_X86_64_TLSDESC],
        },
        header::EM_386 => Kinds {
            module: &[reloc::R_386_TLS_DTPMOD32],
            thread_pointer: &[reloc::R_386_TLS_TPOFF, reloc::R_386_TLS_TPOFF32],
            descriptor: &[reloc::R_386_TLS_DESC],
        },
        header::EM_AARCH64 => Kinds {
            module: &[reloc::R_AARCH64_TLS_DTPMOD],
            thread_pointer: &[reloc::R_AARCH64_TLS_TPREL],
            descriptor: &[reloc::R_AARCH64_TLSDESC],
        },
        header::EM_ARM => Kinds {
            module: &[reloc::R_ARM_TLS_DTPMOD32],
            thread_pointer: &[reloc::R_ARM_TLS_TPOFF32],
            descriptor: &[reloc::R_ARM_TLS_DESC],
        },
        header::EM_RISCV => RISCV,
        _ => return None,
    })
}

/// The models in use, sorted; empty on machines whose relocations are not known here.
pub(super) fn models(
    layout: &Layout<'_, '_>,
    dynamic: &Dynamic<'_>,
    kind: ElfKind,
    storage: bool,
) -> Vec<String> {
    let Some(kinds) = kinds(layout.header.e_machine) else { return Vec::new() };
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for table in tables(layout, dynamic) {
        note(layout, &table, &kinds, &mut found);
    }
    // What a program accesses of its own the linker has made into a constant distance.
    if storage && found.is_empty() && matches!(kind, ElfKind::Executable | ElfKind::Pie) {
        found.insert("local-exec");
    }
    found.into_iter().map(str::to_owned).collect()
}

/// Relocations of one table, and bytes of one of them.
struct Table<'b> {
    bytes: &'b [u8],
    entry: usize,
}

fn tables<'b>(layout: &Layout<'_, 'b>, dynamic: &Dynamic<'_>) -> Vec<Table<'b>> {
    let word = layout.words.size();
    let (with_addend, without) = (3 * word, 2 * word);
    let plt_entry = if dynamic.value(DT_PLTREL) == Some(DT_REL) { without } else { with_addend };
    let named = [
        (DT_RELA, DT_RELASZ, DT_RELACOUNT, with_addend),
        (DT_REL, DT_RELSZ, DT_RELCOUNT, without),
        (DT_JMPREL, DT_PLTRELSZ, u64::MAX, plt_entry),
    ];
    let table = |(at, size, plain, entry): (u64, u64, u64, usize)| {
        let size = dynamic.value(size)?;
        let plain = dynamic.value(plain).unwrap_or(0).saturating_mul(entry as u64).min(size);
        let address = dynamic.value(at)?.checked_add(plain)?;
        let bytes = layout.at_address(address, (size - plain).min(TABLE_BYTES))?;
        Some(Table { bytes, entry })
    };
    named.into_iter().filter_map(table).collect()
}

fn note(layout: &Layout<'_, '_>, table: &Table<'_>, kinds: &Kinds, found: &mut BTreeSet<&str>) {
    let words = layout.words;
    for entry in table.bytes.chunks_exact(table.entry) {
        let Some(info) = words.word(entry, words.size()) else { break };
        // `ELF64_R_TYPE`, `ELF32_R_TYPE`.
        let (kind, symbol) =
            if words.wide { (info & 0xffff_ffff, info >> 32) } else { (info & 0xff, info >> 8) };
        let is_of = |kinds: &[u32]| kinds.iter().any(|&one| u64::from(one) == kind);
        if is_of(kinds.module) {
            found.insert(if symbol == 0 { "local-dynamic" } else { "general-dynamic" });
        } else if is_of(kinds.thread_pointer) {
            found.insert("initial-exec");
        } else if is_of(kinds.descriptor) {
            found.insert("descriptor");
        }
    }
}
