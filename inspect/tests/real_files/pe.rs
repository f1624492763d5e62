//! Windows programs and libraries against `objdump` and `pefile`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hatchway_inspect::PeFacts;
use serde_json::{Value, json};

use crate::{Report, corpus, files, in_parallel, run};

/// Files compared at least.
const AT_LEAST: usize = 300;

/// Why both sides may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Explanation {
    /// A DOS program, or one whose headers are damaged: the oracle does not read it either.
    BothRefuse,
    /// `objdump` of this system has no support for the machine.
    MachineUnknownToObjdump,
    /// `objdump` names only libraries whose names lie in the section of the import table; `pefile` agrees with us.
    NamesInAnotherSection,
    /// Firmware programs are loaded by no Windows, and a version of 0.0 asks for none.
    NoWindowsVersion,
    /// The certificate table lies beyond the end of a file that was cut: there is no signature in it.
    SignatureOutsideTheFile,
}

/// Prints one JSON object per file named on standard input.
const PEFILE: &str = r#"
import json, sys, pefile
D = pefile.DIRECTORY_ENTRY
def names(pe, attribute):
    return sorted({e.dll.decode('latin-1').lower() for e in getattr(pe, attribute, []) if e.dll})
def strings(pe):
    found = {}
    for info in getattr(pe, 'FileInfo', []) or []:
        for entry in info:
            for table in getattr(entry, 'StringTable', []) or []:
                for key, value in table.entries.items():
                    found.setdefault(key.decode(errors='replace'), value.decode(errors='replace').strip('\0 ') )
    return found
for path in sys.stdin.read().splitlines():
    try:
        pe = pefile.PE(path, fast_load=True)
    except pefile.PEFormatError as e:
        print(json.dumps({'path': path, 'error': str(e)}))
        continue
    kinds = ['IMAGE_DIRECTORY_ENTRY_IMPORT', 'IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT', 'IMAGE_DIRECTORY_ENTRY_RESOURCE']
    pe.parse_data_directories(directories=[D[k] for k in kinds])
    directories = pe.OPTIONAL_HEADER.DATA_DIRECTORY
    has = lambda name: len(directories) > D[name] and directories[D[name]].VirtualAddress != 0
    text = strings(pe)
    print(json.dumps({
        'path': path,
        'machine': pe.FILE_HEADER.Machine,
        'subsystem': pe.OPTIONAL_HEADER.Subsystem,
        'library': bool(pe.FILE_HEADER.Characteristics & 0x2000),
        'dotnet': has('IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR'),
        'signed': has('IMAGE_DIRECTORY_ENTRY_SECURITY'),
        'signature_end': sum(vars(directories[D['IMAGE_DIRECTORY_ENTRY_SECURITY']])[k] for k in ('VirtualAddress', 'Size')) if has('IMAGE_DIRECTORY_ENTRY_SECURITY') else 0,
        'imports': names(pe, 'DIRECTORY_ENTRY_IMPORT'),
        'delay_imports': names(pe, 'DIRECTORY_ENTRY_DELAY_IMPORT'),
        'windows_version': '%d.%d' % (pe.OPTIONAL_HEADER.MajorSubsystemVersion, pe.OPTIONAL_HEADER.MinorSubsystemVersion),
        'company': text.get('CompanyName') or None,
        'product': text.get('ProductName') or None,
        'description': text.get('FileDescription') or None,
    }))
    pe.close()
"#;

