//! One walk over an artifact, gathering facts.

mod binaries;
mod contained;
mod installers;
mod kept;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use self::kept::{Buffer, Hashed};
use crate::archive::{self, Description, Entry, EntryKind, Format, JAR_MANIFEST, Limits, Part, Source};
use crate::elf::{self, Constant};
use crate::resolve::{self, Listing, Node, Refusal};
use crate::scripts::{self, hex};
use crate::system::{self, Role};
use crate::technology::{self, Signs};
use crate::{
    ArtifactFacts, Contained, Dropped, DroppedWhat, Endpoint, Error, Facts, FileCounts, HardCodedPath,
    KernelModuleFacts, Omission, PackageFacts, PeFacts, Program, ProgramKind, SCHEMA, ScriptFacts,
    SystemFacts, Technology, needs, package,
};

/// Bytes read of every file to tell what it is.
const HEAD: u64 = 4096;
/// Hard-coded paths kept of one artifact.
const PATHS: usize = 4096;
/// Omissions listed; a package of damaged programs would otherwise be described at length.
const OMISSIONS: usize = 1024;

const ON_PATH: [&str; 7] =
    ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/games"];

/// Inspects the file or directory at `path`; a file is taken to be called `name`.
pub(crate) fn inspect(path: &Path, name: &Path, limits: &Limits) -> Result<(Facts, Listing), Error> {
    if !std::fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        let mut source = Source::open(path)?.named(name);
        if source.len() > limits.artifact_bytes {
            let what = format!("size of the artifact ({} bytes)", source.len());
            return Err(Error::limit(path, what, limits.artifact_bytes));
        }
        let format = archive::detect_artifact(&mut source)?;
        return inspect_in(&mut source, format, limits, Place { path: Some(path), depth: 0 });
    }
    let format = Format::Directory;
    let mut collector = Collector::new(format, limits.clone(), 0);
    archive::walk_files(path, path, limits, &mut |part, entry, file, content| {
        collector.entry(path, part, entry, file, content)
    })?;
    let sha256 = hex(&std::mem::take(&mut collector.digest).finalize());
    let size = collector.files.bytes;
    let resolved = if path.file_name().is_some() {
        path.to_path_buf()
    } else {
        std::fs::canonicalize(path).unwrap_or_default()
    };
    Ok(collector.finish(ArtifactFacts {
        file: file_name(&resolved),
        sha256,
        size,
        format: format.to_string(),
    }))
}

/// Where an archive is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    /// On disk, if it is a file there.
    pub(crate) path: Option<&'p Path>,
    /// Archives around it.
    pub(crate) depth: usize,
}

/// Inspects one archive or lone file, wherever its bytes are.
pub(crate) fn inspect_in(
    source: &mut Source<'_>,
    format: Format,
    limits: &Limits,
    place: Place<'_>,
) -> Result<(Facts, Listing), Error> {
    // What is unpacked of archives inside counts as well: they may lie in each other many times over.
    let mut limits = limits.clone();
    limits.total_bytes = limits.total_for(source.len());
    let mut collector = Collector::new(format, limits, place.depth);
    gather(&mut collector, source, format, place)?;
    let (sha256, size) = (collector.sha256_of(source)?, source.len());
    let file = file_name(source.name());
    Ok(collector.finish(ArtifactFacts { file, sha256, size, format: format.to_string() }))
}

