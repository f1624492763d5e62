//! Programs, libraries, kernel modules and scripts among the members.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::kept::{Buffer, Kept};
use super::{Collector, Member, PATHS};
use crate::archive::{self, Format, Source};
use crate::elf::{self, Constant, ElfKind, Image, Lazy, Reading};
use crate::resolve::Object;
use crate::{Endpoint, Error, HardCodedPath, KernelModuleFacts, ProgramKind, kernel, pe};

/// Endpoints kept of one artifact, and words by which technology is recognised.
const ENDPOINTS: usize = 4096;
const MARKS: usize = 65_536;

impl Collector {
    /// An ELF file that passes by.
    pub(super) fn elf_file(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let Member { archive, path, size, .. } = *member;
        let kept = Kept::read(buffer, content, size, self.limits.object_bytes)
            .map_err(|e| Error::decoding(archive, path, e))?;
        if is_module_name(path) || (is_object(kept.head) && kernel::is_module(kept.head)) {
            self.kernel_module(path, kept.head);
        }
        let source = &mut Source::bytes(Path::new(path), kept.head);
        match elf::read_image(path, &kept.image(size)) {
            Ok(reading) => self.enter_elf(member, reading, source),
            Err(error) => {
                self.omit(path, error.to_string());
                Ok(())
            }
        }
    }

    /// An ELF file of which is read what facts are taken from. All of it is hashed afterwards.
    pub(super) fn elf_on_disk(&mut self, member: &Member<'_>, file: &File) -> Result<(), Error> {
        let Member { archive, path, size, .. } = *member;
        let lazy = Lazy::new(file, size, self.limits.object_bytes);
        let reading = elf::read_image(path, &Image::lazy(&lazy));
        if let Some(failure) = lazy.take_failure() {
            return Err(Error::decoding(archive, path, failure));
        }
        match reading {
            Ok(reading) => self.enter_elf(member, reading, &mut Source::of_file(Path::new(path), file, size)),
            Err(error) => {
                self.omit(path, error.to_string());
                Ok(())
            }
        }
    }

    fn enter_elf(
        &mut self,
        member: &Member<'_>,
        reading: Reading,
        source: &mut Source<'_>,
    ) -> Result<(), Error> {
        let Member { path, entry, size, .. } = *member;
        let Reading { facts, ends_early, paths, endpoints, marks } = reading;
        if facts.partial {
            let reason = if ends_early {
                format!("it is cut: it has {size} bytes, and what is loaded of it lies beyond")
            } else {
                format!("constants beyond its first part were not read: it has {size} bytes")
            };
            self.omit(path, reason);
        }
        let is_program = matches!(facts.kind, ElfKind::Executable | ElfKind::Pie);
        if is_program && (entry.mode & 0o111 != 0 || self.ignores_modes()) {
            self.programs.insert(path.to_owned(), ProgramKind::Elf);
        }
        self.spend(member.archive, facts.weight())?;
        self.enter_constants(member, paths, endpoints, marks)?;
        self.listing.insert_object(path, Arc::new(Object::from(&facts)));
        let has_payload = facts.appended.is_some() || is_program;
        self.elf.insert(path.to_owned(), facts);
        // What is appended to a lone file is looked for in the file itself, which may be larger than memory.
        if has_payload && !self.format.is_lone() {
            self.payloads(path, source)?;
        }
        Ok(())
    }

    /// What was found among the constants of any program.
    fn enter_constants(
        &mut self,
        member: &Member<'_>,
        paths: Vec<Constant>,
        endpoints: Vec<Constant>,
        marks: Vec<Constant>,
    ) -> Result<(), Error> {
        let path = member.path;
        let texts = paths.iter().chain(&endpoints).chain(&marks);
        self.spend(member.archive, texts.map(|c| (c.text.len() + path.len() + 64) as u64).sum::<u64>())?;
        let room = PATHS.saturating_sub(self.paths.len());
        self.note_cut("hard_coded_paths", paths.len(), room, PATHS);
        self.paths.extend(paths.into_iter().take(room).map(|c| HardCodedPath {
            path: c.text,
            file: path.to_owned(),
            offset: c.offset,
        }));
        let room = ENDPOINTS.saturating_sub(self.endpoints.len());
        self.note_cut("endpoints", endpoints.len(), room, ENDPOINTS);
        self.endpoints.extend(endpoints.into_iter().take(room).map(|c| Endpoint {
            text: c.text,
            file: path.to_owned(),
            offset: c.offset,
        }));
        let room = MARKS.saturating_sub(self.marks.len());
        self.marks.extend(marks.into_iter().take(room).map(|mark| (path.to_owned(), mark)));
        Ok(())
    }

