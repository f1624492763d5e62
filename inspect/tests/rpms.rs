//! RPM packages and cpio archives, with `rpmbuild`, `rpm` and `cpio` as oracles.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hatchway_inspect::archive::{self, Compression, Entry, EntryKind, Format, Limits};
use hatchway_inspect::{DroppedWhat, Error, Facts, PackageKind, inspect};
use proptest::prelude::*;

/// Runs a tool and gives what it prints.
fn run(package: &str, command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (Debian: apt-get install {package})");
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn lines(package: &str, command: &mut Command) -> Vec<String> {
    let output = run(package, command);
    String::from_utf8_lossy(&output).lines().map(str::to_owned).collect()
}

const SPEC: &str = r##"
Name: acme-scope
Version: 1.2
Release: 3
Epoch: 4
Summary: Driver of Acme scopes
License: Proprietary
Vendor: Acme Instruments
Packager: Acme <a@example.org>
URL: https://acme.example
Group: Scientific/Instruments
Requires: libusb >= 1.0, udev, /bin/sh
Requires(pre): shadow-utils
Conflicts: acme-old < 2
Obsoletes: acme-ancient <= 1
Provides: scope-driver = 5
Recommends: acme-docs
AutoReqProv: no

%description
Nothing more.

%install
cd %{buildroot}
mkdir -p opt/acme/bin opt/acme/lib etc/acme usr/bin var/lib/acme
seq 1 50000 > opt/acme/lib/numbers
printf '\177ELFnot really' > opt/acme/bin/scoped
echo '#!/bin/sh' > opt/acme/bin/start
ln opt/acme/lib/numbers opt/acme/lib/numbers-again
ln opt/acme/lib/numbers opt/acme/lib/a-first-name
: > opt/acme/lib/empty
ln opt/acme/lib/empty opt/acme/lib/empty-too
ln -s ../../opt/acme/bin/start usr/bin/acme
ln -s /nowhere usr/bin/dangling
echo key=value > etc/acme/conf
touch var/lib/acme/ghost

%files
%dir %attr(2755,root,root) /opt/acme
/opt/acme/lib
%attr(4755,root,root) /opt/acme/bin/start
%attr(755,root,root) %caps(cap_net_raw,cap_sys_nice=ep) /opt/acme/bin/scoped
%config(noreplace) /etc/acme/conf
/usr/bin/acme
/usr/bin/dangling
%ghost /var/lib/acme/ghost

%pre
getent passwd acme >/dev/null || useradd -r acme
%post
/sbin/ldconfig
udevadm trigger --subsystem-match=usb
%preun -p <lua>
print("leaving")
%postun -p /sbin/ldconfig
%posttrans -p /usr/bin/python3
import os
%verifyscript
test -e /opt/acme
%triggerin -- bash >= 4, zsh
echo a shell came
%triggerpostun -p <lua> -- acme-old < 2
print("gone")
%filetriggerin -- /usr/lib/acme
cat
%transfiletriggerun -- /usr/share/acme
cat >/dev/null
"##;

/// Builds the package above with a payload of this sort.
fn build(folder: &Path, payload: &str) -> PathBuf {
    let spec = common::write(folder, "acme.spec", SPEC.as_bytes());
    run(
        "rpm",
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", "x86_64-linux"])
            .args(["--define", &format!("_topdir {}/{payload}", folder.display())])
            .args(["--define", &format!("_binary_payload {payload}")])
            .args(["--define", "_build_id_links none", "--define", "__os_install_post %{nil}"])
            .arg(&spec),
    );
    let name = format!("{payload}/RPMS/x86_64/acme-scope-1.2-3.x86_64.rpm");
    assert!(folder.join(&name).is_file(), "rpmbuild made no {name}");
    folder.join(name)
}

/// Mode, owner and group aside: what kind of thing, and for a link its target, as `rpm -qlvp` shows it.
fn listed(path: &Path) -> BTreeMap<String, String> {
    let query = "[%{FILEMODES:perms} %{FILESIZES} %{FILENAMES} -> %{FILELINKTOS} %{FILEFLAGS:fflags}\n]";
    let lines = lines("rpm", Command::new("rpm").args(["-qp", "--qf", query]).arg(path));
    let mut listed = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        if words.last().is_some_and(|flags| flags.contains('g')) {
            continue;
        }
        listed.insert(words[2].to_owned(), format!("{} {}", words[0], words[4]));
    }
    listed
}

fn perms(entry: &Entry) -> String {
    let (letter, target) = match &entry.kind {
        EntryKind::Directory => ('d', ""),
        EntryKind::Symlink { target } => ('l', target.as_str()),
        _ => ('-', ""),
    };
    let mut text = String::from(letter);
    for (shift, special, mark) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => mark,
            (true, false) => mark.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    format!("{text} {target}")
}

