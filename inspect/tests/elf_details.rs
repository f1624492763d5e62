//! Where ELF files and kernel modules come from and what they need, compared with binutils and kmod.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hatchway_inspect::elf::{self, ElfFacts, ElfKind};
use hatchway_inspect::{Facts, inspect};
use proptest::prelude::*;

const PLAIN: &str = "#include <stdio.h>\nint main(int c, char **v) { if (c > 1) perror(v[0]); return 0; }";

fn read(path: &Path) -> ElfFacts {
    elf::read("x", &std::fs::read(path).unwrap()).unwrap()
}

/// `readelf` over many files at once; its output, per file.
fn readelf(files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut printed = BTreeMap::new();
    for files in files.chunks(200) {
        let run = Command::new("readelf").args(["-n", "-l", "-W"]).args(files).env("LC_ALL", "C").output();
        let run = run.expect(
            "readelf is the oracle of this test and must be installed (Debian: apt-get install binutils)",
        );
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        for part in text.split("\nFile: ").skip(1) {
            let (name, rest) = part.split_once('\n').unwrap();
            printed.insert(PathBuf::from(name), rest.to_owned());
        }
    }
    printed
}

fn after<'t>(text: &'t str, marker: &str) -> Option<&'t str> {
    text.split_once(marker).map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default())
}

#[test]
fn build_ids_kernels_and_thread_storage_as_readelf_prints_them() {
    let mut files: Vec<PathBuf> = Vec::new();
    for directory in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib"] {
        let Ok(children) = std::fs::read_dir(directory) else { continue };
        for child in children.flatten().filter(|child| child.file_type().is_ok_and(|kind| kind.is_file())) {
            let is_small = child.metadata().is_ok_and(|found| found.len() < 8 << 20);
            if is_small && std::fs::read(child.path()).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")) {
                files.push(child.path());
            }
        }
    }
    files.sort();
    let printed = readelf(&files);
    let (mut compared, mut ids, mut storage) = (0, 0, 0);
    for path in &files {
        let Some(text) = printed.get(path) else { continue };
        let facts = read(path);
        let tls = text.lines().map(str::split_whitespace).find_map(|mut words| {
            (words.next() == Some("TLS")).then(|| words.nth(4).unwrap().trim_start_matches("0x").to_owned())
        });
        let tls = tls.map(|size| u64::from_str_radix(&size, 16).unwrap());
        assert_eq!(facts.tls_bytes, tls, "{}", path.display());
        assert_eq!(facts.build_id.as_deref(), after(text, "Build ID: "), "{}", path.display());
        assert_eq!(facts.minimum_kernel.as_deref(), after(text, "OS: Linux, ABI: "), "{}", path.display());
        compared += 1;
        ids += usize::from(facts.build_id.is_some());
        storage += usize::from(tls.is_some());
    }
    assert!(compared >= 200, "only {compared} ELF files on this machine, the test needs 200");
    assert!(ids > 100 && storage > 5, "{ids} build ids, {storage} with thread-local storage");
}

#[test]
fn the_c_library_is_recognised() {
    let scratch = tempfile::tempdir().unwrap();
    let cases: [(&[&str], ElfKind, bool); 4] = [
        (&["-no-pie"], ElfKind::Executable, false),
        (&["-static"], ElfKind::Executable, true),
        (&["-static-pie", "-fPIE"], ElfKind::Pie, true),
        (&["-shared", "-fPIC"], ElfKind::Shared, false),
    ];
    for (index, (arguments, kind, is_static)) in cases.into_iter().enumerate() {
        let facts = read(&common::gcc(scratch.path(), &format!("g{index}"), PLAIN, arguments));
        assert_eq!((facts.kind, facts.static_linked), (kind, is_static), "{arguments:?}");
        assert_eq!(facts.libc.as_deref(), Some("glibc"), "{arguments:?}");
        assert!(facts.made_with.iter().any(|name| name.starts_with("GCC ")), "{:?}", facts.made_with);
        assert_eq!(facts.appended, None, "{arguments:?}");
    }
    for (name, arguments) in [("musl", &[][..]), ("musl-static", &["-static"][..])] {
        let path = musl(scratch.path(), name, arguments);
        let facts = read(&path);
        assert_eq!(facts.libc.as_deref(), Some("musl"), "{name}");
        assert_eq!((facts.static_linked, facts.minimum_kernel.as_deref()), (name == "musl-static", None));
    }
}

