//! One walk over an artifact, gathering facts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::archive::{self, Entry, EntryKind, Format, Limits, Part};
use crate::elf::{self, ElfKind, Image};
use crate::resolve::{self, Listing, Node, Object};
use crate::scripts::{self, hex};
use crate::system::{self, Role};
use crate::{
    ArtifactFacts, Dropped, DroppedWhat, Error, Facts, FileCounts, HardCodedPath, LdSoConf, Omission,
    PackageFacts, Program, ProgramKind, SCHEMA, SystemFacts, needs, package, pe,
};

/// Bytes read of every file to tell what it is.
const HEAD: usize = 4096;
/// Bytes at the beginning of a file too large to be held: program headers, dynamic symbols and most constants are there.
const LARGE_HEAD: u64 = 64 << 20;
/// Bytes of one later stretch kept of such a file.
const LARGE_STRETCH: u64 = 16 << 20;
/// Hard-coded paths kept of one artifact.
const PATHS: usize = 4096;
/// Omissions listed; a package of damaged programs would otherwise be described at length.
const OMISSIONS: usize = 1024;

const ON_PATH: [&str; 7] =
    ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/games"];

pub(crate) fn inspect(path: &Path, limits: &Limits) -> Result<Facts, Error> {
    let format = archive::detect(path)?;
    let mut collector = Collector::new(format, limits);
    archive::walk(path, limits, &mut |part, entry, content| collector.entry(path, part, entry, content))?;
    if format == Format::Deb && collector.package.is_none() {
        return Err(Error::corrupt(path, "its control archive has no `control` file"));
    }
    let artifact = artifact(path, format, &mut collector)?;
    Ok(collector.finish(artifact))
}

fn artifact(path: &Path, format: Format, collector: &mut Collector<'_>) -> Result<ArtifactFacts, Error> {
    let resolved = if path.file_name().is_some() {
        path.to_path_buf()
    } else {
        std::fs::canonicalize(path).unwrap_or_default()
    };
    let file = resolved.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (sha256, size) = if format == Format::Directory {
        (hex(&std::mem::take(&mut collector.digest).finalize()), collector.files.bytes)
    } else {
        digest_file(path)?
    };
    Ok(ArtifactFacts { file, sha256, size, format: format.to_string() })
}

fn digest_file(path: &Path) -> Result<(String, u64), Error> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hex(&hasher.finalize()), size)),
            Ok(got) => {
                hasher.update(&buffer[..got]);
                size += got as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(path, e)),
        }
    }
}

/// Facts in the making.
struct Collector<'l> {
    limits: &'l Limits,
    format: Format,
    digest: Sha256,
    files: FileCounts,
    package: Option<PackageFacts>,
    tags: Vec<String>,
    programs: BTreeMap<String, ProgramKind>,
    elf: BTreeMap<String, elf::ElfFacts>,
    pe: BTreeMap<String, crate::PeFacts>,
    scripts: BTreeMap<String, crate::ScriptFacts>,
    dropped: Vec<Dropped>,
    system: SystemFacts,
    paths: Vec<HardCodedPath>,
    omitted: Vec<Omission>,
    listing: Listing,
    hardlinks: Vec<(String, String)>,
    /// Roughly the memory of all of the above.
    weight: u64,
}

impl<'l> Collector<'l> {
    fn new(format: Format, limits: &'l Limits) -> Self {
        Self {
            limits,
            format,
            digest: Sha256::new(),
            files: FileCounts::default(),
            package: None,
            tags: Vec::new(),
            programs: BTreeMap::new(),
            elf: BTreeMap::new(),
            pe: BTreeMap::new(),
            scripts: BTreeMap::new(),
            dropped: Vec::new(),
            system: SystemFacts::default(),
            paths: Vec::new(),
            omitted: Vec::new(),
            listing: Listing::default(),
            hardlinks: Vec::new(),
            weight: 0,
        }
    }

    fn entry(
        &mut self,
        archive: &Path,
        part: Part,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        if part == Part::Control {
            return self.control(archive, entry, content);
        }
        let path = entry.path.absolute();
        self.spend(archive, entry_weight(&path, &entry.kind))?;
        self.note_dropped(&path, entry);
        self.note_role(entry.path.as_str(), &entry.kind);
        let mut content = Hashed { content, hasher: (self.format == Format::Directory).then(Sha256::new) };
        match &entry.kind {
            EntryKind::Directory => {
                self.files.directories += 1;
                self.listing.insert(&path, Node::Directory);
            }
            EntryKind::File { size } => {
                self.files.files += 1;
                self.files.bytes += size;
                if self.listing.contains(&path) {
                    self.forget(&path);
                }
                self.listing.insert(&path, Node::File);
                self.file(archive, &path, entry, *size, &mut content)?;
                io::copy(&mut content, &mut io::sink()).map_err(|e| Error::decoding(archive, &path, e))?;
            }
            EntryKind::Symlink { target } => {
                self.files.symlinks += 1;
                self.listing.insert(&path, Node::Symlink(target.clone()));
            }
            EntryKind::Hardlink { target } => {
                self.files.hardlinks += 1;
                self.listing.insert(&path, Node::File);
                self.hardlinks.push((path, target.absolute()));
            }
            EntryKind::Device { .. } | EntryKind::Fifo | EntryKind::Socket => self.files.special += 1,
        }
        if let Some(hasher) = content.hasher {
            self.digest_entry(entry, &hasher.finalize());
        }
        Ok(())
    }

