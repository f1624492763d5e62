//! Facts of Windows programs made by real tools: the MinGW-w64 compilers, windres, dlltool and makensis.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hatchway_inspect::archive::Limits;
use hatchway_inspect::{Facts, PeFacts, inspect_bytes};
use proptest::prelude::*;

const SOURCE: &str = r#"
#include <windows.h>
int probe(int);
static void WINAPI run(DWORD n, LPSTR *a) { (void)n; (void)a; }
const char port[] = "\\\\.\\COM%d";
const wchar_t pipe[] = L"\\\\.\\pipe\\acme";
const char url[] = "https://licence.example.com/v1";
const wchar_t place[] = L"localhost:5025";
const char *library = "AcmeUsb.dll";
int main(void) {
    SERVICE_TABLE_ENTRYA table[] = {{"acme", run}, {0, 0}};
    LoadLibraryA(library);
    return StartServiceCtrlDispatcherA(table) + probe(port[4] + pipe[4] + url[4] + place[4]);
}
"#;

const RESOURCES: &str = r#"
#include <windows.h>
1 VERSIONINFO
FILEVERSION 1,2,3,4
PRODUCTVERSION 5,6,7,8
BEGIN
  BLOCK "StringFileInfo"
  BEGIN
    BLOCK "040704b0"
    BEGIN
      VALUE "CompanyName", L"Acme M\x00fcnchen"
      VALUE "ProductName", "Acme Scope"
      VALUE "FileDescription", "Scope control"
      FILE_VERSION
    END
  END
  BLOCK "VarFileInfo"
  BEGIN
    VALUE "Translation", 0x407, 1200
  END
END
1 24 "acme.manifest"
"#;

const MANIFEST: &str = "<assembly xmlns=\"urn:schemas-microsoft-com:asm.v1\" manifestVersion=\"1.0\"><trustInfo>\
    <!-- <requestedExecutionLevel level=\"asInvoker\"/> --><requestedExecutionLevel level=\"requireAdministrator\"/>\
    </trustInfo></assembly>";

/// Runs a tool in a directory; the message names what to install.
fn run(directory: &Path, tool: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|e| {
        panic!("{tool} cannot be run ({e}); it must be installed (Debian: apt-get install {package})")
    });
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Prefix of the tools and their package.
const TARGETS: [(&str, &str, &str, u8); 2] = [
    ("x86_64-w64-mingw32", "gcc-mingw-w64-x86-64", "x86-64", 64),
    ("i686-w64-mingw32", "gcc-mingw-w64-i686", "i386", 32),
];

/// A program with a version, a manifest, an import and a delayed one.
fn program(directory: &Path, prefix: &str, package: &str, strip: bool) -> PathBuf {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let tool =
        |name: &str, arguments: &[&str]| run(directory, &format!("{prefix}-{name}"), package, arguments);
    write("acme.c", SOURCE);
    let version = if strip { "" } else { "VALUE \"FileVersion\", \"1.2 beta\"" };
    write("acme.rc", &RESOURCES.replace("FILE_VERSION", version));
    write("acme.manifest", MANIFEST);
    write("probe.def", "LIBRARY AcmeProbe.dll\nEXPORTS\nprobe\n");
    tool("windres", &["acme.rc", "res.o"]);
    tool("dlltool", &["-d", "probe.def", "-y", "delay.a"]);
    let arguments = ["-O1", "-mwindows", "-o", "acme.exe", "acme.c", "res.o", "delay.a"];
    tool("gcc", &arguments);
    write("acme.map", &tool("nm", &["acme.exe"]));
    if strip {
        tool("strip", &["acme.exe"]);
    }
    directory.join("acme.exe")
}

fn facts_of(bytes: &[u8]) -> Facts {
    inspect_bytes(Path::new("acme.exe"), bytes, &Limits::default()).unwrap()
}

fn pe(facts: &Facts) -> &PeFacts {
    assert_eq!(facts.pe.len(), 1, "{:?}", facts.omitted);
    &facts.pe[0]
}

