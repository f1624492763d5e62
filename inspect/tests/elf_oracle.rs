//! What `elf::read` says about the programs and libraries of this machine is what binutils says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::elf::{self, ElfKind};

/// Files compared; enough for every linker, language and age a distribution has.
const WANTED: usize = 300;
const AT_LEAST: usize = 200;

/// What binutils prints about one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    class: String,
    kind: String,
    soname: Option<String>,
    interpreter: Option<String>,
    needed: Vec<String>,
    rpath: Vec<String>,
    runpath: Vec<String>,
    versions_needed: BTreeMap<String, BTreeSet<String>>,
    versions_defined: BTreeSet<String>,
    executable_stack: bool,
}

fn readelf(path: &Path) -> Printed {
    let run =
        Command::new("readelf").args(["-W", "-h", "-l", "-d", "-V"]).arg(path).env("LC_ALL", "C").output();
    let run = run.expect(
        "readelf is the oracle of this test and must be installed (Debian: apt-get install binutils)",
    );
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let mut printed = Printed { executable_stack: true, ..Printed::default() };
    let mut file = String::new();
    let bracketed =
        |line: &str| line.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).unwrap().0.to_owned();
    let split = |text: String| text.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| words.iter().position(|word| *word == key).map(|at| words[at + 1].to_owned());
        if line.trim_start().starts_with("Class:") {
            printed.class = words[1].to_owned();
        } else if line.trim_start().starts_with("Type:") {
            printed.kind = words[1].to_owned();
        } else if line.contains("(NEEDED)") {
            printed.needed.push(bracketed(line));
        } else if line.contains("(SONAME)") {
            printed.soname = Some(bracketed(line));
        } else if line.contains("(RPATH)") {
            printed.rpath = split(bracketed(line));
        } else if line.contains("(RUNPATH)") {
            printed.runpath = split(bracketed(line));
        } else if line.contains("[Requesting program interpreter: ") {
            printed.interpreter = Some(bracketed(line).split_once(": ").unwrap().1.to_owned());
        } else if words.first() == Some(&"GNU_STACK") {
            printed.executable_stack = words.contains(&"RWE");
        } else if line.contains("Version: 1  File: ") {
            file = after("File:").unwrap();
            printed.versions_needed.entry(file.clone()).or_default();
        } else if line.contains("Rev: 1") {
            if !words.contains(&"BASE") {
                printed.versions_defined.insert(after("Name:").unwrap());
            }
        } else if line.contains("  Name: ") && line.contains("Version: ") {
            printed.versions_needed.get_mut(&file).unwrap().insert(after("Name:").unwrap());
        }
    }
    printed
}

fn ours(facts: &elf::ElfFacts) -> Printed {
    let kind = match facts.kind {
        ElfKind::Executable => "EXEC",
        ElfKind::Pie | ElfKind::Shared => "DYN",
        ElfKind::Relocatable => "REL",
        ElfKind::Core => "CORE",
        ElfKind::Other => "other",
    };
    Printed {
        class: format!("ELF{}", facts.class),
        kind: kind.to_owned(),
        soname: facts.soname.clone(),
        interpreter: facts.interpreter.clone(),
        needed: facts.needed.clone(),
        rpath: facts.rpath.clone(),
        runpath: facts.runpath.clone(),
        versions_needed: facts
            .versions_needed
            .iter()
            .map(|(f, v)| (f.clone(), v.iter().cloned().collect()))
            .collect(),
        versions_defined: facts.versions_defined.iter().cloned().collect(),
        executable_stack: facts.executable_stack,
    }
}

/// ELF files below a directory, in an order that mixes directories but is the same every time.
fn elf_files(roots: &[&str]) -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        let Ok(children) = std::fs::read_dir(&directory) else { continue };
        for child in children.flatten() {
            let Ok(kind) = child.file_type() else { continue };
            if kind.is_dir() {
                pending.push(child.path());
            } else if kind.is_file() && is_elf(&child.path()) {
                found.push(child.path());
            }
        }
    }
    found.sort_by_key(|path| {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in path.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        hash
    });
    found
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"\x7fELF"
}

