//! Recognising licence managers, toolkits, classes of devices and the like.
//!
//! The signs of an artifact are looked up in [tables](rules), each with its weight. Nothing here opens a file.

mod marks;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use self::rules::{Rule, STRONG, Sign};
use crate::elf::Constant;
use crate::elf::ElfFacts;
use crate::{
    Endpoint, Evidence, HardCodedPath, PeFacts, Program, ProgramKind, SystemFacts, Technology, TechnologyKind,
};

pub(crate) use marks::MARKS;

/// Signs listed of one technology.
const EVIDENCE: usize = 8;
/// Signs collected of one technology before the list is cut.
const COLLECTED: usize = 256;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs<'f> {
    /// Every ELF file.
    pub(crate) elf: &'f [ElfFacts],
    /// Every Windows program.
    pub(crate) pe: &'f [PeFacts],
    /// Words found among constants, each with its file.
    pub(crate) marks: &'f [(String, Constant)],
    /// Absolute paths among constants.
    pub(crate) paths: &'f [HardCodedPath],
    /// URLs and ports among constants.
    pub(crate) endpoints: &'f [Endpoint],
    /// Programs, for their interpreters.
    pub(crate) programs: &'f [Program],
    /// What it wants from the system.
    pub(crate) system: &'f SystemFacts,
    /// Every path of the artifact.
    pub(crate) files: &'f [&'f str],
}

/// Recognises everything there is to recognise, sorted.
pub(crate) fn find(signs: &Signs<'_>) -> Vec<Technology> {
    let mut gathered = Gathered::default();
    gathered.libraries(signs);
    gathered.programs(signs);
    gathered.constants(signs);
    gathered.files(signs);
    gathered.rules(signs);
    let mut found: Vec<Technology> = gathered.claims.into_values().filter_map(Claim::technology).collect();
    found.extend(makers(signs));
    found.sort();
    found
}

/// What speaks for one technology.
#[derive(Debug)]
struct Claim {
    kind: TechnologyKind,
    name: String,
    weight: u8,
    /// Places of weak signs in their table: the same sign in many files is one.
    weak: BTreeSet<usize>,
    evidence: BTreeSet<Evidence>,
}

impl Claim {
    fn technology(self) -> Option<Technology> {
        let holds = self.weight >= STRONG || self.weak.len() >= usize::from(STRONG);
        let evidence = self.evidence.into_iter().take(EVIDENCE).collect();
        holds.then_some(Technology { kind: self.kind, name: self.name, evidence })
    }
}

/// Claims in the making.
#[derive(Debug, Default)]
struct Gathered {
    claims: BTreeMap<(TechnologyKind, String), Claim>,
}

impl Gathered {
    /// Enters every rule of which a sign passes the test.
    fn note(&mut self, test: impl Fn(Sign) -> bool, detail: &str, evidence: impl Fn() -> Evidence) {
        for rule in rules::all() {
            for (index, (sign, weight)) in rule.signs.iter().enumerate() {
                if test(*sign) {
                    let claim = self.claim(rule, detail);
                    claim.weight = claim.weight.max(*weight);
                    if *weight < STRONG {
                        claim.weak.insert(index);
                    }
                    if claim.evidence.len() < COLLECTED {
                        claim.evidence.insert(evidence());
                    }
                }
            }
        }
    }

    fn claim(&mut self, rule: &Rule, detail: &str) -> &mut Claim {
        let name = if rule.name == "Python" {
            python_version(detail).map_or_else(|| rule.name.to_owned(), |version| format!("Python {version}"))
        } else {
            rule.name.to_owned()
        };
        self.claims.entry((rule.kind, name.clone())).or_insert_with(|| Claim {
            kind: rule.kind,
            name,
            weight: 0,
            weak: BTreeSet::new(),
            evidence: BTreeSet::new(),
        })
    }

    fn library(&mut self, file: &str, name: &str, how: &str, offset: Option<u64>) {
        let base = base_name(name);
        let test = |sign| match sign {
            Sign::Library(beginning) => {
                let rest = base.strip_prefix(beginning);
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
            }
            Sign::LibraryPrefix(beginning) => base.starts_with(beginning),
            _ => false,
        };
        self.note(test, base, || evidence(file, format!("{how} {name}"), offset));
    }

    fn libraries(&mut self, signs: &Signs<'_>) {
        for elf in signs.elf {
            elf.needed.iter().for_each(|name| self.library(&elf.path, name, "is linked with", None));
            for name in elf.dlopen_notes.iter().flat_map(|note| &note.sonames) {
                self.library(&elf.path, name, "may load", None);
            }
            for candidate in &elf.dlopen_candidates {
                self.library(&elf.path, &candidate.name, "names", Some(candidate.offset));
            }
            if let Some(soname) = &elf.soname {
                self.library(&elf.path, soname, "is", None);
            }
        }
        for pe in signs.pe {
            for name in pe.imports.iter().chain(&pe.delay_imports) {
                let test = |sign| matches!(sign, Sign::Import(beginning) if name.starts_with(beginning));
                self.note(test, name, || evidence(&pe.path, format!("is linked with {name}"), None));
            }
        }
    }

