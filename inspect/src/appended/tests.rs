//! Programs with payloads, made by the tools that make them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::archive::{Compression, Recognised, walk_in};
use crate::{Error, archive};

fn run(program: &str, package: &str, directory: &Path, arguments: &[&str]) {
    let run = Command::new(program).args(arguments).current_dir(directory).output();
    let run = run.unwrap_or_else(|e| panic!("{program}: {e} (Debian: apt-get install {package})"));
    assert!(run.status.success(), "{program}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A small program, and its end: section headers are the last of it.
fn program(directory: &Path) -> Vec<u8> {
    std::fs::write(directory.join("x.c"), "int main(void) { return 0; }").unwrap();
    run("gcc", "gcc libc6-dev", directory, &["-s", "-o", "x", "x.c"]);
    let bytes = std::fs::read(directory.join("x")).unwrap();
    let headers = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap());
    let (size, count) =
        (u16::from_le_bytes([bytes[0x3a], bytes[0x3b]]), u16::from_le_bytes([bytes[0x3c], bytes[0x3d]]));
    assert_eq!(headers + u64::from(size) * u64::from(count), bytes.len() as u64);
    bytes
}

fn squashfs(directory: &Path) -> Vec<u8> {
    let root: PathBuf = directory.join("AppDir");
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::fs::write(root.join("AppRun"), "#!/bin/sh\n").unwrap();
    std::fs::write(root.join("usr/bin/tool"), vec![7; 5000]).unwrap();
    // The last file in the image is stored as it is, and an archive itself.
    std::fs::write(root.join("z.zip"), zip()).unwrap();
    run(
        "mksquashfs",
        "squashfs-tools",
        directory,
        &["AppDir", "x.img", "-noappend", "-quiet", "-no-progress", "-noF", "-noD"],
    );
    std::fs::read(directory.join("x.img")).unwrap()
}

fn zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("setup/run", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"#!/bin/sh\n").unwrap();
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, "setup/file", &b"abc"[..]).unwrap();
    builder.into_inner().unwrap()
}

fn found(bytes: &[u8], offset: usize) -> Vec<Payload> {
    of_program(&mut Source::bytes(Path::new("x"), bytes), offset as u64).unwrap()
}

fn in_script(bytes: &[u8]) -> Vec<Payload> {
    of_script(&mut Source::bytes(Path::new("x"), bytes)).unwrap()
}

fn names(bytes: &[u8], payload: Payload) -> Vec<String> {
    let mut source = Source::bytes(Path::new("x"), bytes);
    let mut window = source.window(payload.offset, payload.size);
    let mut names = Vec::new();
    let limits = archive::Limits::default();
    walk_in(&mut window, payload.format, &limits, &mut |_, entry, _| {
        names.push(entry.path.to_string());
        Ok::<(), Error>(())
    })
    .unwrap();
    names
}

fn payload(offset: usize, size: usize, format: Format) -> Payload {
    Payload { offset: offset as u64, size: size as u64, format }
}

#[test]
fn an_appimage_of_type_2() {
    let scratch = tempfile::tempdir().unwrap();
    let mut program = program(scratch.path());
    program[8..11].copy_from_slice(b"AI\x02");
    let image = squashfs(scratch.path());
    let bytes = [&program[..], &image].concat();
    let used = usize::try_from(archive::squashfs_size(&image).unwrap()).unwrap();
    let payloads = found(&bytes, program.len());
    assert_eq!(payloads, [payload(program.len(), used, Format::Squashfs)]);
    assert_eq!(names(&bytes, payloads[0]), ["AppRun", "usr", "usr/bin", "usr/bin/tool", "z.zip"]);
    // Between program and image there may be a gap.
    let apart = [&program[..], &[0; 777], &image].concat();
    assert_eq!(found(&apart, program.len()), [payload(program.len() + 777, used, Format::Squashfs)]);
    assert_eq!(name_of(&image), "squashfs");
}