#[test]
fn agrees_with_readelf_on_the_files_of_this_machine() {
    let files = elf_files(&["/usr/lib", "/usr/bin", "/usr/libexec", "/usr/sbin", "/usr/local/lib"]);
    let mut compared = 0;
    let mut linked = 0;
    for path in files.iter().take(WANTED) {
        let bytes = std::fs::read(path).unwrap();
        let facts = elf::read("file", &bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (mut expected, found) = (readelf(path), ours(&facts));
        if facts.kind == ElfKind::Relocatable {
            expected.executable_stack = false;
        }
        assert_eq!(found, expected, "{}", path.display());
        linked += usize::from(!facts.versions_needed.is_empty());
        compared += 1;
    }
    assert!(compared >= AT_LEAST, "only {compared} ELF files on this machine, the test needs {AT_LEAST}");
    assert!(linked >= AT_LEAST / 2, "only {linked} files with symbol versions");
}

const ISA: &str = "int main(void) { return 0; }";

#[test]
#[cfg(target_arch = "x86_64")]
fn the_processor_level_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    for (flag, expected) in
        [("x86-64-v2", "x86-64-v2"), ("x86-64-v3", "x86-64-v3"), ("x86-64-v4", "x86-64-v4")]
    {
        let path = common::gcc(scratch.path(), flag, ISA, &[&format!("-Wl,-z,{flag}")]);
        let facts = elf::read("x", &std::fs::read(path).unwrap()).unwrap();
        assert_eq!(facts.isa_level.as_deref(), Some(expected));
    }
    let path = common::gcc(scratch.path(), "plain", ISA, &[]);
    assert_eq!(elf::read("x", &std::fs::read(path).unwrap()).unwrap().isa_level, None);
}

#[test]
fn kinds_of_programs() {
    let scratch = tempfile::tempdir().unwrap();
    let cases: [(&[&str], ElfKind, bool); 5] = [
        (&["-pie", "-fPIE"], ElfKind::Pie, false),
        (&["-no-pie"], ElfKind::Executable, false),
        (&["-static"], ElfKind::Executable, true),
        (&["-static-pie", "-fPIE"], ElfKind::Pie, true),
        (&["-shared", "-fPIC"], ElfKind::Shared, false),
    ];
    for (index, (arguments, kind, is_static)) in cases.into_iter().enumerate() {
        let path = common::gcc(scratch.path(), &format!("x{index}"), ISA, arguments);
        let facts = elf::read("x", &std::fs::read(path).unwrap()).unwrap();
        assert_eq!((facts.kind, facts.static_linked), (kind, is_static), "{arguments:?}");
        assert!(!facts.executable_stack);
    }
    let flags =
        ["-Wl,-z,execstack", "-Wl,-z,nodefaultlib", "-Wl,-z,now", "-Wl,-z,nodelete", "-shared", "-fPIC"];
    let path = common::gcc(scratch.path(), "flags", ISA, &flags);
    let facts = elf::read("x", &std::fs::read(path).unwrap()).unwrap();
    assert!(facts.executable_stack);
    assert_eq!(facts.flags, ["nodeflib", "nodelete", "now"]);
}

#[test]
fn stripped_of_its_sections_it_says_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "#include <stdio.h>\nint main(void) { puts(\"libplugin.so.3\"); return 0; }";
    let path = common::gcc(scratch.path(), "x", source, &["-Wl,-rpath,$ORIGIN/lib"]);
    let mut bytes = std::fs::read(path).unwrap();
    let before = elf::read("x", &bytes).unwrap();
    assert_eq!(before.dlopen_candidates[0].name, "libplugin.so.3");
    // e_shoff, and e_shnum with e_shstrndx.
    let is_wide = bytes[4] == 2;
    let (offset, counts) = if is_wide { (40..48, 60..64) } else { (32..36, 48..52) };
    bytes[offset].fill(0);
    bytes[counts].fill(0);
    let mut after = elf::read("x", &bytes).unwrap();
    // Without sections the file's own string tables are searched too.
    after.dlopen_candidates.retain(|candidate| candidate.name == "libplugin.so.3");
    // `.comment` is not loaded, so that it is now one of the things that no header speaks of.
    assert!(before.appended.is_none() && after.appended.take().is_some());
    assert!(before.made_with[0].starts_with("GCC "));
    after.made_with.clone_from(&before.made_with);
    assert_eq!(after, before);
}

#[test]
fn dlopen_notes_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let source = r#"
__asm__(".pushsection .note.dlopen,\"a\",%note\n.balign 4\n.long 4\n.long 2f-1f\n.long 0x407c0c0a\n.asciz \"FDO\"\n"
 "1: .asciz \"[{\\\"feature\\\":\\\"usb\\\",\\\"description\\\":\\\"USB scopes\\\",\\\"priority\\\":\\\"recommended\\\","
 "\\\"soname\\\":[\\\"libusb-1.0.so.0\\\",\\\"libusb-0.1.so.4\\\"]}]\"\n2: .balign 4\n.popsection\n");
int main(void) { return 0; }
"#;
    let path = common::gcc(scratch.path(), "x", source, &[]);
    let facts = elf::read("x", &std::fs::read(path).unwrap()).unwrap();
    assert_eq!(facts.dlopen_notes.len(), 1, "{:?}", facts.dlopen_notes);
    let note = &facts.dlopen_notes[0];
    assert_eq!(note.sonames, ["libusb-1.0.so.0", "libusb-0.1.so.4"]);
    assert_eq!((note.feature.as_deref(), note.priority.as_deref()), (Some("usb"), Some("recommended")));
}