    fn programs(&mut self, signs: &Signs<'_>) {
        for program in signs.programs {
            let ProgramKind::Script { interpreter } = &program.kind else { continue };
            let words = interpreter.split_whitespace().map(base_name);
            let Some(name) = words.into_iter().find(|word| *word != "env" && !word.starts_with('-')) else {
                continue;
            };
            let test = |sign| match sign {
                Sign::Interpreter(beginning) => {
                    let rest = name.strip_prefix(beginning);
                    rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
                }
                _ => false,
            };
            self.note(test, name, || evidence(&program.path, format!("is run by {interpreter}"), None));
        }
    }

    fn constants(&mut self, signs: &Signs<'_>) {
        for (file, constant) in signs.marks {
            let test = |sign| matches!(sign, Sign::Mark(word) if word == constant.text);
            self.note(test, "", || evidence(file, format!("names {}", constant.text), Some(constant.offset)));
        }
        for path in signs.paths {
            let test = |sign| match sign {
                Sign::Path(beginning) => is_below(&path.path, beginning),
                _ => false,
            };
            self.note(test, "", || evidence(&path.file, format!("names {}", path.path), Some(path.offset)));
        }
        for endpoint in signs.endpoints {
            let port = port(&endpoint.text);
            let is_server = endpoint
                .text
                .split_once('@')
                .is_some_and(|(port, _)| port.bytes().all(|b| b.is_ascii_digit()));
            let test = |sign| match sign {
                Sign::Port(number) => port == Some(number),
                Sign::Server => is_server,
                _ => false,
            };
            let what = || evidence(&endpoint.file, format!("names {}", endpoint.text), Some(endpoint.offset));
            self.note(test, "", what);
        }
    }

    fn files(&mut self, signs: &Signs<'_>) {
        for path in signs.files {
            let name = base_name(path);
            let lower = name.to_ascii_lowercase();
            let test = |sign| match sign {
                Sign::File(whole) => name.eq_ignore_ascii_case(whole),
                Sign::FileLike(beginning, ".cpython-") => beginning.is_empty() && lower.contains(".cpython-"),
                Sign::FileLike(beginning, ending) => {
                    // A library's version may follow.
                    let ends = lower.ends_with(ending) || (ending == ".so" && lower.contains(".so."));
                    lower.starts_with(beginning) && ends && is_code(beginning, &lower)
                }
                _ => false,
            };
            self.note(test, name, || evidence(path, "is called so".to_owned(), None));
        }
    }

    fn rules(&mut self, signs: &Signs<'_>) {
        for file in &signs.system.udev_rules {
            for rule in &file.rules {
                let kernel = rule.kernel.as_deref().unwrap_or_default();
                let subsystem = rule.subsystem.as_deref().unwrap_or_default();
                let test = |sign| match sign {
                    Sign::Subsystem(name) => subsystem.split('|').any(|one| one == name),
                    Sign::Kernel(beginning) => kernel.split('|').any(|one| one.starts_with(beginning)),
                    _ => false,
                };
                let what = || {
                    format!("has a rule on line {} for {}", rule.line, [subsystem, kernel].join(" ").trim())
                };
                self.note(test, "", || evidence(&file.path, what(), None));
            }
        }
    }
}

/// What made or packed the programs, as they say themselves.
fn makers(signs: &Signs<'_>) -> Vec<Technology> {
    let installers = signs.pe.iter().map(|pe| (TechnologyKind::Installer, &pe.installer, &pe.path));
    let packers = signs.pe.iter().map(|pe| (TechnologyKind::Packer, &pe.packer, &pe.path));
    let elf = signs.elf.iter().map(|elf| (TechnologyKind::Packer, &elf.packer, &elf.path));
    let mut made: BTreeMap<(TechnologyKind, &str), Vec<Evidence>> = BTreeMap::new();
    for (kind, name, path) in installers.chain(packers).chain(elf) {
        let Some(name) = name else { continue };
        let verb = if kind == TechnologyKind::Installer { "was made by" } else { "was packed by" };
        let list = made.entry((kind, name)).or_default();
        if list.len() < EVIDENCE {
            list.push(evidence(path, format!("{verb} {name}"), None));
        }
    }
    let technology = |((kind, name), mut evidence): ((TechnologyKind, &str), Vec<Evidence>)| {
        evidence.sort();
        Technology { kind, name: name.to_owned(), evidence }
    };
    made.into_iter().map(technology).collect()
}