fn pefile(paths: &[PathBuf]) -> BTreeMap<PathBuf, Value> {
    let mut child = Command::new("python3")
        .args(["-c", PEFILE])
        .env("PYTHONPATH", corpus().join("python"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs the oracle of this test (Debian: apt-get install python3)");
    let list: String = paths.iter().map(|path| format!("{}\n", path.display())).collect();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "pefile ended with {}", output.status);
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let values = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    values.map(|value| (PathBuf::from(value["path"].as_str().unwrap()), value)).collect()
}

/// The imported libraries by file; a file that `objdump` does not know has no entry.
fn objdump(paths: &[PathBuf]) -> BTreeMap<PathBuf, BTreeSet<String>> {
    let output = run(Command::new("objdump").arg("-p").args(paths), "binutils");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut all: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut current = PathBuf::new();
    for line in text.lines() {
        if let Some((path, _)) = line.rsplit_once(":     file format ") {
            current = PathBuf::from(path);
            all.entry(current.clone()).or_default();
        } else if let Some(name) = line.trim().strip_prefix("DLL Name: ") {
            all.entry(current.clone()).or_default().insert(name.to_ascii_lowercase());
        }
    }
    all
}

/// The numbers of the format for our words.
fn machine(ours: &str) -> Option<u64> {
    Some(match ours {
        "x86-64" => 0x8664,
        "i386" => 0x14c,
        "aarch64" => 0xaa64,
        "arm" => 0x1c4,
        other => return other.strip_prefix("machine-0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()),
    })
}

fn subsystem(ours: &str) -> Option<u64> {
    Some(match ours {
        "native" => 1,
        "gui" => 2,
        "console" => 3,
        "efi-application" => 10,
        "efi-boot-driver" => 11,
        "efi-runtime-driver" => 12,
        other => return other.strip_prefix("subsystem-").and_then(|number| number.parse().ok()),
    })
}

fn said(facts: &PeFacts) -> Value {
    json!({
        "machine": machine(&facts.machine),
        "subsystem": subsystem(&facts.subsystem),
        "library": facts.library,
        "dotnet": facts.dotnet,
        "signed": facts.signed,
        "imports": facts.imports,
        "delay_imports": facts.delay_imports,
        "windows_version": facts.windows_version,
        "company": facts.company,
        "product": facts.product,
        "description": facts.description,
    })
}

fn read(path: &Path) -> Result<PeFacts, String> {
    let facts = hatchway_inspect::inspect(path).map_err(|error| error.to_string())?;
    let omitted = format!("{:?}", facts.omitted);
    facts.pe.into_iter().next().ok_or(omitted)
}

/// Why a field of the headers may differ.
fn explanation(field: &str, ours: &Value, theirs: &Value, path: &Path) -> Option<Explanation> {
    let efi = theirs["subsystem"].as_u64().is_some_and(|number| (10..=13).contains(&number));
    let cut = || {
        let length = std::fs::metadata(path).unwrap().len();
        theirs["signature_end"].as_u64().is_some_and(|end| end > length)
    };
    match field {
        "windows_version" if ours.is_null() && (efi || theirs[field] == "0.0") => {
            Some(Explanation::NoWindowsVersion)
        }
        "signed" if *ours == json!(false) && cut() => Some(Explanation::SignatureOutsideTheFile),
        _ => None,
    }
}

fn compare(report: &Report, path: &Path, theirs: &Value, imports: Option<&BTreeSet<String>>) {
    let name = path.display();
    let facts = match read(path) {
        Ok(facts) => facts,
        Err(reason) => {
            let rule = theirs.get("error").map(|_| Explanation::BothRefuse);
            return report.difference(rule, format!("{name}: not read: {reason}"));
        }
    };
    report.count("compared");
    report.count(format!("of subsystem {}, {}", facts.subsystem, facts.machine));
    let ours = said(&facts);
    for (field, value) in ours.as_object().unwrap() {
        let other = &theirs[field];
        if value == other {
            continue;
        }
        report.count(format!("differing in {field}"));
        let rule = explanation(field, value, theirs, path);
        report.difference(rule, format!("{name}: {field}: ours {value}, pefile {other}"));
    }
    if theirs["delay_imports"].as_array().is_some_and(|list| !list.is_empty()) {
        report.count("with delayed imports");
    }
    let own: BTreeSet<String> = facts.imports.iter().cloned().collect();
    match imports {
        Some(imports) if *imports == own => report.count("same imports as objdump"),
        Some(imports) => {
            let elsewhere = imports.is_subset(&own) && theirs["imports"] == json!(own);
            let rule = elsewhere.then_some(Explanation::NamesInAnotherSection);
            report.difference(rule, format!("{name}: imports: ours {own:?}, objdump {imports:?}"));
        }
        None => {
            let rule = (!matches!(facts.machine.as_str(), "x86-64" | "i386"))
                .then_some(Explanation::MachineUnknownToObjdump);
            report.difference(rule, format!("{name}: objdump says nothing"));
        }
    }
}

#[test]
#[ignore = "needs the corpus: cargo xtask test proof"]
fn windows_programs_are_what_objdump_and_pefile_say() {
    let report = Report::default();
    let all = files(&[corpus().join("files"), "/usr".into()], b"MZ");
    in_parallel(&all, 16, |paths| {
        let (parsed, dumped) = (pefile(paths), objdump(paths));
        for path in paths {
            let theirs = parsed.get(path).cloned().unwrap_or_else(|| json!({"error": "no answer"}));
            compare(&report, path, &theirs, dumped.get(path));
        }
    });
    report.finish("Windows programs against objdump and pefile");
    let compared = report.counted("compared");
    assert!(compared >= AT_LEAST, "only {compared} Windows programs, the test needs {AT_LEAST}");
}