fn musl(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let (input, path) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&input, PLAIN).unwrap();
    let run = Command::new("musl-gcc").arg("-o").arg(&path).arg(&input).args(arguments).output();
    let run = run
        .expect("this test links with musl: musl-gcc must be installed (Debian: apt-get install musl-tools)");
    assert!(run.status.success(), "musl-gcc: {}", String::from_utf8_lossy(&run.stderr));
    path
}

#[test]
fn thread_storage_that_must_be_free_at_load_is_flagged() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "__thread int counters[32]; int *f(void) { return counters; }";
    for (model, is_static) in [("initial-exec", true), ("global-dynamic", false)] {
        let flags = ["-shared", "-fPIC", &format!("-ftls-model={model}")];
        let facts = read(&common::gcc(scratch.path(), model, source, &flags));
        assert_eq!(facts.tls_bytes, Some(128));
        assert_eq!(facts.flags.contains(&"static-tls".to_owned()), is_static, "{model}");
    }
}

#[test]
fn the_model_of_thread_storage_is_the_one_it_was_compiled_with() {
    let scratch = tempfile::tempdir().unwrap();
    let shared = "__thread int counters[32]; int *f(void) { return counters; }";
    let hidden = "static __thread int counters[32]; int *f(int i) { return counters + i; }";
    let program = "__thread int counters[32]; int main(int c, char **v) { return counters[c] + !v; }";
    let foreign = "#include <errno.h>\nextern __thread int there; int *f(void) { return &there; }";
    let library: &[&str] = &["-shared", "-fPIC"];
    let cases: [(&str, &str, &[&str], &[&str]); 8] = [
        ("general", shared, &["-shared", "-fPIC", "-ftls-model=global-dynamic"], &["general-dynamic"]),
        ("local", hidden, &["-shared", "-fPIC", "-ftls-model=local-dynamic"], &["local-dynamic"]),
        ("initial", shared, &["-shared", "-fPIC", "-ftls-model=initial-exec"], &["initial-exec"]),
        ("descriptor", shared, &["-shared", "-fPIC", "-mtls-dialect=gnu2"], &["descriptor"]),
        ("foreign", foreign, library, &["general-dynamic"]),
        ("program", program, &[], &["local-exec"]),
        ("static", program, &["-static"], &["local-exec"]),
        ("none", "int f(void) { return 0; }", library, &[]),
    ];
    for (name, source, flags, expected) in cases {
        let facts = read(&common::gcc(scratch.path(), name, source, flags));
        assert_eq!(facts.tls_models, expected, "{name}");
    }
}

/// Every library of this machine: the relocations as binutils print them.
#[test]
fn models_of_thread_storage_as_readelf_prints_the_relocations() {
    let children = std::fs::read_dir("/usr/lib/x86_64-linux-gnu").unwrap();
    let mut files: Vec<PathBuf> = children
        .flatten()
        .filter(|child| child.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|child| child.metadata().is_ok_and(|found| found.len() < 2 << 20))
        .map(|child| child.path())
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")))
        .collect();
    files.sort();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for path in &files {
        let facts = read(path);
        if facts.kind != ElfKind::Shared {
            continue;
        }
        let run = Command::new("readelf").args(["-rW"]).arg(path).output().unwrap();
        let mut printed: BTreeSet<&str> = BTreeSet::new();
        for line in String::from_utf8_lossy(&run.stdout).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(&kind) = words.get(2) else { continue };
            match kind {
                // With a symbol its value and name follow, without one only the addend.
                "R_X86_64_DTPMOD64" if words.len() > 4 => printed.insert("general-dynamic"),
                "R_X86_64_DTPMOD64" => printed.insert("local-dynamic"),
                "R_X86_64_TPOFF64" => printed.insert("initial-exec"),
                "R_X86_64_TLSDESC" => printed.insert("descriptor"),
                _ => continue,
            };
        }
        assert_eq!(facts.tls_models, printed.iter().copied().collect::<Vec<_>>(), "{}", path.display());
        for model in facts.tls_models {
            *seen.entry(model).or_default() += 1;
        }
    }
    assert!(files.len() >= 100, "only {} libraries on this machine, the test needs 100", files.len());
    assert!(seen.contains_key("initial-exec") && seen.contains_key("general-dynamic"), "{seen:?}");
}

