//! Archives inside the artifact: members that are archives, and what is appended to programs and scripts.

use std::io::Read;
use std::path::Path;

use super::kept::Buffer;
use super::{Collector, Member, Place, gather};
use crate::archive::{self, Format, Limits, Source};
use crate::{ArtifactFacts, Contained, Error, Evidence, Technology, TechnologyKind, appended};

/// Archives listed of one artifact.
const CONTAINED: usize = 4096;
/// Bytes of a compressed member that are unpacked to see whether it is worth opening.
const PEEK: usize = 4096;

impl Collector {
    /// A member that is neither program nor script: opened if it is an archive.
    pub(super) fn archive_file(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let Member { path, size, .. } = *member;
        let head = buffer.content();
        if !looks_like_archive(head, path) {
            return Ok(());
        }
        if size > self.limits.nested_bytes {
            let format = archive::detect_in(&mut Source::bytes(Path::new(path), head));
            let reason =
                "it is too large to be opened inside another file: unpack it and inspect it by itself";
            self.unopened(path, size, format.unwrap_or(Format::Unknown), reason);
            return Ok(());
        }
        member.read_up_to(buffer, content, size)?;
        let bytes = buffer.content();
        let source = &mut Source::bytes(Path::new(path), bytes);
        let format = match archive::detect_in(source) {
            Ok(format) => format,
            Err(error) => {
                self.unopened(path, size, Format::Unknown, &error.to_string());
                return Ok(());
            }
        };
        if matches!(format, Format::Compressed(_)) && !is_worth_unpacking(bytes) {
            return Ok(());
        }
        if format != Format::Unknown {
            self.open(path, 0, source, format)?;
        }
        Ok(())
    }

    /// Opens what is appended to a program or script.
    pub(super) fn payloads(&mut self, path: &str, source: &mut Source<'_>) -> Result<(), Error> {
        let appended = self.elf.get(path).map(|facts| &facts.appended);
        let appended = appended.or_else(|| self.pe.get(path).map(|facts| &facts.appended));
        let payloads = match appended {
            Some(Some(appended)) => appended::of_program(source, appended.offset)?,
            Some(None) => appended::in_program(source)?,
            None => appended::of_script(source)?,
        };
        if let Some(python) = archive::pyinstaller::python_version(source)? {
            self.note_python(path, python);
        }
        let startup = appended::startup_script(source)?;
        for payload in payloads {
            let mut window = source.window(payload.offset, payload.size);
            self.open_with(path, payload.offset, &mut window, payload.format, startup.as_deref())?;
        }
        Ok(())
    }

    /// A PyInstaller package brings a Python of its own.
    fn note_python(&mut self, file: &str, (version, library): (String, Option<String>)) {
        let library = library.map(|library| format!(" with {library}")).unwrap_or_default();
        let what = format!("carries a PyInstaller package{library}");
        let evidence = vec![Evidence { file: file.to_owned(), what, offset: None }];
        let name = format!("Python {version}");
        self.recognised.push(Technology { kind: TechnologyKind::Runtime, name, evidence });
    }

    /// Notes an archive that is not opened.
    pub(super) fn unopened(&mut self, path: &str, size: u64, format: Format, reason: &str) {
        let unopened = Some(reason.to_owned());
        let (path, format) = (path.to_owned(), format.to_string());
        self.contain(Contained { path, offset: 0, size, format, files: 0, facts: None, unopened });
    }

    fn contain(&mut self, contained: Contained) {
        if self.contains.len() < CONTAINED {
            self.contains.push(contained);
        } else if !self.omitted.iter().any(|omission| omission.what == "contains") {
            self.omit("contains", format!("only the first {CONTAINED} archives inside are listed"));
        }
    }

    fn open(
        &mut self,
        path: &str,
        offset: u64,
        source: &mut Source<'_>,
        format: Format,
    ) -> Result<(), Error> {
        self.open_with(path, offset, source, format, None)
    }