#[test]
fn a_program_says_what_it_was_compiled_from() {
    for (prefix, package, machine, bits) in TARGETS {
        for strip in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let path = program(scratch.path(), prefix, package, strip);
            let mut bytes = std::fs::read(&path).unwrap();
            delay(&mut bytes, scratch.path(), bits);
            let facts = facts_of(&bytes);
            let pe = pe(&facts);
            assert_eq!((pe.machine.as_str(), pe.bits, pe.subsystem.as_str()), (machine, bits, "gui"));
            assert!(pe.service && !pe.driver && !pe.library && !pe.dotnet && !pe.signed);
            let some = |text: &str| Some(text.to_owned());
            assert_eq!(pe.company, some("Acme München"));
            assert_eq!(pe.product, some("Acme Scope"));
            assert_eq!(pe.description, some("Scope control"));
            assert_eq!(pe.version, some(if strip { "1.2.3.4" } else { "1.2 beta" }));
            assert_eq!(pe.execution_level, some("requireAdministrator"));
            assert_eq!(pe.delay_imports, ["acmeprobe.dll"]);
            assert_eq!((&pe.installer, &pe.packer), (&None, &None));
            // Symbols behind the sections are no appended data.
            assert_eq!(pe.appended, None);
            assert_eq!(pe.imports, objdump(&path, prefix, package));
            assert!(
                pe.runtime_libraries.iter().all(|name| name.starts_with("msvcr") || name.contains("crt"))
            );
            assert!(!pe.runtime_libraries.is_empty());
            assert!(pe.load_candidates.iter().any(|candidate| candidate.name == "acmeusb.dll"));
            let endpoints: Vec<_> = facts.endpoints.iter().map(|endpoint| endpoint.text.as_str()).collect();
            assert_eq!(endpoints, ["https://licence.example.com/v1", "localhost:5025"]);
            let paths: Vec<_> = facts.hard_coded_paths.iter().map(|path| path.path.as_str()).collect();
            assert_eq!(paths, [r"\\.\COM%d", r"\\.\pipe\acme"]);
        }
    }
}

/// Enters the table of delayed imports into the headers: `ld` before 2.42 makes it but does not.
fn delay(bytes: &mut [u8], directory: &Path, bits: u8) {
    let map = std::fs::read_to_string(directory.join("acme.map")).unwrap();
    let line = map.lines().find(|line| line.contains("__DELAY_IMPORT_DESCRIPTOR_")).unwrap();
    let address = u64::from_str_radix(line.split_whitespace().next().unwrap().trim_start_matches("0x"), 16);
    let (base, directories) = if bits == 64 { (0x1_4000_0000, 112) } else { (0x40_0000, 96) };
    let address = u32::try_from(address.unwrap() - base).unwrap();
    let new = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize;
    let at = new + 24 + directories + 13 * 8;
    bytes[at..at + 4].copy_from_slice(&address.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&64_u32.to_le_bytes());
}

/// The libraries `objdump -p` lists, in lower case and sorted.
fn objdump(path: &Path, prefix: &str, package: &str) -> Vec<String> {
    let tool = format!("{prefix}-objdump");
    let listed = run(path.parent().unwrap(), &tool, package, &["-p", path.to_str().unwrap()]);
    let names = listed.lines().filter_map(|line| line.trim().strip_prefix("DLL Name: "));
    let mut names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    assert!(!names.is_empty(), "{listed}");
    names
}

#[test]
fn appended_data_ends_where_the_signature_begins() {
    let bytes = sample();
    let length = bytes.len() as u64;
    let behind = [bytes.as_slice(), b"appended data"].concat();
    let facts = facts_of(&behind);
    let appended = pe(&facts).appended.as_ref().unwrap();
    assert_eq!((appended.offset, appended.size), (length, 13));

    let mut signed = [bytes.as_slice(), &[b'x'; 24], &[0x30; 40]].concat();
    certificates(&mut signed, u32::try_from(length + 24).unwrap(), 40);
    let facts = facts_of(&signed);
    let pe = pe(&facts);
    assert!(pe.signed);
    let appended = pe.appended.as_ref().unwrap();
    assert_eq!((appended.offset, appended.size), (length, 24));

    let mut signed = [bytes.as_slice(), &[0x30; 40]].concat();
    certificates(&mut signed, u32::try_from(length).unwrap(), 40);
    assert_eq!(facts_of(&signed).pe[0].appended, None);
    let cut = &signed[..signed.len() - 1];
    assert!(!facts_of(cut).pe[0].signed);
}

