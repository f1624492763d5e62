//! Archives that are damaged or mean harm: a clear message, and store and recipes as they were.

use hatchway_tests::bench::Bench;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::Package;
use hatchway_tests::snapshot;
use hatchway_tests::snapshot::difference;
use hatchway_tests::store::listing;
use hatchway_tests::tar::{Tar, ar, deb, gzip, xz, zip};

use super::hinted;

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
    let touched = difference(&before, &state());
    let touched: Vec<&str> = touched.lines().filter(|line| !line.starts_with("  ")).collect();
    assert_eq!(touched, [""; 0], "store or recipes were touched\n{inspected}{run}{new}");
    assert_eq!((inspected.code, run.code, new.code), (Some(2), Some(125), Some(2)), "{inspected}{run}{new}");
    // `run` names the file as it was given, with the folder.
    assert_eq!(run.stderr.replace(&format!("`./{name}`"), &format!("`{name}`")), inspected.stderr);
    assert_eq!(new.stderr, inspected.stderr);
    assert!(inspected.stderr.contains("\nhint: "), "{inspected}");
    inspected.stderr
}

#[test]
fn a_deb_that_was_cut() {
    let whole = deb(control(), Tar::new().file("./usr/share/big", 0o644, &noise(4000)));
    snapshot!(
        refused("cut.deb", &whole[..whole.len() - 1000]),
        r#"
error: `cut.deb` is truncated: package member `data.tar.gz` should have [n] bytes, 3326 are there
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
    snapshot!(
        refused("head.deb", &whole[..40]),
        r#"
error: `head.deb` is truncated: it ends inside the header of a package member
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn a_deb_with_a_flipped_bit() {
    let mut data = xz(&Tar::new().file("./usr/share/big", 0o644, &noise(4000)).finish());
    let middle = data.len() / 2;
    data[middle] ^= 4;
    let control = gzip(&control().finish());
    let bytes = ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.xz", &data)]);
    snapshot!(
        refused("flipped.deb", bytes),
        r#"
error: `flipped.deb` is corrupt: a tar header: lzma data error
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn a_tar_gz_that_was_cut() {
    let whole = gzip(&Tar::new().file("big", 0o644, &noise(4000)).finish());
    snapshot!(
        refused("cut.tar.gz", &whole[..whole.len() - 1000]),
        r#"
error: `cut.tar.gz` is truncated: it ends inside member `big`
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn names_that_lead_outside() {
    snapshot!(
        refused("climbs.deb", deb(control(), Tar::new().file("./../../etc/x", 0o644, b"x"))),
        r#"
error: `climbs.deb` is refused: member `./../../etc/x` climbs out of the archive with `..`
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
    snapshot!(
        refused("absolute.tar", Tar::new().file("/etc/x", 0o644, b"x").finish()),
        r#"
error: `absolute.tar` is refused: member `/etc/x` has an absolute name
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
}

#[test]
fn a_zip_that_leads_outside_or_lies() {
    snapshot!(
        refused("climbs.zip", zip(&[("../x", b"x")])),
        r#"
error: `climbs.zip` is refused: member `../x` climbs out of the archive with `..`
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
    snapshot!(
        refused("absolute.whl", zip(&[("/etc/x", b"x")])),
        r#"
error: `absolute.whl` is refused: member `/etc/x` has an absolute name
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
    let mut lying = zip(&[("usr/bin/x", b"some content")]);
    let at = lying.windows(4).position(|window| window == b"some").unwrap();
    lying[at] ^= 1;
    snapshot!(
        refused("lying.zip", lying),
        r#"
error: `lying.zip` is corrupt: member `usr/bin/x`: Invalid checksum
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn writing_through_a_link() {
    let data = Tar::new().symlink("./opt", "/etc").file("./opt/passwd", 0o644, b"root::0:0::/:/bin/sh\n");
    snapshot!(
        refused("through.deb", deb(control(), data)),
        r#"
error: `through.deb` is refused: member `opt/passwd` lies below `opt`, which is a symbolic link
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
}

#[test]
fn a_hard_link_to_outside() {
    let data = Tar::new().hardlink("./opt/shadow", "/etc/shadow");
    snapshot!(
        refused("hard.deb", deb(control(), data)),
        r#"
error: `hard.deb` is refused: member `./opt/shadow` is a hard link to `/etc/shadow`, which has an absolute name
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
    let data = Tar::new().hardlink("./opt/shadow", "etc/shadow");
    snapshot!(
        refused("nothing.deb", deb(control(), data)),
        r#"
error: `nothing.deb` is refused: member `opt/shadow` is a hard link to `etc/shadow`, which does not appear earlier in the archive
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
}

#[test]
fn one_name_as_two_kinds() {
    let tar = Tar::new().file("x", 0o644, b"x").symlink("x", "/etc/passwd");
    snapshot!(
        refused("kinds.tar", tar.finish()),
        r#"
error: `kinds.tar` is refused: member `x` is a symbolic link and was a file earlier in the same archive
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
}

#[test]
fn more_than_the_limits_allow() {
    let claims = Tar::new().claims(200 << 30).file("bomb", 0o644, b"");
    snapshot!(
        refused("bomb.tar.gz", gzip(&claims.finish())),
        r#"
error: `bomb.tar.gz` exceeds a limit: size of member `bomb` ([n] bytes) (the limit is 137438953472)
hint: nothing was unpacked; if the vendor's file is really that large, unpack it by hand and pack the part you need
"#
    );
    let deep = "d/".repeat(49).into_bytes();
    let mut path = Tar::new().folder("d/");
    // Names in ustar are short; a long one comes in an extended header.
    let record = format!("path={}x\n", String::from_utf8(deep.repeat(4)).unwrap());
    let record = format!("{} {record}", record.len() + 4);
    path = path.raw(b'x', b"deep", b"", 0o644, record.as_bytes()).file("short", 0o644, b"");
    snapshot!(
        refused("deep.tar", path.finish()),
        r#"
error: `deep.tar` is refused: member `d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/…` lies more than 128 directories deep
hint: nothing was unpacked; no honest packaging tool writes this: ask the vendor
"#
    );
}

#[test]
fn a_deb_without_its_parts() {
    let data = gzip(&Tar::new().file("./usr/bin/x", 0o755, b"x").finish());
    snapshot!(
        refused("none.deb", ar(&[("debian-binary", b"2.0\n"), ("data.tar.gz", &data)])),
        r#"
error: `none.deb` is corrupt: `data.tar.gz` stands where `control.tar.*` belongs
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn a_deb_without_a_control_file() {
    let stderr = refused("empty.deb", deb(Tar::new(), Tar::new().file("./usr/bin/x", 0o755, b"x")));
    assert!(stderr.contains("`empty.deb`") && stderr.contains("control"), "{stderr}");
}

#[test]
fn a_control_file_that_makes_no_sense() {
    for (name, control) in [("nameless.deb", &b"Version: 1\n"[..]), ("colonless.deb", b"Package acme\n")] {
        let stderr = refused(name, deb(Tar::new().file("./control", 0o644, control), Tar::new()));
        assert!(stderr.contains(&format!("`{name}`")) && stderr.contains("`control`, line 1"), "{stderr}");
    }
}

#[test]
fn a_file_of_no_known_format() {
    for (name, bytes) in [("text.bin", &b"just a text\n"[..]), ("empty.bin", b""), ("zeros.bin", &[0; 4096])]
    {
        let stderr = refused(name, bytes);
        assert!(stderr.contains(&format!("`{name}` cannot be read: ")), "{stderr}");
    }
}

#[test]
fn formats_that_are_known_and_not_read() {
    snapshot!(
        refused("cut.zip", b"PK\x03\x04 and nothing more"),
        r#"
error: `cut.zip` is truncated: the zip directory at its end is missing
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
    snapshot!(
        refused("vendor.rpm", b"\xed\xab\xee\xdb and the rest"),
        r#"
error: `vendor.rpm` is truncated: it ends inside the signature header
hint: fetch the file again, and compare its size and checksum with what the vendor says
"#
    );
}

#[test]
fn a_hostile_package_of_a_signed_archive_is_refused_too() {
    let suite =
        Suite::new("bookworm", Libc::Exports("2.36")).with(Package::new("sed", "2").file("../../x", "x"));
    let (bench, _server) = Bench::ordinary().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.put("good.deb", deb(control(), Tar::new().file("./usr/bin/x", 0o755, b"#!/bin/sh\n")));
    drop(bench.hatchway(&["new", "good.deb", "--name", "good"]).ok());
    drop(bench.hatchway(&["lock", "good", "--suite", "bookworm"]).ok());
    let outcome = bench.hatchway(&["build", "good"]);
    hinted(&outcome, "is refused: member `./../` climbs out of the archive with `..`");
    for folder in ["trees", "manifests", "builds", "packages", "objects", "tmp"] {
        assert_eq!(bench.store().names(folder), [""; 0], "{folder}");
    }
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