    /// Says once that a list was cut.
    fn note_cut(&mut self, list: &str, found: usize, room: usize, limit: usize) {
        if found > room && !self.omitted.iter().any(|omission| omission.what == list) {
            self.omit(list, format!("only the first {limit} are listed"));
        }
    }

    /// A kernel module, unpacked. One that cannot be read is a kernel module all the same.
    pub(super) fn kernel_module(&mut self, path: &str, bytes: &[u8]) {
        let facts = kernel::read(path, bytes).unwrap_or_else(|reason| {
            self.omit(path, reason);
            KernelModuleFacts { path: path.to_owned(), ..KernelModuleFacts::default() }
        });
        self.kernel_modules.insert(path.to_owned(), facts);
    }

    /// A kernel module in the compressed form in which distributions keep them.
    pub(super) fn packed_module(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let bound = self.limits.object_bytes;
        member.read_up_to(buffer, content, bound)?;
        let unpacked = archive::unpacked_head(buffer.content(), usize::try_from(bound).unwrap_or(usize::MAX));
        self.kernel_module(member.path, &unpacked);
        Ok(())
    }

    pub(super) fn pe_file(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let Member { archive, path, size, .. } = *member;
        // The appended payload of a lone installer is read from the file; only the program itself is wanted here.
        let bound = self.limits.object_bytes;
        if size > bound && !self.format.is_lone() {
            self.omit(path, format!("it looks like a Windows program of {size} bytes, too large to be read"));
            return Ok(());
        }
        member.read_up_to(buffer, content, bound)?;
        let bytes = buffer.content();
        let reading = match pe::read(path, bytes, size) {
            Ok(reading) => reading,
            Err(reason) => {
                self.omit(path, reason);
                return Ok(());
            }
        };
        self.spend(archive, pe::weight(&reading))?;
        let pe::Reading { facts, constants } = reading;
        self.enter_constants(member, constants.paths, constants.endpoints, constants.marks)?;
        if !facts.library && !facts.driver {
            self.programs.insert(path.to_owned(), ProgramKind::Pe);
        }
        let has_payload = facts.appended.is_some();
        self.pe.insert(path.to_owned(), facts);
        if has_payload && !self.format.is_lone() {
            self.payloads(path, &mut Source::bytes(Path::new(path), bytes))?;
        }
        Ok(())
    }

    pub(super) fn script_file(
        &mut self,
        member: &Member<'_>,
        interpreter: String,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let Member { path, entry, size, .. } = *member;
        let startable = entry.mode & 0o111 != 0 || self.format.is_lone();
        if startable {
            self.programs.insert(path.to_owned(), ProgramKind::Script { interpreter });
        }
        if self.format.is_lone() {
            return Ok(());
        }
        self.installer_script(member, buffer, content)?;
        if size <= buffer.content().len() as u64 {
            return Ok(());
        }
        if size > self.limits.nested_bytes {
            self.unopened(path, size, Format::Script, "it is too large to look for what is appended to it");
            return Ok(());
        }
        member.read_up_to(buffer, content, size)?;
        self.payloads(path, &mut Source::bytes(Path::new(path), buffer.content()))
    }
}

/// Whether an ELF file may be a kernel module, by its name or because it is one of those that a linker reads.
pub(super) fn may_be_module(path: &str, head: &[u8]) -> bool {
    is_module_name(path) || is_object(head)
}

/// An object file (`ET_REL`), which kernel modules are.
fn is_object(head: &[u8]) -> bool {
    let kind = if head.get(5) == Some(&2) { [0, 1] } else { [1, 0] };
    head.get(16..18) == Some(&kind)
}

/// Whether a file is called like a kernel module.
fn is_module_name(path: &str) -> bool {
    path.ends_with(".ko")
}

/// Whether a file is called like a kernel module and is not one as it stands: compressed, or damaged.
pub(super) fn is_packed_module(path: &str, head: &[u8]) -> bool {
    let packed = [".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|ending| path.ends_with(ending));
    packed || (is_module_name(path) && !head.starts_with(b"\x7fELF"))
}