#[test]
fn every_payload_of_rpmbuild() {
    let scratch = tempfile::tempdir().unwrap();
    for payload in ["w9.gzdio", "w6.xzdio", "w3.zstdio", "w9.bzdio", "w.ufdio"] {
        let path = build(scratch.path(), payload);
        assert_eq!(archive::detect(&path).unwrap(), Format::Rpm);
        let seen = common::walk(&path).unwrap();
        let ours: BTreeMap<String, String> =
            seen.iter().map(|(_, entry, _)| (entry.path.absolute(), perms(entry))).collect();
        assert_eq!(ours, listed(&path), "{payload}");
        assert_eq!(ours.len(), seen.len(), "{payload}: a name twice");
        contents_agree(scratch.path(), &path, &seen);
    }
}

/// Compares every content, links by what they lead to, with what `rpm2cpio | cpio -i` unpacks.
fn contents_agree(scratch: &Path, path: &Path, seen: &common::Seen) {
    let folder = tempfile::tempdir_in(scratch).unwrap();
    let cpio = run("rpm2cpio", Command::new("rpm2cpio").arg(path));
    unpack(folder.path(), &cpio);
    let mut files: BTreeMap<String, &[u8]> = BTreeMap::new();
    for (_, entry, content) in seen {
        let name = entry.path.to_string();
        let content = match &entry.kind {
            EntryKind::File { .. } => content.as_slice(),
            EntryKind::Hardlink { target } => files[target.as_str()],
            _ => continue,
        };
        assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), content, "{name}");
        files.insert(name, content);
    }
    assert!(files.len() >= 8, "{:?}", files.keys());
}

fn unpack(folder: &Path, archive: &[u8]) {
    let mut child = Command::new("cpio")
        .args(["-idm", "--quiet", "--no-absolute-filenames"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cpio must be installed (Debian: apt-get install cpio)");
    child.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn hard_links_have_one_content() {
    let scratch = tempfile::tempdir().unwrap();
    let seen = common::walk(&build(scratch.path(), "w3.zstdio")).unwrap();
    let kinds = |ending: &str| {
        let mine = seen.iter().filter(|(_, entry, _)| entry.path.as_str().starts_with(ending));
        mine.map(|(_, entry, _)| match &entry.kind {
            EntryKind::File { size } => format!("file {size}"),
            EntryKind::Hardlink { .. } => "link".to_owned(),
            other => format!("{other:?}"),
        })
        .collect::<Vec<_>>()
    };
    let mut numbers = kinds("opt/acme/lib/numbers");
    numbers.extend(kinds("opt/acme/lib/a-first"));
    numbers.sort();
    assert_eq!(numbers, ["file 288894", "link", "link"]);
    let mut empty = kinds("opt/acme/lib/empty");
    empty.sort();
    assert_eq!(empty, ["file 0", "link"]);
}

fn facts(scratch: &Path) -> (PathBuf, Facts) {
    let path = build(scratch, "w3.zstdio");
    let facts = inspect(&path).unwrap();
    (path, facts)
}

#[test]
fn metadata_as_rpm_shows_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, facts) = facts(scratch.path());
    let package = facts.package.unwrap();
    assert_eq!(
        (package.kind, package.name.as_str(), package.version.as_str()),
        (PackageKind::Rpm, "acme-scope", "4:1.2-3")
    );
    let query = "%{ARCH}|%{VENDOR}|%{LICENSE}|%{URL}|%{SUMMARY}|%{GROUP}|%{PACKAGER}";
    let theirs = lines("rpm", Command::new("rpm").args(["-qp", "--qf", query]).arg(&path));
    let ours = [
        package.architecture,
        package.vendor,
        package.license,
        package.homepage,
        package.description,
        package.section,
        package.maintainer,
    ];
    assert_eq!(ours.map(Option::unwrap).join("|"), theirs[0]);
    let relations = |what: &str| lines("rpm", Command::new("rpm").args(["-qp", what]).arg(&path));
    let requires: BTreeSet<String> =
        relations("--requires").into_iter().filter(|line| !line.starts_with("rpmlib(")).collect();
    assert!(requires.contains("libusb >= 1.0"), "{requires:?}");
    assert_eq!(package.requires, requires.into_iter().collect::<Vec<_>>());
    for (what, ours) in [
        ("--provides", package.provides),
        ("--conflicts", package.conflicts),
        ("--obsoletes", package.replaces),
        ("--recommends", package.recommends),
    ] {
        let mut ours: Vec<String> = ours.unwrap().split(", ").map(str::to_owned).collect();
        let mut theirs = relations(what);
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{what}");
    }
    assert_eq!(facts.system.conffiles, relations("--configfiles"));
    assert_eq!(facts.system.conffiles.len(), 1);
}

#[test]
fn scriptlets_as_rpm_shows_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, facts) = facts(scratch.path());
    let ours: Vec<(&str, &str, &str)> = facts
        .scripts
        .iter()
        .map(|script| {
            (script.name.as_str(), script.interpreter.as_deref().unwrap_or("-"), script.text.trim_end())
        })
        .collect();
    assert_eq!(
        ours,
        [
            ("filetriggerin /usr/lib/acme", "/bin/sh", "cat"),
            ("post", "/bin/sh", "/sbin/ldconfig\nudevadm trigger --subsystem-match=usb"),
            ("posttrans", "/usr/bin/python3", "import os"),
            ("postun", "/sbin/ldconfig", ""),
            ("pre", "/bin/sh", "getent passwd acme >/dev/null || useradd -r acme"),
            ("preun", "<lua>", "print(\"leaving\")"),
            ("transfiletriggerun /usr/share/acme", "/bin/sh", "cat >/dev/null"),
            ("triggerin bash >= 4, zsh", "/bin/sh", "echo a shell came"),
            ("triggerpostun acme-old < 2", "<lua>", "print(\"gone\")"),
            ("verify", "/bin/sh", "test -e /opt/acme"),
        ]
    );
    assert_eq!(facts.scripts[1].calls, ["ldconfig", "udevadm"]);
    let all = ["--scripts", "--triggers", "--filetriggers"]
        .map(|what| run("rpm", Command::new("rpm").args(["-qp", what]).arg(&path)));
    let theirs = String::from_utf8(all.concat()).unwrap();
    for (name, _, text) in ours {
        assert!(theirs.contains(text), "{name}: {theirs}");
    }
}