#[test]
fn zip_archives_count_from_either_beginning() {
    let scratch = tempfile::tempdir().unwrap();
    let (program, archive) = (program(scratch.path()), zip());
    let bytes = [&program[..], &archive].concat();
    let payloads = found(&bytes, program.len());
    assert_eq!(payloads, [payload(program.len(), archive.len(), Format::Zip)]);
    assert_eq!(names(&bytes, payloads[0]), ["setup/run"]);
    // As `zip -A` corrects it: offsets count from the beginning of the program.
    let mut corrected = bytes.clone();
    let record = corrected.len() - 22;
    let directory = u32::from_le_bytes(corrected[record + 16..record + 20].try_into().unwrap());
    let by = u32::try_from(program.len()).unwrap();
    corrected[record + 16..record + 20].copy_from_slice(&(directory + by).to_le_bytes());
    let header = program.len() + directory as usize + 42;
    corrected[header..header + 4].copy_from_slice(&by.to_le_bytes());
    let payloads = found(&corrected, program.len());
    assert_eq!(payloads, [payload(0, corrected.len(), Format::Zip)]);
    assert_eq!(names(&corrected, payloads[0]), ["setup/run"]);
    // A signature follows.
    let signed = [&bytes[..], &[1; 5000]].concat();
    assert_eq!(found(&signed, program.len()), [payload(program.len(), archive.len(), Format::Zip)]);
}

#[test]
fn streams_and_other_archives() {
    let scratch = tempfile::tempdir().unwrap();
    let program = program(scratch.path());
    let end = program.len();
    let (plain, packed) = (tar(), gzip(&tar()));
    let cases = [
        (plain.clone(), Format::Tar(Compression::None)),
        (packed.clone(), Format::Tar(Compression::Gzip)),
        (gzip(b"no archive"), Format::Compressed(Compression::Gzip)),
        (program.clone(), Format::Elf),
    ];
    for (appended, format) in cases {
        let bytes = [&program[..], &appended].concat();
        assert_eq!(found(&bytes, end), [payload(end, appended.len(), format)]);
    }
    // Found by searching, only archives count.
    let apart = [&program[..], b"#SETUP#", &packed].concat();
    assert_eq!(found(&apart, end), [payload(end + 7, packed.len(), Format::Tar(Compression::Gzip))]);
    let apart = [&program[..], b"#SETUP#", &gzip(b"no archive")].concat();
    assert_eq!(found(&apart, end), []);
    // Two archives that say how long they are, a signature between them.
    std::fs::write(scratch.path().join("a"), "a").unwrap();
    run("7z", "p7zip-full", scratch.path(), &["a", "x.7z", "a"]);
    let seven = std::fs::read(scratch.path().join("x.7z")).unwrap();
    let bytes = [&program[..], b";!@Install@!UTF-8!;!@InstallEnd@!", &seven, &[0xaa; 3000], &seven].concat();
    let first = end + 33;
    assert_eq!(
        found(&bytes, end),
        [
            payload(first, seven.len(), Format::SevenZip),
            payload(first + seven.len() + 3000, seven.len(), Format::SevenZip)
        ]
    );
    assert_eq!(found(&program, end), []);
}

#[test]
fn the_installer_of_nsis() {
    let scratch = tempfile::tempdir().unwrap();
    let script = "OutFile \"x.exe\"\nName x\nSection\nSetOutPath $TEMP\nFile \"x.nsi\"\nSectionEnd\n";
    std::fs::write(scratch.path().join("x.nsi"), script).unwrap();
    run("makensis", "nsis", scratch.path(), &["-V1", "x.nsi"]);
    let bytes = std::fs::read(scratch.path().join("x.exe")).unwrap();
    let end = memchr::memmem::find(&bytes, b"NullsoftInst").unwrap() - 8;
    let nsis = Format::Recognised(Recognised::Nsis);
    let payloads = found(&bytes, end);
    assert_eq!(payloads.len(), 1, "{payloads:?}");
    assert_eq!((payloads[0].offset, payloads[0].format), (end as u64, nsis));
    // Where the overlay begins before the header.
    assert_eq!(found(&bytes, end - 512)[0].format, nsis);
    let mut source = Source::bytes(Path::new("x.exe"), &bytes);
    let mut none = |_: archive::Part, _: &archive::Entry, _: &mut dyn std::io::Read| Ok::<(), Error>(());
    let error = walk_in(&mut source, nsis, &archive::Limits::default(), &mut none).unwrap_err().to_string();
    assert!(error.contains("its format is nsis, which is recognised, not unpacked"), "{error}");
    assert_eq!(name_of(&bytes[end..]), "nsis");
}

