//! Every format is walked to the same entries.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;

use common::{CONTROL, Tar, names, walk};
use hatchway_inspect::archive::{Compression, EntryKind, Format, Limits, Part, detect, walk as raw_walk};

fn sample() -> Tar {
    Tar::new()
        .dir("./")
        .dir("./usr/")
        .file("./usr/hello", 0o755, b"#!/bin/sh\necho hello\n")
        .symlink("./usr/link", "/etc/alternatives/hello")
        .hardlink("./usr/again", "./usr/hello")
}

type Member<'m> = (&'m str, &'m [u8]);

const NAMES: [&str; 5] = ["", "usr", "usr/hello", "usr/link", "usr/again"];

/// What a tool makes of bytes.
fn tool(command: &[&str], plain: &[u8]) -> Vec<u8> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(plain).unwrap();
    input.rewind().unwrap();
    let run = std::process::Command::new(command[0]).args(&command[1..]).stdin(input).output();
    let run =
        run.unwrap_or_else(|e| panic!("{}: {e} (Debian: apt-get install lz4 lzip xz-utils)", command[0]));
    assert!(run.status.success(), "{command:?}: {}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

#[test]
fn a_java_archive_is_told_from_a_zip() {
    let scratch = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("META-INF/MANIFEST.MF", options).unwrap();
    zip.write_all(b"Manifest-Version: 1.0\r\nMain-Class: com.acme.Sc\r\n ope\r\n").unwrap();
    zip.start_file("com/acme/Scope.class", options).unwrap();
    zip.write_all(b"\xca\xfe\xba\xbe").unwrap();
    let path = common::write(scratch.path(), "scope", &zip.finish().unwrap().into_inner());
    let facts = hatchway_inspect::inspect(&path).unwrap();
    assert_eq!(facts.artifact.format, "jar");
    assert_eq!(facts.package.unwrap().main_class.as_deref(), Some("com.acme.Scope"));
    let java = facts.technologies.iter().find(|one| one.name == "Java").unwrap();
    assert!(java.evidence.iter().any(|sign| sign.what == "starts the class com.acme.Scope"), "{java:?}");
}

#[test]
fn tar_in_every_compression() {
    let scratch = tempfile::tempdir().unwrap();
    let plain = sample().bytes();
    let cases = [
        (plain.clone(), Compression::None, "tar"),
        (common::gzip(&plain), Compression::Gzip, "tar.gz"),
        (common::xz(&plain), Compression::Xz, "tar.xz"),
        (common::zstd(&plain), Compression::Zstd, "tar.zst"),
        (common::bzip2(&plain), Compression::Bzip2, "tar.bz2"),
        (tool(&["lz4", "-c"], &plain), Compression::Lz4, "tar.lz4"),
        (tool(&["lzip", "-c"], &plain), Compression::Lzip, "tar.lz"),
        (tool(&["xz", "--format=lzma", "-c"], &plain), Compression::Lzma, "tar.lzma"),
    ];
    for (bytes, compression, name) in cases {
        // The name says nothing: detection is by content.
        let path = common::write(scratch.path(), "artifact", &bytes);
        assert_eq!(detect(&path).unwrap(), Format::Tar(compression));
        assert_eq!(Format::Tar(compression).to_string(), name);
        let seen = walk(&path).unwrap();
        assert_eq!(names(&seen), NAMES, "{name}");
        assert_eq!(seen[2].2, b"#!/bin/sh\necho hello\n");
        assert_eq!(seen[2].1.mode, 0o755);
        assert_eq!(seen[3].1.kind, EntryKind::Symlink { target: "/etc/alternatives/hello".to_owned() });
        assert!(matches!(&seen[4].1.kind, EntryKind::Hardlink { target } if target.as_str() == "usr/hello"));
    }
}

#[test]
fn long_names_and_pax_records() {
    let scratch = tempfile::tempdir().unwrap();
    let long = format!("opt/{}/file", "long-directory-name/".repeat(12).trim_end_matches('/'));
    let mut tar = Tar::new();
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.0.append_data(&mut header, &long, &b"abc"[..]).unwrap();
    // A value with a newline in it must not end the record.
    tar.0
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", &b"\x01\n\x02 11 path=evil\n"[..]),
            ("path", b"renamed"),
            ("uid", b"123456789"),
        ])
        .unwrap();
    let tar = tar.file("short", 0o4755, b"xyz");
    let path = common::write(scratch.path(), "a", &tar.bytes());
    let seen = walk(&path).unwrap();
    assert_eq!(names(&seen), [long.as_str(), "renamed"]);
    assert_eq!((seen[1].1.mode, seen[1].1.uid, seen[1].1.xattrs), (0o4755, 123_456_789, true));
    assert_eq!(seen[1].1.xattr_names, ["security.capability"]);
}