#[test]
fn an_exporting_program_and_an_executable_stack() {
    let scratch = tempfile::tempdir().unwrap();
    let list = common::write(scratch.path(), "list", b"{ plugin_api; };");
    let source = "int plugin_api(void) { return 1; } int main(void) { return 0; }";
    let list = format!("-Wl,--dynamic-list={}", list.display());
    let facts = read(&common::gcc(scratch.path(), "x", source, &[&list, "-Wl,-z,execstack"]));
    assert_eq!((facts.kind, facts.executable_stack), (ElfKind::Pie, true));
}

#[test]
fn data_behind_a_program_is_found_and_padding_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let program = std::fs::read(common::gcc(scratch.path(), "x", PLAIN, &["-s"])).unwrap();
    let with = |more: &[u8]| elf::read("x", &[program.as_slice(), more].concat()).unwrap().appended;
    assert_eq!(with(b""), None);
    assert_eq!(with(&[0; 5000]), None);
    assert_eq!(with(b"sig"), None);
    let found = with(&[b'x'; 100]).unwrap();
    assert_eq!((found.offset, found.size, found.what.as_str()), (program.len() as u64, 100, "data"));
    let padded = with(&[[0; 60].as_slice(), &[b'x'; 100]].concat()).unwrap();
    assert_eq!((padded.offset, padded.size), (program.len() as u64 + 60, 100));
}

#[test]
fn upx_is_recognised_by_its_header() {
    let scratch = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(common::gcc(scratch.path(), "x", PLAIN, &["-s"])).unwrap();
    assert_eq!(elf::read("x", &bytes).unwrap().packer, None);
    let headers = 64 + 56 * usize::from(u16::from_le_bytes([bytes[56], bytes[57]]));
    bytes[headers + 4..headers + 8].copy_from_slice(b"UPX!");
    assert_eq!(elf::read("x", &bytes).unwrap().packer.as_deref(), Some("UPX"));
}