    /// Takes the facts of an archive inside. What is wrong with it is noted and does not end the inspection. `startup` is
    /// the script in it that is run when it was unpacked.
    fn open_with(
        &mut self,
        path: &str,
        offset: u64,
        source: &mut Source<'_>,
        format: Format,
        startup: Option<&str>,
    ) -> Result<(), Error> {
        let size = source.len();
        if self.depth >= self.limits.containers_deep {
            let reason = format!("it lies more than {} archives deep", self.limits.containers_deep);
            self.unopened(path, size, format, &reason);
            return Ok(());
        }
        let mut limits = self.limits.clone();
        limits.entries = limits.entries.saturating_sub(self.entries());
        limits.total_bytes = limits.total_bytes.saturating_sub(self.files.bytes + self.inside.1);
        limits.facts_bytes = limits.facts_bytes.saturating_sub(self.weight);
        let spent = limits.entries == 0 || limits.total_bytes == 0 || limits.facts_bytes == 0;
        if spent {
            self.unopened(path, size, format, &self.spent(&limits));
            return Ok(());
        }
        let left = limits.clone();
        let mut inner = Collector::new(format, limits, self.depth + 1);
        inner.whole = self.whole.clone();
        inner.startup = startup.map(str::to_owned);
        let gathered = gather(&mut inner, source, format, Place { path: None, depth: self.depth + 1 });
        self.inside.0 += inner.entries();
        self.inside.1 += inner.files.bytes + inner.inside.1;
        self.weight = self.weight.saturating_add(inner.weight + 1024);
        let mut contained = Contained {
            path: path.to_owned(),
            offset,
            size,
            format: format.to_string(),
            files: inner.files.files,
            facts: None,
            unopened: gathered.err().map(|error| self.told(&error, &left)),
        };
        if contained.unopened.is_none() {
            let sha256 = inner.sha256_of(source)?;
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            let format = format.to_string();
            let (facts, _) = inner.finish(ArtifactFacts { file, sha256, size, format });
            let of_note = facts.is_of_note() || facts.package.is_some();
            contained.facts = of_note.then(|| Box::new(facts));
        }
        self.contain(contained);
        Ok(())
    }

    /// The bounds that archives have in common with those around them and beside them, by their names.
    fn common(limits: &Limits) -> [(&'static str, u64); 3] {
        [
            ("number of entries", limits.entries),
            ("unpacked bytes in all", limits.total_bytes),
            ("memory for its facts", limits.facts_bytes),
        ]
    }

    /// Which bounds of the whole artifact are used up.
    fn spent(&self, left: &Limits) -> String {
        let both = Self::common(left).into_iter().zip(Self::common(&self.whole));
        let spent = both.filter(|((_, left), _)| *left == 0);
        let spent: Vec<String> =
            spent.map(|(_, (what, whole))| format!("{what} (the limit is {whole})")).collect();
        format!("the artifact has reached a limit: {}", spent.join(", "))
    }

    /// What was wrong with an archive inside. The bound it ran into is told as that of the artifact, of which it had what
    /// was left.
    fn told(&self, error: &Error, left: &Limits) -> String {
        let Error::Limit { what, limit, .. } = error else { return error.to_string() };
        let both = Self::common(left).into_iter().zip(Self::common(&self.whole));
        let mut shared = both.filter(|((_, left), (_, whole))| left == limit && left < whole);
        match shared.next() {
            Some((_, (_, whole))) => format!("the artifact exceeds a limit: {what} (the limit is {whole})"),
            None => error.to_string(),
        }
    }

    /// Entries here and in archives inside.
    fn entries(&self) -> u64 {
        let counts = &self.files;
        let here = counts.files + counts.directories + counts.symlinks + counts.hardlinks + counts.special;
        here + self.inside.0
    }
}

/// Whether the beginning of a member, or its name, speaks of an archive.
fn looks_like_archive(head: &[u8], path: &str) -> bool {
    let named = path.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("iso"));
    let mut source = Source::bytes(Path::new(""), head);
    // An error means that a compressed stream is longer than its head.
    named || archive::detect_in(&mut source).map_or(true, |format| format != Format::Unknown)
}

/// Whether a compressed file holds something to inspect; most are manual pages, logs and fonts.
fn is_worth_unpacking(bytes: &[u8]) -> bool {
    let head = archive::unpacked_head(bytes, PEEK);
    head.starts_with(b"\x7fELF") || head.starts_with(b"MZ") || looks_like_archive(&head, "")
}