/// Writes the data directory of the certificate table, the fifth.
fn certificates(bytes: &mut [u8], offset: u32, size: u32) {
    let new = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize;
    let at = new + 24 + 112 + 4 * 8;
    bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&size.to_le_bytes());
}

#[test]
fn an_installer_names_its_maker() {
    let scratch = tempfile::tempdir().unwrap();
    let script =
        "Name acme\nOutFile setup.exe\nRequestExecutionLevel admin\nSection\nFile setup.nsi\nSectionEnd\n";
    std::fs::write(scratch.path().join("setup.nsi"), script).unwrap();
    run(scratch.path(), "makensis", "nsis", &["-V1", "setup.nsi"]);
    let bytes = std::fs::read(scratch.path().join("setup.exe")).unwrap();
    let facts = facts_of(&bytes);
    let pe = pe(&facts);
    assert!(pe.installer.as_ref().unwrap().starts_with("NSIS "), "{:?}", pe.installer);
    assert_eq!(pe.execution_level.as_deref(), Some("requireAdministrator"));
    let appended = pe.appended.as_ref().unwrap();
    let start = usize::try_from(appended.offset).unwrap();
    assert_eq!(&bytes[start + 8..start + 20], b"NullsoftInst");
    assert_eq!(appended.offset + appended.size, bytes.len() as u64);
}

#[test]
fn sections_name_the_packer() {
    let mut bytes = common::pe(3, false, &["KERNEL32.dll"]);
    let at = bytes.windows(8).position(|window| window == b".rdata\0\0").unwrap();
    bytes[at..at + 8].copy_from_slice(b"UPX0\0\0\0\0");
    assert_eq!(facts_of(&bytes).pe[0].packer.as_deref(), Some("UPX"));
    bytes[at..at + 8].copy_from_slice(b".wixburn");
    assert_eq!(facts_of(&bytes).pe[0].installer.as_deref(), Some("WiX Burn"));
}

#[test]
fn a_native_program_is_no_driver() {
    let driver = |subsystem, imports: &[&str]| facts_of(&common::pe(subsystem, false, imports)).pe[0].driver;
    assert!(driver(1, &["ntoskrnl.exe"]));
    assert!(driver(1, &[]));
    assert!(driver(3, &["HAL.dll"]));
    assert!(!driver(1, &["ntdll.dll"]));
    assert!(!driver(2, &["KERNEL32.dll"]));
}

/// A stripped program with everything in it.
fn sample() -> &'static Vec<u8> {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let (prefix, package, ..) = TARGETS[0];
        std::fs::read(program(scratch.path(), prefix, package, true)).unwrap()
    })
}

/// Whatever was read is bounded.
fn check(bytes: &[u8]) {
    if let Ok(facts) = inspect_bytes(Path::new("acme.exe"), bytes, &Limits::default()) {
        for pe in &facts.pe {
            assert!(
                pe.imports.len() <= 1024 && pe.delay_imports.len() <= 1024 && pe.load_candidates.len() <= 256
            );
            if let Some(appended) = &pe.appended {
                assert!(appended.offset + appended.size <= bytes.len() as u64);
            }
        }
    }
}

#[test]
fn a_cut_program_is_read_as_far_as_it_goes() {
    let bytes = sample();
    for end in (0..1024).chain((1024..bytes.len()).step_by(199)) {
        check(&bytes[..end]);
    }
}

#[test]
fn headers_with_absurd_numbers_are_read() {
    let bytes = sample();
    for at in (0..1024).step_by(2) {
        for value in [0xffff_ffff_u32, 0x8000_0000, 0x7fff_ffff, 1] {
            let mut changed = bytes.clone();
            changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
            check(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..24),
    ) {
        let mut bytes = sample().clone();
        for (index, value, in_headers) in changes {
            let at = index.index(if in_headers { 1024 } else { bytes.len() });
            bytes[at] = value;
        }
        check(&bytes);
    }
}