#[test]
fn privileges_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, facts) = facts(scratch.path());
    let dropped: Vec<(&str, DroppedWhat, &str)> = facts
        .dropped
        .iter()
        .map(|dropped| (dropped.path.as_str(), dropped.what, dropped.detail.as_str()))
        .collect();
    assert_eq!(
        dropped,
        [
            ("/opt/acme", DroppedWhat::Setgid, "2755"),
            (
                "/opt/acme/bin/scoped",
                DroppedWhat::Xattrs,
                "security.capability (cap_net_raw,cap_sys_nice=ep)"
            ),
            ("/opt/acme/bin/start", DroppedWhat::Setuid, "4755"),
        ]
    );
}

#[test]
fn damage_is_said_to_be_damage() {
    let scratch = tempfile::tempdir().unwrap();
    let path = build(scratch.path(), "w9.gzdio");
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(97).chain(whole.len() - 20..whole.len()) {
        let cut = common::write(scratch.path(), "cut.rpm", &whole[..length]);
        let facts = inspect(&cut);
        // Four bytes tell what it is.
        assert!(length < 4 || facts.is_err(), "{length} of {}: {:?}", whole.len(), facts.map(|f| f.files));
    }
    let mut lzma = whole.clone();
    let at = memchr_of(&lzma, b"gzip\0");
    lzma[at..at + 4].copy_from_slice(b"lzma");
    let lzma = common::write(scratch.path(), "lzma.rpm", &lzma);
    assert!(matches!(common::walk(&lzma), Err(Error::Unsupported { what, .. }) if what.contains("lzma")));
    // Its header is read all the same.
    let facts = inspect(&lzma).unwrap();
    assert_eq!(facts.package.unwrap().name, "acme-scope");
    assert!(facts.omitted.iter().any(|one| one.what == "files" && one.reason.contains("lzma")));
}

