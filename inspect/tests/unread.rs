//! What was not read, or is read by more than its name: facts must say so however deep it lies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{CONTROL, Tar};
use hatchway_inspect::archive::Limits;
use hatchway_inspect::{Error, Facts, inspect, inspect_as, inspect_bytes};

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn facts(name: &str, bytes: &[u8]) -> Facts {
    inspect_bytes(Path::new(name), bytes, &Limits::default()).unwrap()
}

fn tar(tar: Tar) -> Vec<u8> {
    common::gzip(&tar.bytes())
}

#[test]
fn what_was_not_opened_shows_through_every_archive_around_it() {
    let mut bytes = zip(&[("acme.7z", b"7z\xbc\xaf\x27\x1c\0\x04 and so on".as_slice())]);
    for level in ["one.zip", "two.zip"] {
        bytes = zip(&[(level, bytes.as_slice()), ("README", b"read me")]);
    }
    let facts = facts("three.zip", &bytes);
    let all = facts.all();
    let unopened: Vec<(&str, &str)> = all
        .iter()
        .flat_map(|(at, facts)| facts.contains.iter().map(move |one| (at.as_str(), one)))
        .filter_map(|(at, one)| one.unopened.as_ref().map(|_| (at, one.path.as_str())))
        .collect();
    assert_eq!(unopened, [("/two.zip!/one.zip", "/acme.7z")]);
}

#[test]
fn archives_that_multiply_are_bounded_by_the_artifact_as_a_whole() {
    let mut limits = Limits::default();
    limits.unproportioned_bytes = 8 << 20;
    let mut bytes = zip(&[("zeros", vec![0; 1 << 20].as_slice())]);
    for _ in 0..3 {
        let names: Vec<String> = (0..8).map(|number| format!("{number}.zip")).collect();
        let members: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), bytes.as_slice())).collect();
        bytes = zip(&members);
    }
    let facts = inspect_bytes(Path::new("fan.zip"), &bytes, &limits).unwrap();
    let unpacked: u64 = facts.all().iter().map(|(_, facts)| facts.files.bytes).sum();
    assert!(unpacked <= 8 << 20, "{unpacked}");
    let reasons: Vec<&String> = facts
        .all()
        .iter()
        .flat_map(|(_, facts)| facts.contains.iter())
        .filter_map(|contained| contained.unopened.as_ref())
        .collect();
    assert!(
        !reasons.is_empty() && reasons.iter().all(|why| why.contains("(the limit is 8388608)")),
        "{reasons:?}"
    );
}

#[test]
fn an_artifact_has_a_bound_and_only_files_are_opened() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(Limits::default().artifact_bytes + 1).unwrap();
    let error = inspect(&path).unwrap_err();
    assert!(matches!(&error, Error::Limit { what, .. } if what.contains("artifact")), "{error}");
    let pipe = scratch.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for odd in [pipe.as_path(), Path::new("/dev/zero")] {
        assert!(matches!(inspect(odd), Err(Error::Unsupported { .. })), "{}", odd.display());
    }
}

const MODULE: &str = r#"
    __attribute__((section(".gnu.linkonce.this_module"), used)) static char module[64] = "acme";
    __attribute__((section(".modinfo"), used)) static const char info[] = "vermagic=6.1.0-18-amd64 SMP\0name=acme";
"#;

#[test]
fn a_kernel_module_is_one_under_any_name() {
    let scratch = tempfile::tempdir().unwrap();
    let path = common::gcc(scratch.path(), "acme.bin", MODULE, &["-c"]);
    let bytes = std::fs::read(&path).unwrap();
    for facts in [inspect(&path).unwrap(), facts("firmware", &bytes), inspect(scratch.path()).unwrap()] {
        let names: Vec<&str> = facts.kernel_modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["acme"], "{}", facts.artifact.format);
    }
    let object = common::gcc(scratch.path(), "plain.o", "int acme;", &["-c"]);
    assert!(inspect(&object).unwrap().kernel_modules.is_empty());
}

#[test]
fn a_copy_under_another_name_says_what_the_original_says() {
    let scratch = tempfile::tempdir().unwrap();
    let members = [("acme/run", b"#!/bin/sh\n".as_slice())];
    for (name, bytes) in
        [("acme.whl", zip(&members)), ("acme.zip", zip(&members)), ("acme", members[0].1.to_vec())]
    {
        let original = common::write(scratch.path(), name, &bytes);
        let copy = common::write(scratch.path(), "0123abcd", &bytes);
        let copied = inspect_as(&copy, Path::new(name), &Limits::default()).unwrap();
        assert_eq!(copied, inspect(&original).unwrap());
    }
}