#[test]
fn sparse_files_are_filled_with_zeros() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("holes");
    let mut handle = std::fs::File::create(&file).unwrap();
    let mut expected = vec![0_u8; 3 << 20];
    for index in 0..12_u64 {
        use std::io::Seek;
        let at = index * 200_000 + 5;
        handle.seek(std::io::SeekFrom::Start(at)).unwrap();
        handle.write_all(b"data").unwrap();
        expected[usize::try_from(at).unwrap()..][..4].copy_from_slice(b"data");
    }
    handle.set_len(3 << 20).unwrap();
    drop(handle);
    for format in ["gnu", "posix"] {
        for version in ["0.0", "0.1", "1.0"] {
            let tar = scratch.path().join("sparse.tar");
            let run = std::process::Command::new("tar")
                .args(["--sparse", "--format", format, "--sparse-version", version, "-cf"])
                .arg(&tar)
                .arg("-C")
                .arg(scratch.path())
                .arg("holes")
                .output()
                .expect("GNU tar must be installed");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let seen = walk(&tar).unwrap_or_else(|e| panic!("{format} {version}: {e}"));
            assert_eq!(names(&seen), ["holes"], "{format} {version}");
            assert!(seen[0].2 == expected, "{format} {version}");
        }
    }
}

#[test]
fn deb_parts() {
    let scratch = tempfile::tempdir().unwrap();
    let control = || Tar::new().dir("./").file("./control", 0o644, CONTROL.as_bytes());
    let path = common::write(scratch.path(), "x", &common::deb(control(), sample()));
    assert_eq!(detect(&path).unwrap(), Format::Deb);
    let seen = walk(&path).unwrap();
    assert_eq!(seen[1].0, Part::Control);
    assert_eq!(seen[1].2, CONTROL.as_bytes());
    let data: Vec<_> =
        seen.iter().filter(|(part, ..)| *part == Part::Data).map(|(_, e, _)| e.path.to_string()).collect();
    assert_eq!(data, NAMES);
    // Signatures stand before the control member and are passed over.
    let signed = common::ar(&[
        ("debian-binary", b"2.0\n"),
        ("_gpgorigin", b"odd"),
        ("control.tar", &control().bytes()),
        ("data.tar.bz2", &common::bzip2(&sample().bytes())),
    ]);
    let path = common::write(scratch.path(), "y", &signed);
    assert_eq!(walk(&path).unwrap().len(), seen.len());
}

#[test]
fn deb_as_dpkg_deb_builds_it() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    common::write(&root, "DEBIAN/control", CONTROL.as_bytes());
    common::write(&root, "usr/share/acme/data", &vec![7; 100_000]);
    let Ok(dpkg) = std::process::Command::new("dpkg-deb")
        .args(["--root-owner-group", "-b"])
        .arg(&root)
        .arg(scratch.path())
        .output()
    else {
        panic!("dpkg-deb must be installed (Debian: apt-get install dpkg)");
    };
    assert!(dpkg.status.success());
    let seen = walk(&scratch.path().join("acme-scope_1.2-3_amd64.deb")).unwrap();
    let data = seen.iter().find(|(_, entry, _)| entry.path.as_str() == "usr/share/acme/data").unwrap();
    assert_eq!(data.2, vec![7; 100_000]);
}