/// Takes in everything an archive holds. What was taken in before an error is in the collector all the same.
fn gather(
    collector: &mut Collector,
    source: &mut Source<'_>,
    format: Format,
    place: Place<'_>,
) -> Result<(), Error> {
    let name = source.name().to_owned();
    let limits = collector.limits.clone();
    collector.metadata(source, format)?;
    let walked = match place.path {
        // A file on disk has permissions of its own.
        Some(path) => archive::walk_files(path, &name, &limits, &mut |part, entry, file, content| {
            collector.entry(&name, part, entry, file, content)
        }),
        None => archive::walk_in(source, format, &limits, &mut |part, entry, content| {
            collector.entry(&name, part, entry, None, content)
        }),
    };
    match walked {
        // What describes it was read: that is worth more than an error.
        Err(Error::Unsupported { what, .. }) if collector.package.is_some() => collector.omit("files", what),
        other => other?,
    }
    if format == Format::Deb && collector.package.is_none() {
        return Err(Error::corrupt(&name, "its control archive has no `control` file"));
    }
    if format.is_lone() {
        let path = format!("/{}", file_name(&name));
        collector.payloads(&path, source)?;
        collector.lone_script(&path, source, format)?;
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Facts in the making.
struct Collector {
    /// What is left of the bounds.
    limits: Limits,
    /// The bounds of the whole artifact, archives inside included.
    whole: Limits,
    format: Format,
    /// Archives around this one.
    depth: usize,
    /// The script in it that is run when it was unpacked.
    startup: Option<String>,
    /// Of all entries of a directory.
    digest: Sha256,
    /// Of the only entry of what is no archive.
    lone_sha256: Option<String>,
    buffer: Buffer,
    files: FileCounts,
    package: Option<PackageFacts>,
    tags: Vec<String>,
    programs: BTreeMap<String, ProgramKind>,
    elf: BTreeMap<String, elf::ElfFacts>,
    pe: BTreeMap<String, PeFacts>,
    kernel_modules: BTreeMap<String, KernelModuleFacts>,
    scripts: Vec<ScriptFacts>,
    dropped: Vec<Dropped>,
    system: SystemFacts,
    paths: Vec<HardCodedPath>,
    endpoints: Vec<Endpoint>,
    marks: Vec<(String, Constant)>,
    contains: Vec<Contained>,
    /// What was recognised by more than signs.
    recognised: Vec<Technology>,
    omitted: Vec<Omission>,
    listing: Listing,
    hardlinks: Vec<(String, String)>,
    /// Roughly the memory of all of the above.
    weight: u64,
    /// Entries and unpacked bytes of archives inside.
    inside: (u64, u64),
}

impl Collector {
    fn new(format: Format, limits: Limits, depth: usize) -> Self {
        Self {
            whole: limits.clone(),
            limits,
            format,
            depth,
            startup: None,
            digest: Sha256::new(),
            lone_sha256: None,
            buffer: Buffer::default(),
            files: FileCounts::default(),
            package: None,
            tags: Vec::new(),
            programs: BTreeMap::new(),
            elf: BTreeMap::new(),
            pe: BTreeMap::new(),
            kernel_modules: BTreeMap::new(),
            scripts: Vec::new(),
            dropped: Vec::new(),
            system: SystemFacts::default(),
            paths: Vec::new(),
            endpoints: Vec::new(),
            marks: Vec::new(),
            contains: Vec::new(),
            recognised: Vec::new(),
            omitted: Vec::new(),
            listing: Listing::default(),
            hardlinks: Vec::new(),
            weight: 0,
            inside: (0, 0),
        }
    }

    /// What a package keeps outside of its files.
    fn metadata(&mut self, source: &mut Source<'_>, format: Format) -> Result<(), Error> {
        let Description { package, scripts, conffiles } = match format {
            Format::Rpm => archive::rpm::describe(source)?,
            Format::Msi => archive::msi::describe(source)?,
            _ => return Ok(()),
        };
        self.package = package;
        self.scripts.extend(scripts);
        self.system.conffiles = conffiles;
        Ok(())
    }

    fn entry(
        &mut self,
        archive: &Path,
        part: Part,
        entry: &Entry,
        file: Option<&File>,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        if part == Part::Control {
            return self.control(archive, entry, content);
        }
        let path = entry.path.absolute();
        self.spend(archive, entry_weight(&path, &entry.kind))?;
        self.note_dropped(&path, entry);
        self.note_role(entry.path.as_str(), &entry.kind);
        let mut content = Hashed { content, hasher: self.hashes_contents().then(Sha256::new) };
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
                self.file(&Member { archive, path: &path, entry, size: *size, file }, &mut content)?;
                // A walk reads what was left by itself.
                if content.hasher.is_some() {
                    self.buffer.drain(&mut content).map_err(|e| Error::decoding(archive, &path, e))?;
                }
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
        match content.hasher {
            Some(hasher) if self.format.is_lone() => self.lone_sha256 = Some(hex(&hasher.finalize())),
            Some(hasher) => self.digest_entry(entry, &hasher.finalize()),
            None => {}
        }
        Ok(())
    }

    /// Of a directory and of a lone file every byte passes by anyway; an archive is hashed by itself.
    fn hashes_contents(&self) -> bool {
        self.format == Format::Directory || self.format.is_lone()
    }

    /// The SHA-256 of what was walked.
    fn sha256_of(&mut self, source: &mut Source<'_>) -> Result<String, Error> {
        match self.lone_sha256.take() {
            Some(sha256) => Ok(sha256),
            None => source.sha256(),
        }
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
        self.kernel_modules.remove(path);
        self.paths.retain(|hard_coded| hard_coded.file != path);
        self.endpoints.retain(|endpoint| endpoint.file != path);
        self.marks.retain(|(file, _)| file != path);
        self.contains.retain(|contained| contained.path != path);
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
            note(DroppedWhat::Xattrs, attributes(entry));
        }
        if entry.path.is_recoded() {
            note(DroppedWhat::NameEncoding, String::new());
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
            let link = if let EntryKind::Symlink { target } = kind { Some(target.as_str()) } else { None };
            system::enter(&mut self.system, role, &format!("/{path}"), link);
        }
        if !matches!(kind, EntryKind::Directory) {
            system::enter_hwcaps(&mut self.system, path);
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
                self.scripts.push(scripts::read(name, &bytes));
            }
        }
        Ok(())
    }

    /// A regular file of the data.
    fn file(&mut self, member: &Member<'_>, content: &mut dyn Read) -> Result<(), Error> {
        if self.is_read_whole(&member.entry.path) {
            return self.metadata_file(member.archive, member.entry, member.size, content);
        }
        // What is inside of it has a buffer of its own.
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let entered = self.file_in(member, &mut buffer, content);
        self.buffer = buffer;
        entered
    }

    fn file_in(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        member.read_up_to(buffer, content, HEAD)?;
        let head = buffer.content();
        if binaries::is_packed_module(member.path, head) {
            return self.packed_module(member, buffer, content);
        }
        if head.starts_with(b"\x7fELF") {
            return match member.file {
                // The contents of a module's sections are not among what is read of a program.
                Some(file) if !binaries::may_be_module(member.path, head) => self.elf_on_disk(member, file),
                _ => self.elf_file(member, buffer, content),
            };
        }
        if head.starts_with(b"MZ") {
            return self.pe_file(member, buffer, content);
        }
        if let Some(interpreter) = scripts::interpreter(head) {
            return self.script_file(member, interpreter, buffer, content);
        }
        if installers::is_bare_script(member.path, head) {
            return self.installer_script(member, buffer, content);
        }
        if is_linker_script(member.path, head) {
            self.listing.insert_refused(member.path, Refusal::LinkerScript);
            return Ok(());
        }
        self.archive_file(member, buffer, content)
    }

    /// Formats without Unix modes, and a downloaded file, do not say what may be started.
    fn ignores_modes(&self) -> bool {
        let without_modes = matches!(
            self.format,
            Format::Zip
                | Format::Wheel
                | Format::Jar
                | Format::Msi
                | Format::Cabinet
                | Format::Iso
                | Format::Compressed(_)
        );
        without_modes || self.format.is_lone()
    }

    fn is_read_whole(&self, path: &archive::MemberPath) -> bool {
        system::role(path.as_str()).is_some_and(Role::is_read)
            || self.wheel_member(path).is_some()
            || (self.format == Format::Jar && path.as_str() == JAR_MANIFEST)
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
            None if path == JAR_MANIFEST => {
                self.package = package::jar(&text);
                let main = self.package.as_ref().and_then(|package| package.main_class.as_ref());
                let what = main.map_or_else(
                    || "is the manifest of a Java archive".to_owned(),
                    |main| format!("starts the class {main}"),
                );
                let evidence = vec![crate::Evidence { file: format!("/{path}"), what, offset: None }];
                let name = "Java".to_owned();
                let kind = crate::TechnologyKind::Runtime;
                self.recognised.push(crate::Technology { kind, name, evidence });
            }
            None => self.role_file(entry, &bytes),
        }
        Ok(())
    }

    /// A file by which the artifact reaches into the system: its content replaces what an earlier file of that name said.
    fn role_file(&mut self, entry: &Entry, bytes: &[u8]) {
        let path = entry.path.absolute();
        if let Some(role) = system::role(entry.path.as_str()) {
            system::read(&mut self.system, role, &path, bytes);
        }
    }

    /// The facts, and the tree of files that they were taken from.
    fn finish(mut self, artifact: ArtifactFacts) -> (Facts, Listing) {
        self.resolve_hardlinks();
        for conf in &self.system.ld_so_conf {
            conf.directories.iter().for_each(|directory| self.listing.configure(directory.as_str()));
        }
        let programs = self.programs();
        let elf: Vec<_> = self.elf.into_values().collect();
        let pe: Vec<_> = self.pe.into_values().collect();
        let soname_links = needs::soname_links(&elf, &mut self.listing);
        let needs = needs::needs(&elf, &self.listing, &soname_links, &mut self.omitted);
        if let Some(package) = &mut self.package {
            package.tags = self.tags;
        }
        system::from_scripts(&mut self.system, &self.scripts);
        system::sort(&mut self.system);
        self.scripts.sort_by(|a, b| a.name.cmp(&b.name));
        self.dropped.sort();
        self.dropped.dedup();
        self.paths.sort();
        self.endpoints.sort();
        self.marks.sort();
        self.contains.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
        self.omitted.sort();
        let files: Vec<&str> = self.listing.nodes().map(|(path, _)| path).collect();
        let mut technologies = technology::find(&Signs {
            elf: &elf,
            pe: &pe,
            marks: &self.marks,
            paths: &self.paths,
            endpoints: &self.endpoints,
            programs: &programs,
            system: &self.system,
            files: &files,
        });
        technologies.append(&mut self.recognised);
        technologies.sort();
        let facts = Facts {
            schema: SCHEMA,
            artifact,
            package: self.package,
            files: self.files,
            programs,
            elf,
            needs,
            soname_links,
            kernel_modules: self.kernel_modules.into_values().collect(),
            scripts: self.scripts,
            dropped: self.dropped,
            system: self.system,
            pe,
            hard_coded_paths: self.paths,
            endpoints: self.endpoints,
            technologies,
            contains: self.contains,
            omitted: self.omitted,
        };
        (facts, self.listing)
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

/// A regular file of an archive.
#[derive(Debug, Clone, Copy)]
struct Member<'m> {
    archive: &'m Path,
    /// Absolute in the archive.
    path: &'m str,
    entry: &'m Entry,
    size: u64,
    /// Where it is a file on disk.
    file: Option<&'m File>,
}

impl Member<'_> {
    /// Reads on until there are `total` bytes of it or it ends.
    fn read_up_to(&self, buffer: &mut Buffer, content: &mut dyn Read, total: u64) -> Result<(), Error> {
        let total = total.min(self.size);
        buffer.read_up_to(content, total).map_err(|e| Error::decoding(self.archive, self.path, e))
    }
}

/// The names of its extended attributes, and what its file capabilities are: `security.capability (cap_net_raw=ep)`.
fn attributes(entry: &Entry) -> String {
    let mut text = entry.xattr_names.join(", ");
    if let Some(capabilities) = &entry.capabilities {
        text = format!("{text} ({capabilities})");
    }
    text
}

/// A text that stands where a library is expected: `ld` follows it, the loader cannot.
fn is_linker_script(path: &str, head: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let says = |word: &[u8]| memchr::memmem::find(head, word).is_some();
    name.contains(".so") && memchr::memchr(0, head).is_none() && (says(b"INPUT") || says(b"GROUP"))
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