/// Go's build information as `cmd/link` lays it out, with the version inside (Go 1.18) or behind a pointer.
#[test]
fn the_version_of_go_is_read_in_both_forms() {
    let scratch = tempfile::tempdir().unwrap();
    let section = "__attribute__((section(\".go.buildinfo\"), aligned(16), used))";
    let inline = format!(
        "{section} char info[] = \"\\xff Go buildinf:\\x08\\x02\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\" \"\\x08\" \"go1.21.4\" \"\\0\"; int main(void) {{ return 0; }}"
    );
    let facts = read(&common::gcc(scratch.path(), "inline", &inline, &["-no-pie"]));
    assert!(facts.made_with.contains(&"Go 1.21.4".to_owned()), "{:?}", facts.made_with);
    let pointer = format!(
        "struct s {{ const char *at; long length; }} version = {{ \"go1.16.5\", 8 }};
         {section} struct {{ char magic[14], size, flags; struct s *version, *module; }} info
           = {{ \"\\xff Go buildinf:\", 8, 0, &version, 0 }}; int main(void) {{ return 0; }}"
    );
    let facts = read(&common::gcc(scratch.path(), "pointer", &pointer, &["-no-pie"]));
    assert!(facts.made_with.contains(&"Go 1.16.5".to_owned()), "{:?}", facts.made_with);
}

#[test]
fn paths_and_endpoints_are_found_with_their_offsets() {
    let scratch = tempfile::tempdir().unwrap();
    let source = r#"#include <stdio.h>
        int main(void) {
            puts("/dev/ttyUSB%d"); puts("cannot open /dev/acme0: gone"); puts("/usr/share/acme/model.bin");
            puts("https://licence.acme.test/v1"); puts("192.168.7.2"); puts("licence.acme.test:27000");
            puts("/bin/sh"); puts("/etc/localtime"); puts("http://www.w3.org/2000/svg"); puts("main.c:12");
            return 0; }"#;
    let path = common::gcc(scratch.path(), "x", source, &[]);
    let bytes = std::fs::read(&path).unwrap();
    let facts: Facts = inspect(&path).unwrap();
    let paths: Vec<&str> = facts.hard_coded_paths.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(paths, ["/dev/acme0", "/dev/ttyUSB%d", "/usr/share/acme/model.bin"]);
    let endpoints: Vec<&str> = facts.endpoints.iter().map(|found| found.text.as_str()).collect();
    assert_eq!(endpoints, ["192.168.7.2", "https://licence.acme.test/v1", "licence.acme.test:27000"]);
    let places = facts.hard_coded_paths.iter().map(|found| (&found.path, found.offset));
    for (text, offset) in places.chain(facts.endpoints.iter().map(|found| (&found.text, found.offset))) {
        let at = usize::try_from(offset).unwrap();
        assert_eq!(&bytes[at..at + text.len()], text.as_bytes());
    }
}

const MODULE: &str = r#"
#define INFO(n, text) __attribute__((section(".modinfo"), used, aligned(1))) static const char info##n[] = text;
INFO(0, "license=GPL v2") INFO(1, "author=A. Smith") INFO(2, "author=B. Jones") INFO(3, "description=Acme scope")
INFO(4, "version=1.2") INFO(5, "alias=usb:v1AB1p0588d*") INFO(6, "firmware=acme/scope.bin") INFO(7, "depends=usbcore,parport")
INFO(8, "parm=speed:Bits per second") INFO(9, "parmtype=speed:int") INFO(10, "parmtype=quiet:bool")
INFO(11, "name=acme_scope") INFO(12, "vermagic=6.1.0-18-amd64 SMP preempt mod_unload modversions ") INFO(13, "intree=Y")
"#;

fn module(directory: &Path) -> PathBuf {
    common::gcc(directory, "acme-scope.ko", MODULE, &["-c"])
}

#[test]
fn a_kernel_module_says_what_modinfo_prints() {
    let scratch = tempfile::tempdir().unwrap();
    let path = module(scratch.path());
    let facts = inspect(&path).unwrap().kernel_modules.remove(0);
    let field = |name: &str| {
        let run = Command::new("/usr/sbin/modinfo").args(["-F", name]).arg(&path).output();
        let run = run.expect(
            "modinfo is the oracle of this test and must be installed (Debian: apt-get install kmod)",
        );
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
    assert_eq!(one(&facts.license), field("license"));
    assert_eq!(one(&facts.version), field("version"));
    assert_eq!(one(&facts.vermagic), field("vermagic"));
    assert_eq!(one(&facts.description), field("description"));
    assert_eq!(facts.authors, field("author"));
    assert_eq!(facts.aliases, field("alias"));
    assert_eq!(facts.firmware, field("firmware"));
    assert_eq!(vec![facts.depends.join(",")], field("depends"));
    assert_eq!(vec![facts.name.clone()], field("name"));
    assert_eq!(facts.parameters, ["speed:Bits per second", "quiet"]);
    assert!(facts.in_tree && !facts.signed && facts.authors.len() == 2);
}

/// Small real files of each kind.
fn samples() -> &'static Vec<Vec<u8>> {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let go = "__attribute__((section(\".go.buildinfo\"), aligned(16), used)) char info[] = \"\\xff Go buildinf:\\x08\\x02\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\x08go1.21.4\"; int main(void) { return 0; }";
        let gcc = |name: &str, source: &str, flags: &[&str]| std::fs::read(common::gcc(scratch.path(), name, source, flags)).unwrap();
        let library = "__thread int x[32]; const char *s = \"https://acme.test/ /dev/acme0 10.0.0.1:80\"; int *f(void) { return x; }";
        vec![
            gcc("pie", PLAIN, &["-s"]),
            gcc("exec", PLAIN, &["-s", "-no-pie"]),
            gcc("go", go, &["-s", "-no-pie"]),
            gcc("library", library, &["-shared", "-fPIC", "-ftls-model=initial-exec"]),
            [gcc("tail", PLAIN, &["-s"]), vec![b'x'; 64]].concat(),
            std::fs::read(musl(scratch.path(), "musl", &["-s"])).unwrap(),
            [std::fs::read(module(scratch.path())).unwrap(), b"~Module signature appended~\n".to_vec()].concat(),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_of_each_kind_never_panic(
        sample in 0_usize..7,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = samples()[sample].clone();
        for (at, value, in_header) in flips {
            let span = if in_header { bytes.len().min(1024) } else { bytes.len() };
            bytes[at.index(span)] = value;
        }
        if let Some(cut) = cut {
            let kept = cut.index(bytes.len());
            bytes.truncate(kept);
        }
        if let Ok(facts) = elf::read("x", &bytes) {
            if let Some(appended) = facts.appended {
                prop_assert!(appended.offset + appended.size == bytes.len() as u64);
            }
            prop_assert!(facts.build_id.is_none_or(|id| id.len() <= 128));
        }
        if sample == 6 {
            let _facts = hatchway_inspect::inspect_bytes(Path::new("x.ko"), &bytes, &Default::default());
        }
    }
}

#[test]
fn cut_anywhere_a_file_does_no_harm() {
    for sample in samples() {
        for end in (0..sample.len()).step_by(97) {
            let _facts = elf::read("x", &sample[..end]);
        }
    }
}