#[test]
fn a_program_that_ends_early_is_not_read_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let path = common::gcc(scratch.path(), "whole", "int main(void) { return 0; }", &["-g"]);
    let whole = std::fs::read(&path).unwrap();
    assert!(!inspect(&path).unwrap().elf[0].partial);
    // The last segment that is loaded ends in the second half of the file; the dynamic section goes with it.
    let cut = common::write(scratch.path(), "cut", &whole[..0x1800]);
    for facts in [inspect(&cut).unwrap(), facts("cut", &whole[..0x1800])] {
        assert!(facts.elf[0].partial);
        assert!(facts.omitted.iter().any(|one| one.reason.contains("it is cut")), "{:?}", facts.omitted);
    }
    // What `strip` leaves of the symbols for a debugger has the headers of the program and nothing behind them.
    let debug = scratch.path().join("whole.debug");
    let run = Command::new("objcopy").arg("--only-keep-debug").arg(&path).arg(&debug).status();
    assert!(run.expect("this test needs objcopy (Debian: apt-get install binutils)").success());
    assert!(!inspect(&debug).unwrap().elf[0].partial);
}

#[test]
fn a_static_program_is_not_suspected_of_its_own_libc() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "#include <stdio.h>\nint main(void) { return printf(\"%s\", \"libacme.so.1\") < 0; }";
    let facts = inspect(&common::gcc(scratch.path(), "acme", source, &["-static"])).unwrap();
    let names: Vec<&str> = facts.elf[0].dlopen_candidates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["libacme.so.1"]);
}

#[test]
fn installer_scripts_are_read_where_they_lie() {
    let script =
        b"#!/bin/sh\ncp 60-acme.rules /etc/udev/rules.d\nchmod 4755 /opt/acme/helper\ninsmod acme.ko\n";
    let tarball =
        tar(Tar::new().file("acme-1.0/install.sh", 0o755, script).file("acme-1.0/run.sh", 0o755, script));
    let found = facts("acme.tar.gz", &tarball);
    let names: Vec<&str> = found.scripts.iter().map(|script| script.name.as_str()).collect();
    assert_eq!(names, ["/acme-1.0/install.sh"]);
    assert_eq!(found.scripts[0].calls, ["chmod", "cp", "insmod"]);
    assert_eq!((found.system.effects.len(), found.system.udev_rules.len()), (2, 1));
    let lone = facts("install.sh", script);
    assert_eq!(lone.scripts[0].name, "/install.sh");
    assert!(facts("run.sh", script).scripts.is_empty());
    // In front of an archive, up to it.
    let mut appended = b"#!/bin/sh\ntail -n +4 \"$0\" | tar xz -C /opt\nldconfig; exit 0\n".to_vec();
    appended.extend(&tarball);
    let appended = facts("acme.run", &appended);
    assert_eq!(
        (appended.scripts[0].lines, appended.scripts[0].calls.as_slice()),
        (3, &["ldconfig".into(), "tar".into()][..])
    );
    // A package says itself which scripts it has.
    let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes());
    let deb = common::deb(control, Tar::new().file("./setup.sh", 0o755, script));
    assert!(facts("acme.deb", &deb).scripts.is_empty());
}

#[test]
fn makeself_says_what_it_starts() {
    let scratch = tempfile::tempdir().unwrap();
    let payload = scratch.path().join("payload");
    std::fs::create_dir(&payload).unwrap();
    common::write(&payload, "begin", b"#!/bin/sh\nuseradd acme\n");
    common::write(&payload, "other", b"#!/bin/sh\nuserdel acme\n");
    for script in ["begin", "other"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(payload.join(script), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = scratch.path().join("acme.run");
    let made = Command::new("makeself")
        .arg("--nox11")
        .arg(&payload)
        .arg(&path)
        .args(["Acme", "./begin", "--all"])
        .output();
    let made = made.expect("this test needs makeself (Debian: apt-get install makeself)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let facts = inspect(&path).unwrap();
    let inner = facts.contains[0].facts.as_ref().unwrap();
    let scripts: Vec<(&str, &[String])> =
        inner.scripts.iter().map(|script| (script.name.as_str(), script.calls.as_slice())).collect();
    assert_eq!(scripts, [("/begin", &["useradd".to_owned()][..])]);
    assert!(facts.scripts.is_empty());
}