    /// Counts memory that facts will take.
    fn spend(&mut self, archive: &Path, bytes: u64) -> Result<(), Error> {
        self.weight = self.weight.saturating_add(bytes);
        if self.weight > self.limits.facts_bytes {
            return Err(Error::limit(archive, "memory for its facts", self.limits.facts_bytes));
        }
        Ok(())
    }

    /// A file that appears twice replaces the earlier one, as it does when the archive is unpacked.
    fn forget(&mut self, path: &str) {
        self.elf.remove(path);
        self.pe.remove(path);
        self.programs.remove(path);
        self.paths.retain(|hard_coded| hard_coded.file != path);
        self.hardlinks.retain(|(link, _)| link != path);
    }

    fn digest_entry(&mut self, entry: &Entry, content: &[u8]) {
        let (kind, last) = match &entry.kind {
            EntryKind::Directory => ("d", String::new()),
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => ("f", hex(content)),
            EntryKind::Symlink { target } => ("l", target.clone()),
            _ => ("s", String::new()),
        };
        self.digest.update(format!("{kind}\0{:o}\0{}\0{last}\n", entry.mode, entry.path));
    }

    fn note_dropped(&mut self, path: &str, entry: &Entry) {
        let mut note =
            |what, detail: String| self.dropped.push(Dropped { path: path.to_owned(), what, detail });
        if entry.mode & 0o4000 != 0 && entry.kind != EntryKind::Directory {
            note(DroppedWhat::Setuid, format!("{:04o}", entry.mode));
        }
        if entry.mode & 0o2000 != 0 {
            note(DroppedWhat::Setgid, format!("{:04o}", entry.mode));
        }
        if entry.xattrs {
            note(DroppedWhat::Xattrs, entry.xattr_names.join(", "));
        }
        match entry.kind {
            EntryKind::Device { block: true, major, minor } => {
                note(DroppedWhat::BlockDevice, format!("{major}:{minor}"));
            }
            EntryKind::Device { major, minor, .. } => {
                note(DroppedWhat::CharacterDevice, format!("{major}:{minor}"));
            }
            EntryKind::Fifo => note(DroppedWhat::Fifo, String::new()),
            EntryKind::Socket => note(DroppedWhat::Socket, String::new()),
            _ => {}
        }
    }

    fn note_role(&mut self, path: &str, kind: &EntryKind) {
        if matches!(kind, EntryKind::File { .. } | EntryKind::Symlink { .. } | EntryKind::Hardlink { .. })
            && let Some(role) = system::role(path)
        {
            system::enter(&mut self.system, role, format!("/{path}"));
        }
    }

    fn omit(&mut self, what: &str, reason: impl Into<String>) {
        if self.omitted.len() < OMISSIONS {
            self.omitted.push(Omission { what: what.to_owned(), reason: reason.into() });
        }
    }

    /// A member of a package's `control.tar`.
    fn control(&mut self, archive: &Path, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let name = entry.path.as_str();
        if !(matches!(name, "control" | "conffiles") || scripts::is_script(name)) {
            return Ok(());
        }
        if size > self.limits.control_bytes {
            return Err(Error::limit(
                archive,
                format!("size of `{name}` ({size} bytes)"),
                self.limits.control_bytes,
            ));
        }
        let bytes = read_all(archive, name, content)?;
        match name {
            "control" => self.package = Some(package::deb(&String::from_utf8_lossy(&bytes))?),
            "conffiles" => self.system.conffiles = conffiles(&String::from_utf8_lossy(&bytes)),
            _ => {
                self.scripts.insert(name.to_owned(), scripts::read(name, &bytes));
            }
        }
        Ok(())
    }