#[test]
fn deb_of_another_version_or_order_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let member = common::gzip(&sample().bytes());
    let cases: [(&[Member], &str); 4] = [
        (&[("debian-binary", b"3.0\n"), ("control.tar.gz", &member), ("data.tar.gz", &member)], "only 2.x"),
        (
            &[("debian-binary", b"2.0\n"), ("data.tar.gz", &member), ("control.tar.gz", &member)],
            "stands where",
        ),
        (&[("debian-binary", b"2.0\n"), ("control.tar.gz", &member)], "no member `data.tar.*`"),
        (&[("debian-binary", b"2.0\n"), ("control.tar.gz", &member), ("data.tar.lzma", &member)], "lzma"),
    ];
    for (members, expected) in cases {
        let path = common::write(scratch.path(), "x.deb", &common::ar(members));
        let error = walk(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn zip_modes_and_links() {
    let scratch = tempfile::tempdir().unwrap();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_directory("acme/", options).unwrap();
    writer.start_file("acme/run", options.unix_permissions(0o755)).unwrap();
    writer.write_all(b"#!/bin/sh\n").unwrap();
    writer.start_file("acme/data", options.compression_method(zip::CompressionMethod::Stored)).unwrap();
    writer.write_all(&[9; 70_000]).unwrap();
    writer.add_symlink("acme/start", "run", options).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let path = common::write(scratch.path(), "x", &bytes);
    assert_eq!(detect(&path).unwrap(), Format::Zip);
    let seen = walk(&path).unwrap();
    assert_eq!(names(&seen), ["acme", "acme/run", "acme/data", "acme/start"]);
    assert_eq!(seen[1].1.mode, 0o755);
    assert_eq!(seen[2].2, vec![9; 70_000]);
    assert_eq!(seen[3].1.kind, EntryKind::Symlink { target: "run".to_owned() });
    // The name makes it a wheel too, for wheels that lack their metadata.
    let path = common::write(scratch.path(), "x.whl", &bytes);
    assert_eq!(detect(&path).unwrap(), Format::Wheel);
}

#[test]
fn directories_are_not_followed_out_of() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    let script = common::write(&root, "b/run", b"#!/bin/sh\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o751)).unwrap();
    common::write(scratch.path(), "outside/secret", b"secret");
    std::os::unix::fs::symlink("../outside", root.join("a")).unwrap();
    assert_eq!(detect(&root).unwrap(), Format::Directory);
    let seen = walk(&root).unwrap();
    assert_eq!(names(&seen), ["a", "b", "b/run"]);
    assert_eq!(seen[0].1.kind, EntryKind::Symlink { target: "../outside".to_owned() });
    assert_eq!(seen[2].1.mode, 0o751);
}

#[test]
fn lone_files_are_one_entry() {
    let scratch = tempfile::tempdir().unwrap();
    let cases: [(&[u8], Format); 4] = [
        (b"\x7fELF\x02\x01\x01\0rest", Format::Elf),
        (b"\x7fELF\x02\x01\x01\0AI\x02rest", Format::AppImage),
        (b"#!/bin/sh\n# This script was generated using Makeself 2.4\n", Format::Makeself),
        (b"#!/bin/sh\nexit\n", Format::Script),
    ];
    for (bytes, format) in cases {
        let path = common::write(scratch.path(), "tool", bytes);
        assert_eq!(detect(&path).unwrap(), format);
        let seen = walk(&path).unwrap();
        assert_eq!((names(&seen), seen[0].2.as_slice()), (vec!["tool".to_owned()], bytes));
    }
    let unknown = common::write(scratch.path(), "x", b"nothing known");
    assert!(walk(&unknown).unwrap_err().to_string().contains("neither an archive nor a program"));
    let seven_zip = common::write(scratch.path(), "x", b"7z\xbc\xaf\x27\x1c\0\x04");
    assert!(walk(&seven_zip).unwrap_err().to_string().contains("7z is not an archive"));
}

#[test]
fn callers_errors_come_through() {
    #[derive(Debug)]
    enum Mine {
        Stop,
        Theirs(#[allow(dead_code, reason = "shown by Debug")] hatchway_inspect::Error),
    }
    impl From<hatchway_inspect::Error> for Mine {
        fn from(error: hatchway_inspect::Error) -> Self {
            Self::Theirs(error)
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(scratch.path(), "x", &sample().bytes());
    let mut count = 0;
    let result = raw_walk(&path, &Limits::default(), &mut |_, _, _| {
        count += 1;
        if count == 2 { Err(Mine::Stop) } else { Ok(()) }
    });
    assert!(matches!(result, Err(Mine::Stop)), "{result:?}");
    assert_eq!(count, 2);
}
