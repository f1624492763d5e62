//! Archives that are damaged or mean harm: a clear message, and store and recipes as they were.

use hatchway_tests::bench::Bench;
use hatchway_tests::snapshot;
use hatchway_tests::store::listing;
use hatchway_tests::tar::{Tar, ar, deb, gzip, xz};

const CONTROL: &str = "Package: evil\nVersion: 1\nArchitecture: amd64\n";

fn control() -> Tar {
    Tar::new().file("./control", 0o644, CONTROL.as_bytes())
}

/// A bench on which something was inspected, so that the folders are there.
fn used_bench() -> Bench {
    let bench = Bench::ordinary();
    bench.put("good.deb", deb(control(), Tar::new().file("./usr/bin/x", 0o755, b"#!/bin/sh\n")));
    drop(bench.hatchway(&["new", "good.deb", "--name", "good"]).ok());
    bench
}

/// Both ways that a stranger's file comes in give the message, and neither leaves a trace.
fn refused(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let bench = used_bench();
    bench.put(name, bytes);
    let state = || {
        let recipes = bench.path("data/recipes");
        let own = if recipes.exists() { listing(&recipes, &|_| false) } else { String::new() };
        bench.store().listing() + &listing(&bench.path("work"), &|_| false) + &own
    };
    let before = state();
    let inspected = bench.hatchway(&["inspect", name]);
    let run = bench.hatchway(&["run", &format!("./{name}")]);
    let new = bench.hatchway(&["new", name]);
    assert_eq!(state(), before, "store or recipes were touched");
    assert_eq!((inspected.code, run.code, new.code), (Some(2), Some(125), Some(2)), "{inspected}{run}{new}");
    // `run` names the file as it was given, with the folder.
    assert_eq!(run.stderr.replace("./", ""), inspected.stderr);
    assert_eq!(new.stderr, inspected.stderr);
    assert!(inspected.stderr.contains("\nhint: "), "{inspected}");
    inspected.stderr
}

#[test]
fn a_deb_that_was_cut() {
    let whole = deb(control(), Tar::new().file("./usr/share/big", 0o644, &noise(4000)));
    snapshot!(refused("cut.deb", &whole[..whole.len() - 1000]), r#"
error: `cut.deb` is truncated: package member `data.tar.gz` should have [n] bytes, 3326 are there
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#);
    snapshot!(refused("head.deb", &whole[..40]), r#"
error: `head.deb` is truncated: it ends inside the header of a package member
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#);
}

#[test]
fn a_deb_with_a_flipped_bit() {
    let mut data = xz(&Tar::new().file("./usr/share/big", 0o644, &noise(4000)).finish());
    let middle = data.len() / 2;
    data[middle] ^= 4;
    let control = gzip(&control().finish());
    let bytes = ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.xz", &data)]);
    snapshot!(refused("flipped.deb", bytes), r#"
error: `flipped.deb` is corrupt: a tar header: lzma data error
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#);
}

#[test]
fn a_tar_gz_that_was_cut() {
    let whole = gzip(&Tar::new().file("big", 0o644, &noise(4000)).finish());
    snapshot!(refused("cut.tar.gz", &whole[..whole.len() - 1000]), r#"
error: `cut.tar.gz` is truncated: it ends inside member `big`
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#);
}

#[test]
fn names_that_lead_outside() {
    snapshot!(refused("climbs.deb", deb(control(), Tar::new().file("./../../etc/x", 0o644, b"x"))), r#""#);
    snapshot!(refused("absolute.tar", Tar::new().file("/etc/x", 0o644, b"x").finish()), r#""#);
}

#[test]
fn writing_through_a_link() {
    let data = Tar::new().symlink("./opt", "/etc").file("./opt/passwd", 0o644, b"root::0:0::/:/bin/sh\n");
    snapshot!(refused("through.deb", deb(control(), data)), r#"
error: `through.deb` is refused: member `opt/passwd` lies below `opt`, which is a symbolic link
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#);
}

#[test]
fn a_hard_link_to_outside() {
    let data = Tar::new().hardlink("./opt/shadow", "/etc/shadow");
    snapshot!(refused("hard.deb", deb(control(), data)), r#""#);
    let data = Tar::new().hardlink("./opt/shadow", "etc/shadow");
    snapshot!(refused("nothing.deb", deb(control(), data)), r#""#);
}

#[test]
fn one_name_as_two_kinds() {
    let tar = Tar::new().file("x", 0o644, b"x").symlink("x", "/etc/passwd");
    snapshot!(refused("kinds.tar", tar.finish()), r#"
error: `kinds.tar` is refused: member `x` is a symbolic link and was a file earlier in the same archive
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#);
}

#[test]
fn more_than_the_limits_allow() {
    let claims = Tar::new().claims(200 << 30).file("bomb", 0o644, b"");
    snapshot!(refused("bomb.tar.gz", gzip(&claims.finish())), r#"
error: `bomb.tar.gz` exceeds a limit: size of member `bomb` ([n] bytes) (the limit is 137438953472)
hint: nothing was unpacked; if the vendor's file is really that large, unpack it by hand and pack the part you need
"#);
    let deep = "d/".repeat(49).into_bytes();
    let mut path = Tar::new().folder("d/");
    // Names in ustar are short; a long one comes in an extended header.
    let record = format!("path={}x\n", String::from_utf8(deep.repeat(4)).unwrap());
    let record = format!("{} {record}", record.len() + 4);
    path = path.raw(b'x', b"deep", b"", 0o644, record.as_bytes()).file("short", 0o644, b"");
    snapshot!(refused("deep.tar", path.finish()), r#"
error: `deep.tar` is refused: member `d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/…` lies more than 128 directories deep
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#);
}

#[test]
fn a_name_that_is_not_utf_8() {
    let tar = Tar::new().raw(b'0', b"usr/\xff\xfe", b"", 0o644, b"x");
    snapshot!(refused("bytes.tar", tar.finish()), r#"
error: `bytes.tar` is refused: member `usr/��` has a name that is not UTF-8
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#);
}

#[test]
fn a_deb_without_its_parts() {
    let data = gzip(&Tar::new().file("./usr/bin/x", 0o755, b"x").finish());
    snapshot!(refused("none.deb", ar(&[("debian-binary", b"2.0\n"), ("data.tar.gz", &data)])), r#"
error: `none.deb` is corrupt: `data.tar.gz` stands where `control.tar.*` belongs
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#);
    snapshot!(refused("empty.deb", deb(Tar::new(), Tar::new())), r#""#);
    let nameless = Tar::new().file("./control", 0o644, b"Version: 1\n");
    snapshot!(refused("nameless.deb", deb(nameless, Tar::new())), r#""#);
}

#[test]
fn what_is_no_archive_at_all() {
    snapshot!(refused("text.bin", b"just a text\n"), r#""#);
    snapshot!(refused("empty.bin", b""), r#""#);
    snapshot!(refused("cut.zip", b"PK\x03\x04 and nothing more"), r#""#);
    snapshot!(refused("vendor.rpm", b"\xed\xab\xee\xdb and the rest"), r#""#);
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}
