//! ELF files against `readelf`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::elf::{self, ElfFacts, ElfKind};

use crate::{Report, corpus, files, in_parallel, run};

/// Files compared at least, those of the machine included.
const AT_LEAST: usize = 2000;

/// What both sides say about one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    class: u8,
    machine: String,
    kind: String,
    interpreter: Option<String>,
    soname: Option<String>,
    needed: Vec<String>,
    rpath: Vec<String>,
    runpath: Vec<String>,
    versions_needed: BTreeMap<String, BTreeSet<String>>,
    versions_defined: BTreeSet<String>,
    executable_stack: Option<bool>,
}

/// Why both sides may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Explanation {
    /// The file is damaged: `readelf` complains about it too, and inspection leaves it out with a reason.
    BothRefuse,
    /// Facts have a number where they have no name for the machine; it is the one in the header.
    NumberForMachine,
}

/// What `readelf` printed about one file, and whether it complained.
#[derive(Debug, Default)]
struct Printed {
    said: Said,
    complaints: bool,
}

/// Splits the output for several files by its `File: ` lines.
fn readelf(paths: &[PathBuf]) -> BTreeMap<PathBuf, Printed> {
    let mut command = Command::new("readelf");
    // Without a second file there would be no `File: ` lines.
    command.args(["-W", "-h", "-l", "-d", "-V"]).args(paths).arg("/dev/null");
    let output = run(&mut command, "binutils");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let mut all = BTreeMap::new();
    for section in text.split("\nFile: ").skip(1) {
        let (path, section) = section.split_once('\n').unwrap();
        let named = format!("readelf: Error: {path}:");
        let complaints = complaints.contains(&named) || section.contains("readelf: Error");
        all.insert(PathBuf::from(path), Printed { said: parse(section), complaints });
    }
    all
}

/// The text between the first `[` and the last `]`.
fn bracketed(line: &str) -> String {
    line.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).unwrap_or_default().0.to_owned()
}

fn after(line: &str, key: &str) -> String {
    line.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default().to_owned()
}

fn search_path(line: &str) -> Vec<String> {
    bracketed(line).split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parse(text: &str) -> Said {
    let mut said = Said::default();
    let mut file = String::new();
    let mut loads = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(class) = trimmed.strip_prefix("Class:") {
            said.class = if class.trim() == "ELF64" { 64 } else { 32 };
        } else if let Some(machine) = trimmed.strip_prefix("Machine:") {
            said.machine = machine.trim().to_owned();
        } else if let Some(kind) = trimmed.strip_prefix("Type:") {
            said.kind = kind.split_whitespace().next().unwrap_or_default().to_owned();
        } else if line.contains("(NEEDED)") {
            said.needed.push(bracketed(line));
        } else if line.contains("(SONAME)") {
            said.soname = Some(bracketed(line));
        } else if line.contains("(RPATH)") {
            said.rpath = search_path(line);
        } else if line.contains("(RUNPATH)") {
            said.runpath = search_path(line);
        } else if line.contains("[Requesting program interpreter: ") {
            said.interpreter = bracketed(line).split_once(": ").map(|(_, path)| path.to_owned());
        } else if trimmed.starts_with("GNU_STACK ") {
            said.executable_stack = Some(trimmed.contains("RWE"));
        } else if trimmed.starts_with("LOAD ") {
            loads = true;
        } else if line.contains("Version: ") && line.contains("  File: ") {
            file = after(line, "  File: ");
            said.versions_needed.entry(file.clone()).or_default();
        } else if line.contains("Rev: ") && line.contains("Flags: ") {
            if !line.contains("Flags: BASE") {
                said.versions_defined.insert(after(line, "Name: "));
            }
        } else if line.contains("  Name: ") && line.contains("Flags: ") {
            said.versions_needed.entry(file.clone()).or_default().insert(after(line, "Name: "));
        }
    }
    if !loads || !matches!(said.kind.as_str(), "EXEC" | "DYN") {
        said.executable_stack = None;
    }
    said
}