fn memchr_of(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// A tree, packed by GNU cpio.
fn cpio(folder: &Path, format: &str) -> Vec<u8> {
    let tree = folder.join("tree");
    if !tree.exists() {
        common::write(&tree, "bin/tool", &vec![7; 5000]);
        common::write(&tree, "bin/odd", b"xyz");
        std::fs::hard_link(tree.join("bin/tool"), tree.join("bin/alias")).unwrap();
        std::fs::hard_link(tree.join("bin/tool"), tree.join("bin/zalias")).unwrap();
        std::os::unix::fs::symlink("tool", tree.join("bin/link")).unwrap();
        run("coreutils", Command::new("mkfifo").arg(tree.join("bin/pipe")));
    }
    let mut child = Command::new("cpio")
        .args(["-o", "--quiet", "-H", format])
        .current_dir(&tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio must be installed (Debian: apt-get install cpio)");
    let names = "bin\nbin/alias\nbin/link\nbin/odd\nbin/pipe\nbin/tool\nbin/zalias\n";
    child.stdin.take().unwrap().write_all(names.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn cpio_in_every_form_and_compression() {
    let scratch = tempfile::tempdir().unwrap();
    for form in ["newc", "crc", "odc"] {
        let plain = cpio(scratch.path(), form);
        for (bytes, compression) in [
            (plain.clone(), Compression::None),
            (common::gzip(&plain), Compression::Gzip),
            (common::xz(&plain), Compression::Xz),
            (common::zstd(&plain), Compression::Zstd),
            (common::bzip2(&plain), Compression::Bzip2),
        ] {
            let path = common::write(scratch.path(), "archive", &bytes);
            assert_eq!(archive::detect(&path).unwrap(), Format::Cpio(compression), "{form}");
            let seen = common::walk(&path).unwrap();
            let mut names = common::names(&seen);
            names.sort();
            assert_eq!(
                names,
                ["bin", "bin/alias", "bin/link", "bin/odd", "bin/pipe", "bin/tool", "bin/zalias"]
            );
            let content: u64 = seen.iter().map(|(_, _, content)| content.len() as u64).sum();
            // The old form repeats the content with every name.
            assert_eq!(content, if form == "odc" { 15_003 } else { 5003 }, "{form}");
            assert!(seen.iter().any(|(_, entry, _)| entry.kind == EntryKind::Fifo));
        }
    }
}

#[test]
fn a_wrong_sum_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut bytes = cpio(scratch.path(), "crc");
    let at = memchr_of(&bytes, b"xyz");
    bytes[at] = b'y';
    let path = common::write(scratch.path(), "archive", &bytes);
    assert!(
        matches!(common::walk(&path), Err(Error::Corrupt { what, .. }) if what.contains("wrong checksum"))
    );
}

/// One member of the "new ASCII" form.
fn member(name: &str, mode: u32, inode: u32, links: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{:08x}", 0, 0, 0, content.len());
    bytes += &format!("{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name}\0", 0, 0, 0, 0, name.len() + 1, 0);
    let mut bytes = bytes.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn hostile(members: &[Vec<u8>]) -> Result<common::Seen, Error> {
    let scratch = tempfile::tempdir().unwrap();
    let bytes = [members.concat(), member("TRAILER!!!", 0, 0, 1, b"")].concat();
    common::walk(&common::write(scratch.path(), "x.cpio", &bytes))
}

#[test]
fn hostile_members() {
    let file = 0o100_644;
    assert_eq!(
        common::names(
            &hostile(&[member("/usr/x", file, 1, 1, b"1"), member("./", 0o40_755, 2, 2, b"")]).unwrap()
        ),
        ["usr/x", ""]
    );
    for name in ["../x", "a/../../x", "//x", "a\nb", ""] {
        let refused = hostile(&[member(name, file, 1, 1, b"1")]);
        assert!(matches!(refused, Err(Error::Hostile { .. })), "{name}: {refused:?}");
    }
    let through = [member("etc", 0o120_777, 1, 1, b"/etc"), member("etc/passwd", file, 2, 1, b"x")];
    assert!(matches!(hostile(&through), Err(Error::Hostile { .. })));
    // A name that waits for its content and lies below what has become a link.
    let waiting = [
        member("d/x", file, 7, 2, b""),
        member("d", 0o120_777, 1, 1, b"/etc"),
        member("y", file, 7, 2, b"z"),
    ];
    assert!(matches!(hostile(&waiting), Err(Error::Hostile { .. })));
    let huge = [b"070701".to_vec(), vec![b'f'; 104]].concat();
    assert!(hostile(&[huge]).is_err());
    let long_link = member("l", 0o120_777, 1, 1, &[b'x'; 5000]);
    assert!(matches!(hostile(&[long_link]), Err(Error::Hostile { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packages_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), head in any::<bool>()) {
        static SAMPLES: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
        let samples = SAMPLES.get_or_init(|| {
            let scratch = tempfile::tempdir().unwrap();
            let package = std::fs::read(build(scratch.path(), "w.ufdio")).unwrap();
            [package, cpio(scratch.path(), "newc"), cpio(scratch.path(), "odc")]
        });
        for sample in samples {
            let mut bytes = sample.clone();
            let span = if head { bytes.len().min(6000) } else { bytes.len() };
            for (at, value) in &flips {
                bytes[at.index(span)] = *value;
            }
            let _facts = hatchway_inspect::inspect_bytes(Path::new("x"), &bytes, &Limits::default());
        }
    }
}
