//! From a vendor's package to its facts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::Write;
use std::path::Path;

use common::{CONTROL, Tar};
use hatchway_inspect::{Facts, Found, PackageKind, ProgramKind, SonameLink, inspect};

const LIBRARY: &str = "int gauss(void) { return 42; }";

/// `acme-scope`: a program in /opt started through a link, a private library, and one that needs an `ldconfig`.
fn package(scratch: &Path) -> Facts {
    let gauss = common::gcc(
        scratch,
        "libgauss.so.2.1.0",
        LIBRARY,
        &["-shared", "-fPIC", "-Wl,-soname,libgauss.so.2"],
    );
    let newer = common::gcc(
        scratch,
        "libgauss.so.2.10.0",
        LIBRARY,
        &["-shared", "-fPIC", "-Wl,-soname,libgauss.so.2"],
    );
    let source = "int gauss(void); int private(void) { return gauss(); }";
    let private =
        common::gcc(scratch, "libprivate.so", source, &["-shared", "-fPIC", gauss.to_str().unwrap()]);
    let source = "#include <stdio.h>\nint private(void);\nint main(void) { puts(\"libplugin.so.3\"); puts(\"/etc/acme/scope.conf\");\n\
        printf(\"/dev/ttyUSB%d\", private()); puts(\"/dev/null\"); puts(\"/opt/build/src/main.cpp\"); return 0; }";
    let search = format!("-L{}", scratch.display());
    let arguments = [
        search.as_str(),
        "-lprivate",
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib",
        "-Wl,--allow-shlib-undefined",
    ];
    let program = common::gcc(scratch, "scope", source, &arguments);
    let plugin = common::gcc(scratch, "plugin.so", "int plugin(void) { return 1; }", &["-shared", "-fPIC"]);
    let read = |path: &Path| std::fs::read(path).unwrap();
    let data = Tar::new()
        .dir("./")
        .file("./usr/local/lib/acme/libgauss.so.2.1.0", 0o644, &read(&gauss))
        .file("./usr/local/lib/acme/libgauss.so.2.10.0", 0o644, &read(&newer))
        .file("./etc/ld.so.conf.d/acme.conf", 0o644, b"# acme\n/usr/local/lib/acme\n")
        .file("./opt/acme/lib/libprivate.so", 0o644, &read(&private))
        .file("./opt/acme/lib/plugin.so", 0o755, &read(&plugin))
        .file("./opt/acme/bin/scope", 0o755, &read(&program))
        .hardlink("./opt/acme/bin/scope-2", "./opt/acme/bin/scope")
        .symlink("./usr/bin/scope", "../../opt/acme/bin/scope")
        .file("./usr/bin/scope-setup", 0o755, b"#!/usr/bin/env python3\nprint()\n")
        .file("./usr/share/acme/example.sh", 0o644, b"#!/bin/sh\n")
        .file("./lib/udev/rules.d/60-acme.rules", 0o644, b"")
        .file("./lib/systemd/system/acme.service", 0o644, b"[Service]\n")
        .file("./lib/modules/6.1/acme.ko", 0o644, b"not really");
    let control = Tar::new()
        .file("./control", 0o644, CONTROL.as_bytes())
        .file("./conffiles", 0o644, b"/etc/ld.so.conf.d/acme.conf\n")
        .file("./postinst", 0o755, b"#!/bin/sh\nset -e\nldconfig\nudevadm control --reload || true\n")
        .file("./triggers", 0o644, b"activate-noawait ldconfig\n");
    inspect(&common::write(scratch, "acme.deb", &common::deb(control, data))).unwrap()
}

#[test]
fn a_debian_package() {
    let scratch = tempfile::tempdir().unwrap();
    let facts = package(scratch.path());
    assert_eq!((facts.artifact.file.as_str(), facts.artifact.format.as_str()), ("acme.deb", "deb"));
    assert_eq!(facts.artifact.sha256.len(), 64);
    let package = facts.package.as_ref().unwrap();
    assert_eq!(
        (package.kind, package.name.as_str(), package.version.as_str()),
        (PackageKind::Deb, "acme-scope", "1.2-3")
    );
    assert_eq!(package.depends.as_deref(), Some("libc6 (>= 2.14), libusb-1.0-0"));
    assert_eq!(package.description.as_deref(), Some("scope driver"));
    let programs: Vec<_> =
        facts.programs.iter().map(|program| (program.path.as_str(), program.on_path)).collect();
    let expected = [
        ("/opt/acme/bin/scope", false),
        ("/opt/acme/bin/scope-2", false),
        ("/usr/bin/scope", true),
        ("/usr/bin/scope-setup", true),
    ];
    assert_eq!(programs, expected);
    assert_eq!(
        facts.programs[3].kind,
        ProgramKind::Script { interpreter: "/usr/bin/env python3".to_owned() }
    );
    let scripts: Vec<_> =
        facts.scripts.iter().map(|script| (script.name.as_str(), script.calls.join(" "))).collect();
    assert_eq!(scripts, [("postinst", "ldconfig udevadm".to_owned()), ("triggers", String::new())]);
    assert_eq!(facts.system.udev_rules[0].path, "/lib/udev/rules.d/60-acme.rules");
    assert_eq!(facts.system.systemd_units[0].path, "/lib/systemd/system/acme.service");
    assert_eq!(facts.system.ld_so_conf[0].directories, ["/usr/local/lib/acme"]);
    assert_eq!(facts.system.conffiles, ["/etc/ld.so.conf.d/acme.conf"]);
    // What is called like a kernel module is one, and that it cannot be read is said.
    assert_eq!(facts.kernel_modules[0].path, "/lib/modules/6.1/acme.ko");
    let omitted: Vec<&str> = facts.omitted.iter().map(|omission| omission.what.as_str()).collect();
    assert_eq!(omitted, ["/lib/modules/6.1/acme.ko"]);
}