    /// A regular file of the data.
    fn file(
        &mut self,
        archive: &Path,
        path: &str,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        if self.is_read_whole(&entry.path) {
            return self.metadata_file(archive, entry, size, content);
        }
        let mut head = Vec::new();
        content.take(HEAD as u64).read_to_end(&mut head).map_err(|e| Error::decoding(archive, path, e))?;
        if head.starts_with(b"\x7fELF") {
            return self.elf_file(archive, path, entry, size, (head, content));
        }
        if head.starts_with(b"MZ") {
            return self.pe_file(archive, path, size, (head, content));
        }
        if let Some(interpreter) = scripts::interpreter(&head)
            && (entry.mode & 0o111 != 0 || self.is_lone())
        {
            self.programs.insert(path.to_owned(), ProgramKind::Script { interpreter });
        }
        Ok(())
    }

    /// Formats without Unix modes, and a downloaded file, do not say what may be started.
    fn is_lone(&self) -> bool {
        !matches!(self.format, Format::Deb | Format::Tar(_) | Format::Directory | Format::Zip | Format::Wheel)
    }

    fn ignores_modes(&self) -> bool {
        self.is_lone() || matches!(self.format, Format::Zip | Format::Wheel)
    }

    fn is_read_whole(&self, path: &archive::MemberPath) -> bool {
        system::role(path.as_str()) == Some(Role::LdSoConf) || self.wheel_member(path).is_some()
    }

    /// `METADATA` or `WHEEL` in the one `.dist-info` directory of a wheel.
    fn wheel_member<'p>(&self, path: &'p archive::MemberPath) -> Option<&'p str> {
        let (directory, name) = path.as_str().split_once('/')?;
        let is_metadata = directory.ends_with(".dist-info") && matches!(name, "METADATA" | "WHEEL");
        (self.format == Format::Wheel && is_metadata).then_some(name)
    }

    fn metadata_file(
        &mut self,
        archive: &Path,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let path = entry.path.as_str();
        if size > self.limits.control_bytes {
            return Err(Error::limit(
                archive,
                format!("size of `{path}` ({size} bytes)"),
                self.limits.control_bytes,
            ));
        }
        let bytes = read_all(archive, path, content)?;
        let text = String::from_utf8_lossy(&bytes);
        match self.wheel_member(&entry.path) {
            Some("METADATA") => self.package = Some(package::wheel(path, &text)?),
            Some(_) => self.tags = package::wheel_tags(path, &text)?,
            None => {
                let directories = system::ld_so_conf(&text);
                let path = entry.path.absolute();
                self.system.ld_so_conf.retain(|earlier| earlier.path != path);
                self.system.ld_so_conf.push(LdSoConf { path, directories });
            }
        }
        Ok(())
    }

    fn elf_file(
        &mut self,
        archive: &Path,
        path: &str,
        entry: &Entry,
        size: u64,
        (head, content): (Vec<u8>, &mut dyn Read),
    ) -> Result<(), Error> {
        let kept = Kept::read(head, content, size, self.limits.object_bytes)
            .map_err(|e| Error::decoding(archive, path, e))?;
        let (facts, constants) = match elf::read_image(path, &kept.image(size)) {
            Ok(read) => read,
            Err(error) => {
                self.omit(path, error.to_string());
                return Ok(());
            }
        };
        if facts.partial {
            self.omit(path, format!("constants beyond its first part were not read: it has {size} bytes"));
        }
        let startable = entry.mode & 0o111 != 0 || self.ignores_modes();
        if startable && matches!(facts.kind, ElfKind::Executable | ElfKind::Pie) {
            self.programs.insert(path.to_owned(), ProgramKind::Elf);
        }
        self.spend(archive, facts.weight())?;
        let room = PATHS.saturating_sub(self.paths.len());
        if constants.len() > room && !self.omitted.iter().any(|omission| omission.what == "hard_coded_paths")
        {
            self.omit("hard_coded_paths", format!("only the first {PATHS} are listed"));
        }
        let paths = constants.into_iter().take(room);
        self.paths.extend(paths.map(|c| HardCodedPath {
            path: c.text,
            file: path.to_owned(),
            offset: c.offset,
        }));
        self.listing.insert_object(path, Arc::new(Object::from(&facts)));
        self.elf.insert(path.to_owned(), facts);
        Ok(())
    }

    fn pe_file(
        &mut self,
        archive: &Path,
        path: &str,
        size: u64,
        (mut bytes, content): (Vec<u8>, &mut dyn Read),
    ) -> Result<(), Error> {
        if size > self.limits.object_bytes {
            self.omit(path, format!("it looks like a Windows program of {size} bytes, too large to be read"));
            return Ok(());
        }
        content.read_to_end(&mut bytes).map_err(|e| Error::decoding(archive, path, e))?;
        match pe::read(path, &bytes) {
            Ok(facts) => {
                if !facts.library && !facts.driver {
                    self.programs.insert(path.to_owned(), ProgramKind::Pe);
                }
                self.pe.insert(path.to_owned(), facts);
            }
            Err(reason) => self.omit(path, reason),
        }
        Ok(())
    }

    fn finish(mut self, artifact: ArtifactFacts) -> Facts {
        self.resolve_hardlinks();
        for conf in &self.system.ld_so_conf {
            conf.directories.iter().for_each(|directory| self.listing.configure(directory.as_str()));
        }
        let programs = self.programs();
        let elf: Vec<_> = self.elf.into_values().collect();
        let soname_links = needs::soname_links(&elf, &mut self.listing);
        let needs = needs::needs(&elf, &self.listing, &soname_links, &mut self.omitted);
        if let Some(package) = &mut self.package {
            package.tags = self.tags;
        }
        system::sort(&mut self.system);
        self.dropped.sort();
        self.dropped.dedup();
        self.paths.sort();
        self.omitted.sort();
        Facts {
            schema: SCHEMA,
            artifact,
            package: self.package,
            files: self.files,
            programs,
            elf,
            needs,
            soname_links,
            scripts: self.scripts.into_values().collect(),
            dropped: self.dropped,
            system: self.system,
            pe: self.pe.into_values().collect(),
            hard_coded_paths: self.paths,
            omitted: self.omitted,
        }
    }

    /// A second name for a program is a program, for a library a library. Targets come before their links.
    fn resolve_hardlinks(&mut self) {
        for (link, target) in std::mem::take(&mut self.hardlinks) {
            if let Some(object) = resolve::Root::object(&self.listing, &target) {
                self.listing.insert_object(&link, object);
            }
            if let Some(kind) = self.programs.get(&target).cloned() {
                self.programs.insert(link, kind);
            }
        }
    }

    /// Programs, and links to them from directories a shell looks into.
    fn programs(&self) -> Vec<Program> {
        let mut programs = self.programs.clone();
        for (path, node) in self.listing.nodes() {
            if matches!(node, Node::Symlink(_))
                && is_on_path(path)
                && let Some(file) = resolve::canonical(&self.listing, path)
                && let Some(kind) = self.programs.get(&file)
            {
                programs.insert(path.to_owned(), kind.clone());
            }
        }
        programs.into_iter().map(|(path, kind)| Program { on_path: is_on_path(&path), path, kind }).collect()
    }
}