#[test]
fn installers_by_name_and_an_appimage_of_type_1() {
    let program = vec![0x7f; 1000];
    let inno = [&program[..], b"zlb\x1a data"].concat();
    assert_eq!(found(&inno, 1000)[0].format, Format::Recognised(Recognised::InnoSetup));
    let inno = [&program[..], &[9; 4000], b"Inno Setup Setup Data (6.2.0)"].concat();
    assert_eq!(found(&inno, 1000), [payload(5000, 29, Format::Recognised(Recognised::InnoSetup))]);
    let shield = [&program[..], b"ISSetupStream\0", &gzip(&tar())].concat();
    assert_eq!(found(&shield, 1000)[0].format, Format::Recognised(Recognised::InstallShield));
    let mut iso = vec![0; 40_000];
    iso[32769..32774].copy_from_slice(b"CD001");
    assert_eq!(found(&iso, 1000), [payload(0, 40_000, Format::Iso)]);
}

#[test]
fn scripts_with_archives_behind_them() {
    let packed = gzip(&tar());
    let script = "#!/bin/sh\n# PK, BZh91 and 070701 are magic\nBZh91AY&SY\nn=`awk '/^__ARCHIVE_BELOW__/ {print NR + 1}' $0`\n\
        tail -n +$n $0 | tar xz\nexit 0\n__ARCHIVE_BELOW__\n";
    let cases = [
        (packed.clone(), Format::Tar(Compression::Gzip)),
        (tar(), Format::Tar(Compression::None)),
        (zip(), Format::Zip),
        (gzip(b"one file"), Format::Compressed(Compression::Gzip)),
    ];
    for (appended, format) in cases {
        let bytes = [script.as_bytes(), &appended].concat();
        let payloads = in_script(&bytes);
        assert_eq!(payloads, [payload(script.len(), appended.len(), format)]);
        if format == Format::Tar(Compression::Gzip) {
            assert_eq!(names(&bytes, payloads[0]), ["setup/file"]);
        }
    }
    // No line end before it.
    let bytes = [script.trim_end().as_bytes(), &packed].concat();
    assert_eq!(in_script(&bytes)[0].offset, script.len() as u64 - 1);
    let text = format!("{script}begin 644 x.tar.gz\nM'XL(\n");
    assert_eq!(in_script(text.as_bytes())[0].format, Format::Recognised(Recognised::Uuencode));
    assert_eq!(in_script(script.as_bytes()), []);
    assert_eq!(in_script(b""), []);
    // Cut anywhere, nothing breaks.
    let bytes = [script.as_bytes(), &packed].concat();
    for length in 0..bytes.len() {
        let payloads = in_script(&bytes[..length]);
        assert!(payloads.len() <= 1);
    }
}

#[test]
fn damaged_ends_are_searched_within_bounds() {
    // Magic numbers everywhere.
    let mut bytes = vec![0_u8; 64];
    for magic in [
        &b"hsqs"[..],
        b"MSCF\0\0\0\0",
        b"\x1f\x8b\x08\0",
        b"PK\x05\x06",
        b"MEI\x0c\x0b\x0a\x0b\x0e",
        b"BZh91AY&SY",
    ] {
        bytes.extend(magic.repeat(2000));
    }
    for offset in [0, 64, 70, 5000, bytes.len(), bytes.len() + 1, usize::MAX] {
        assert!(found(&bytes, offset).len() <= 16);
    }
}