#[test]
fn its_libraries() {
    let scratch = tempfile::tempdir().unwrap();
    let facts = package(scratch.path());
    let link = SonameLink {
        path: "/usr/local/lib/acme/libgauss.so.2".to_owned(),
        target: "libgauss.so.2.10.0".to_owned(),
    };
    assert_eq!(facts.soname_links, [link]);
    let need = |name: &str| facts.needs.iter().find(|need| need.soname == name).unwrap();
    let found = |path: &str, rule: &str| Some(Found { path: path.to_owned(), rule: rule.to_owned() });
    assert_eq!(need("libprivate.so").found, found("/opt/acme/lib/libprivate.so", "RUNPATH $ORIGIN/../lib"));
    assert_eq!(
        need("libgauss.so.2").found,
        found("/usr/local/lib/acme/libgauss.so.2", "soname link made by us")
    );
    assert_eq!(need("libgauss.so.2").wanted_by, ["/opt/acme/lib/libprivate.so"]);
    let libc = need("libc.so.6");
    assert_eq!((&libc.found, libc.missed_by.len(), libc.elsewhere.len()), (&None, 0, 0));
    assert!(libc.versions.iter().all(|version| version.starts_with("GLIBC_")), "{:?}", libc.versions);
    assert!(libc.wanted_by.contains(&"/opt/acme/bin/scope".to_owned()));
    let program = facts.elf.iter().find(|elf| elf.path == "/opt/acme/bin/scope").unwrap();
    assert_eq!(program.dlopen_candidates[0].name, "libplugin.so.3");
    let paths: Vec<_> =
        facts.hard_coded_paths.iter().map(|found| (found.path.as_str(), found.file.as_str())).collect();
    assert_eq!(
        paths,
        [("/dev/ttyUSB%d", "/opt/acme/bin/scope"), ("/etc/acme/scope.conf", "/opt/acme/bin/scope")]
    );
}

#[test]
fn a_library_the_loader_does_not_reach_is_not_found() {
    let scratch = tempfile::tempdir().unwrap();
    let library =
        common::gcc(scratch.path(), "libgauss.so", LIBRARY, &["-shared", "-fPIC", "-Wl,-soname,libgauss.so"]);
    let source = "int gauss(void); int main(void) { return gauss(); }";
    let program = common::gcc(scratch.path(), "run", source, &[library.to_str().unwrap()]);
    let read = |path: &Path| std::fs::read(path).unwrap();
    let tar = Tar::new().file("acme/lib/libgauss.so", 0o755, &read(&library)).file(
        "acme/bin/run",
        0o755,
        &read(&program),
    );
    let facts = inspect(&common::write(scratch.path(), "acme.tar", &tar.bytes())).unwrap();
    let need = facts.needs.iter().find(|need| need.soname == "libgauss.so").unwrap();
    assert_eq!(need.found, None);
    assert_eq!(need.elsewhere, ["/acme/lib/libgauss.so"]);
}

#[test]
fn a_wheel() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "int PyInit_acme(void) { return 0; }";
    let module = common::gcc(scratch.path(), "acme.so", source, &["-shared", "-fPIC", "-nostdlib"]);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut add = |name: &str, content: &[u8]| {
        writer.start_file(name, options).unwrap();
        writer.write_all(content).unwrap();
    };
    add("acme/acme.so", &std::fs::read(module).unwrap());
    add("acme-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: acme\nVersion: 1.0\nRequires-Dist: numpy>=1.20\nRequires-Python: >=3.8\nLicense: MIT\n\nA body: with colons\n");
    add("acme-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\n");
    let bytes = writer.finish().unwrap().into_inner();
    let facts = inspect(&common::write(scratch.path(), "wheel-without-its-name", &bytes)).unwrap();
    assert_eq!(facts.artifact.format, "wheel");
    let package = facts.package.unwrap();
    assert_eq!((package.kind, package.name.as_str()), (PackageKind::Wheel, "acme"));
    assert_eq!(package.requires_dist, ["numpy>=1.20"]);
    assert_eq!(package.requires_python.as_deref(), Some(">=3.8"));
    assert_eq!(package.tags, ["cp311-cp311-manylinux_2_17_x86_64"]);
    assert_eq!(facts.elf.len(), 1);
    assert!(facts.programs.is_empty());
}