/// Memory an entry may take: its path in the listing, as a program and among what is dropped.
fn entry_weight(path: &str, kind: &EntryKind) -> u64 {
    let target = match kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::Hardlink { target } => target.as_str().len(),
        _ => 0,
    };
    (2 * path.len() + target + 128) as u64
}

fn is_on_path(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(directory, _)| ON_PATH.contains(&directory))
}

fn read_all(archive: &Path, name: &str, content: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|e| Error::decoding(archive, &format!("member `{name}`"), e))?;
    Ok(bytes)
}

/// One path per line; `remove-on-upgrade` may stand before it.
fn conffiles(text: &str) -> Vec<String> {
    let paths = text.lines().filter_map(|line| line.split_whitespace().next_back());
    paths.filter(|path| path.starts_with('/')).map(str::to_owned).collect()
}

/// A reader that hashes what passes, if it is asked to.
struct Hashed<'c> {
    content: &'c mut dyn Read,
    hasher: Option<Sha256>,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..got]);
        }
        Ok(got)
    }
}

/// The bytes of an ELF file, or of a large one those that matter to the loader.
struct Kept {
    head: Vec<u8>,
    further: Vec<(u64, Vec<u8>)>,
}

impl Kept {
    fn read(mut head: Vec<u8>, content: &mut dyn Read, size: u64, bound: u64) -> io::Result<Self> {
        if size <= bound {
            content.read_to_end(&mut head)?;
            return Ok(Self { head, further: Vec::new() });
        }
        let target = LARGE_HEAD.min(bound).max(head.len() as u64);
        content.take(target - head.len() as u64).read_to_end(&mut head)?;
        let mut further = Vec::new();
        let mut at = head.len() as u64;
        for (start, length) in elf::wanted_stretches(&head) {
            let end = start.saturating_add(length.min(LARGE_STRETCH).min(bound)).min(size);
            if end <= at {
                continue;
            }
            io::copy(&mut content.take(start.saturating_sub(at)), &mut io::sink())?;
            at = at.max(start);
            let mut bytes = Vec::new();
            content.take(end - at).read_to_end(&mut bytes)?;
            further.push((at, bytes));
            at = end;
        }
        Ok(Self { head, further })
    }

    fn image(&self, size: u64) -> Image<'_> {
        Image::sparse(&self.head, self.further.iter().map(|(at, bytes)| (*at, bytes.as_slice())), size)
    }
}