/// `readelf`'s words for the machines there are.
fn machine(ours: &str) -> &str {
    match ours {
        "x86-64" => "Advanced Micro Devices X86-64",
        "i386" => "Intel 80386",
        "aarch64" => "AArch64",
        "arm" => "ARM",
        "riscv" => "RISC-V",
        "ppc64" => "PowerPC64",
        "s390" => "IBM S/390",
        "bpf" => "Linux BPF",
        "mips" => "MIPS R3000",
        "ppc" => "PowerPC",
        "sparc64" => "Sparc v9",
        "loongarch" => "LoongArch",
        "ia64" => "Intel IA-64",
        other => other,
    }
}

fn said(facts: &ElfFacts, like: &Said) -> Said {
    let kind = match facts.kind {
        ElfKind::Executable => "EXEC",
        ElfKind::Pie | ElfKind::Shared => "DYN",
        ElfKind::Relocatable => "REL",
        ElfKind::Core => "CORE",
        ElfKind::Other => "other",
    };
    let versions = facts.versions_needed.iter();
    Said {
        class: facts.class,
        machine: machine(&facts.machine).to_owned(),
        kind: kind.to_owned(),
        interpreter: facts.interpreter.clone(),
        soname: facts.soname.clone(),
        needed: facts.needed.clone(),
        rpath: facts.rpath.clone(),
        runpath: facts.runpath.clone(),
        versions_needed: versions.map(|(file, set)| (file.clone(), set.iter().cloned().collect())).collect(),
        versions_defined: facts.versions_defined.iter().cloned().collect(),
        // Where the header is missing, the answer is an interpretation and not to be compared.
        executable_stack: like.executable_stack.map(|_| facts.executable_stack),
    }
}

/// `e_machine`, at offset 18 of every header.
fn header_machine(bytes: &[u8]) -> String {
    let field = [bytes[18], bytes[19]];
    // EI_DATA: 1 is little-endian.
    if bytes[5] == 1 { u16::from_le_bytes(field) } else { u16::from_be_bytes(field) }.to_string()
}

fn compare(report: &Report, path: &Path, theirs: &Printed) {
    let bytes = std::fs::read(path).unwrap();
    let name = path.display();
    let facts = match elf::read("file", &bytes) {
        Ok(facts) => facts,
        Err(error) => {
            let rule = theirs.complaints.then_some(Explanation::BothRefuse);
            return report.difference(rule, format!("{name}: not read: {error}"));
        }
    };
    let mut ours = said(&facts, &theirs.said);
    if ours.machine.strip_prefix("machine-").is_some_and(|number| number == header_machine(&bytes)) {
        report.difference(Some(Explanation::NumberForMachine), String::new());
        ours.machine.clone_from(&theirs.said.machine);
    }
    report.count("compared");
    report.count(format!("of kind {}, {} bits, {}", ours.kind, ours.class, facts.machine));
    let counted = [
        ("with needed libraries", !ours.needed.is_empty()),
        ("with an own name", ours.soname.is_some()),
        ("with RPATH", !ours.rpath.is_empty()),
        ("with RUNPATH", !ours.runpath.is_empty()),
        ("with versions needed", !ours.versions_needed.is_empty()),
        ("with versions defined", !ours.versions_defined.is_empty()),
        ("with an interpreter", ours.interpreter.is_some()),
    ];
    counted.iter().filter(|(_, is)| *is).for_each(|(what, _)| report.count(*what));
    if ours != theirs.said {
        report.difference(
            None::<Explanation>,
            format!("{name}:\n    ours   {ours:?}\n    theirs {:?}", theirs.said),
        );
    }
}

#[test]
#[ignore = "needs the corpus: cargo xtask test proof"]
fn elf_files_are_what_readelf_says() {
    let report = Report::default();
    let all = files(&[corpus().join("files"), "/usr".into()], b"\x7fELF");
    in_parallel(&all, 16, |paths| {
        let printed = readelf(paths);
        for path in paths {
            match printed.get(path) {
                Some(theirs) => compare(&report, path, theirs),
                None => report
                    .difference(None::<Explanation>, format!("{}: readelf said nothing", path.display())),
            }
        }
    });
    report.finish("ELF files against readelf");
    let compared = report.counted("compared");
    assert!(compared >= AT_LEAST, "only {compared} ELF files, the test needs {AT_LEAST}");
    for what in ["with RPATH", "with RUNPATH", "with versions needed", "with versions defined"] {
        assert!(report.counted(what) >= 10, "only {} files {what}", report.counted(what));
    }
}