fn evidence(file: &str, what: String, offset: Option<u64>) -> Evidence {
    Evidence { file: file.to_owned(), what, offset }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A path, or one with a number or format behind it, but no longer name: `/dev/lp` is not the beginning of `/dev/lpfoo`.
fn is_below(path: &str, beginning: &str) -> bool {
    let Some(rest) = path.strip_prefix(beginning) else { return false };
    beginning.ends_with('/') || !rest.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Pictures, texts and sources that are called like a product say nothing.
fn is_code(beginning: &str, name: &str) -> bool {
    const TEXTS: [&str; 14] = [
        ".png", ".svg", ".txt", ".md", ".html", ".h", ".hpp", ".c", ".cpp", ".gz", ".json", ".xml", ".pyi",
        ".cmake",
    ];
    beginning.is_empty() || !TEXTS.iter().any(|ending| name.ends_with(ending))
}

/// The port of `host:port` or of a URL.
fn port(text: &str) -> Option<&str> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next()?;
    let (_, port) = authority.rsplit_once(':')?;
    port.bytes().all(|b| b.is_ascii_digit()).then_some(port)
}

/// `3.11` of `libpython3.11.so.1.0`, `python3.11`, `python311.dll` and `x.cpython-311-x86_64-linux-gnu.so`.
fn python_version(name: &str) -> Option<String> {
    let after = name.split_once("cpython-").or_else(|| name.split_once("python"))?.1;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let major = digits(after);
    let minor = after.strip_prefix(major.as_str()).and_then(|rest| rest.strip_prefix('.')).map(digits);
    if let Some(minor) = minor.filter(|minor| !minor.is_empty() && !major.is_empty()) {
        return Some(format!("{major}.{minor}"));
    }
    let (first, rest) = major.split_at_checked(1)?;
    Some(if rest.is_empty() { first.to_owned() } else { format!("{first}.{rest}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(files: &[&str], marks: &[&str], paths: &[&str]) -> Vec<(TechnologyKind, String)> {
        let constant = |text: &&str| Constant { text: (*text).to_owned(), offset: 7 };
        let marks: Vec<_> = marks.iter().map(|text| ("/a".to_owned(), constant(text))).collect();
        let path = |path: &&str| HardCodedPath { path: (*path).to_owned(), file: "/a".to_owned(), offset: 7 };
        let paths: Vec<_> = paths.iter().map(path).collect();
        let system = SystemFacts::default();
        let signs = Signs {
            elf: &[],
            pe: &[],
            marks: &marks,
            paths: &paths,
            endpoints: &[],
            programs: &[],
            system: &system,
            files,
        };
        find(&signs).into_iter().map(|found| (found.kind, found.name)).collect()
    }

    #[test]
    fn every_mark_has_a_rule_and_every_rule_its_marks() {
        let mut named: Vec<&str> = rules::all()
            .flat_map(|rule| rule.signs)
            .filter_map(|(sign, _)| if let Sign::Mark(word) = sign { Some(*word) } else { None })
            .collect();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named, MARKS);
    }

    #[test]
    fn a_word_alone_is_no_licence_manager() {
        assert!(find_in(&[], &["WIBU-SYSTEMS"], &[]).is_empty());
        assert!(find_in(&[], &["WIBU-SYSTEMS", "WIBU-SYSTEMS"], &[]).is_empty());
        let both = find_in(&[], &["WIBU-SYSTEMS", "CodeMeter"], &[]);
        assert_eq!(both, [(TechnologyKind::Licence, "CodeMeter".to_owned())]);
        let daemon = find_in(&["/opt/acme/bin/lmgrd"], &[], &[]);
        assert_eq!(daemon, [(TechnologyKind::Licence, "FlexLM".to_owned())]);
    }

    #[test]
    fn paths_are_whole_names() {
        assert_eq!(find_in(&[], &[], &["/dev/ttyUSB%d", "/dev/lp0"]).len(), 2);
        assert!(find_in(&[], &[], &["/dev/lpfoo", "/dev/fwupd"]).is_empty());
    }

    #[test]
    fn versions_of_python() {
        let cases = [
            ("libpython3.11.so.1.0", Some("3.11")),
            ("python311.dll", Some("3.11")),
            ("x.cpython-39-x86_64-linux-gnu.so", Some("3.9")),
            ("python3", Some("3")),
            ("python", None),
            ("setup.py", None),
        ];
        for (name, expected) in cases {
            assert_eq!(python_version(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn evidence_is_bounded() {
        let files: Vec<String> = (0..1000).map(|n| format!("/opt/acme/{n}.jar")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let system = SystemFacts::default();
        let signs = Signs {
            elf: &[],
            pe: &[],
            marks: &[],
            paths: &[],
            endpoints: &[],
            programs: &[],
            system: &system,
            files: &files,
        };
        let found = find(&signs);
        assert_eq!((found.len(), found[0].evidence.len()), (1, EVIDENCE));
    }
}