#[test]
fn windows_programs_and_drivers() {
    let scratch = tempfile::tempdir().unwrap();
    let tar = Tar::new()
        .file("setup.exe", 0o644, &common::pe(2, false, &["KERNEL32.dll", "USER32.dll"]))
        .file("acme.sys", 0o644, &common::pe(1, false, &["ntoskrnl.exe"]))
        .file("acme.dll", 0o644, &common::pe(3, true, &["KERNEL32.dll"]))
        .file("acme.inf", 0o644, b"[Version]\n")
        .file("old.com", 0o644, b"MZ and nothing else");
    let facts = inspect(&common::write(scratch.path(), "driver.tar", &tar.bytes())).unwrap();
    let pe: Vec<_> = facts
        .pe
        .iter()
        .map(|pe| (pe.path.as_str(), pe.subsystem.as_str(), pe.driver, pe.library, pe.imports.len()))
        .collect();
    let expected = [
        ("/acme.dll", "console", false, true, 1),
        ("/acme.sys", "native", true, false, 1),
        ("/setup.exe", "gui", false, false, 2),
    ];
    assert_eq!(pe, expected);
    assert_eq!((facts.pe[2].machine.as_str(), facts.pe[2].bits), ("x86-64", 64));
    assert_eq!(facts.pe[2].imports, ["kernel32.dll", "user32.dll"]);
    assert_eq!(facts.programs.len(), 1);
    assert_eq!(facts.system.windows_drivers[0].path, "/acme.inf");
    assert_eq!(facts.omitted.len(), 1);
    assert_eq!(facts.omitted[0].what, "/old.com");
}

#[test]
fn facts_are_stable_and_tell_nothing_of_this_machine() {
    let scratch = tempfile::tempdir().unwrap();
    let facts = package(scratch.path());
    let json = serde_json::to_string_pretty(&facts).unwrap();
    assert!(!json.contains(scratch.path().to_str().unwrap()), "a path of this machine is in the facts");
    assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
    assert_eq!(inspect(&scratch.path().join("acme.deb")).unwrap(), facts);
    let extended = json.replacen("\"schema\"", "\"unknown\": 1, \"schema\"", 1);
    assert!(serde_json::from_str::<Facts>(&extended).is_err());
}

#[test]
fn a_directory_has_a_digest_of_its_contents() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("acme");
    common::write(&root, "bin/run", b"#!/bin/sh\n");
    common::write(&root, "data", b"1");
    let first = inspect(&root).unwrap();
    assert_eq!((first.artifact.file.as_str(), first.artifact.size, first.files.files), ("acme", 11, 2));
    assert_eq!(inspect(&root.join(".")).unwrap().artifact, first.artifact);
    common::write(&root, "data", b"2");
    assert_ne!(inspect(&root).unwrap().artifact.sha256, first.artifact.sha256);
}

#[test]
fn damaged_programs_are_omitted_not_fatal() {
    let scratch = tempfile::tempdir().unwrap();
    let tar =
        Tar::new().file("bad", 0o755, b"\x7fELF\x02\x01\x01\0garbage").file("good.sh", 0o755, b"#!/bin/sh\n");
    let facts = inspect(&common::write(scratch.path(), "x.tar", &tar.bytes())).unwrap();
    assert_eq!(facts.omitted.len(), 1);
    assert_eq!((facts.omitted[0].what.as_str(), facts.programs.len()), ("/bad", 1));
}

#[test]
fn large_programs_are_read_in_part() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "#include <stdio.h>\nchar big[3 << 20] = {1};\nint main(void) { return puts(big); }";
    let program =
        std::fs::read(common::gcc(scratch.path(), "big", source, &["-Wl,-rpath,/opt/acme/lib"])).unwrap();
    let path = common::write(scratch.path(), "x.tar", &Tar::new().file("big", 0o755, &program).bytes());
    let whole = inspect(&path).unwrap();
    let mut limits = hatchway_inspect::archive::Limits::default();
    limits.object_bytes = 64 << 10;
    let part = hatchway_inspect::inspect_within(&path, &limits).unwrap();
    assert!(part.elf[0].partial && !whole.elf[0].partial);
    assert_eq!(part.omitted.len(), 1);
    assert_eq!((&part.needs, &part.programs), (&whole.needs, &whole.programs));
    assert_eq!(part.elf[0].runpath, ["/opt/acme/lib"]);
}
