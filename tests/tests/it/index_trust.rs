//! Which indices are believed: only those that a trusted, valid key signed, for this suite, and not too long ago.

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::{Package, sha256};
use hatchway_tests::server::Server;
use hatchway_tests::snapshot;
use hatchway_tests::tar::gzip;

use super::{hinted, needing};

const IN_RELEASE: &str = "dists/bookworm/InRelease";

fn suite() -> Suite {
    Suite::new("bookworm", Libc::Exports("2.36"))
}

/// A bench with a recipe and a mirror, before any index was read.
fn bench(mirror: &Mirror) -> (Bench, Server) {
    let (bench, server) = Bench::ordinary().with_mirror(mirror);
    bench.put("acme.deb", needing(&[("libc.so.6", &["GLIBC_2.34"])]).deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    (bench, server)
}

fn lock(bench: &Bench) -> Outcome {
    bench.hatchway(&["lock", "acme", "--suite", "bookworm"])
}

/// The lock of a mirror whose `InRelease` was replaced; nothing may come of it.
fn with_release(change: impl Fn(&Mirror, &str) -> String) -> Outcome {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror);
    let signed = String::from_utf8(server.file(IN_RELEASE)).unwrap();
    server.replace(IN_RELEASE, change(&mirror, &signed));
    let outcome = lock(&bench);
    let wrote = bench.path("work/recipes/acme/recipe.lock").exists();
    assert_eq!(wrote, outcome.code == Some(0), "a lock from an index that was refused");
    outcome
}

#[test]
fn a_signed_index_is_believed() {
    drop(with_release(|_, signed| signed.to_owned()).ok());
}

#[test]
fn an_unsigned_index_is_not() {
    snapshot!(
        with_release(|mirror, _| mirror.release("bookworm")),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` is not signed by a trusted key: it carries no OpenPGP clear-text signature
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
}

#[test]
fn a_key_that_is_not_in_the_ring_does_not_count() {
    snapshot!(
        with_release(|mirror, _| Key::new(2).clearsign(&mirror.release("bookworm"))),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` is not signed by a trusted key: key 7d782f28281d05efbcce96fd4933151249e4953f is not in the key ring, or the text was changed
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
}

#[test]
fn an_expired_key_does_not_count() {
    let (bench, _server) = bench(&Mirror::new(vec![suite()], Key::expired(3)));
    snapshot!(
        lock(&bench),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` is not signed by a trusted key: key a24ad8051070767b72764932c1d952c2d86a0081 has expired
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
}

#[test]
fn a_revoked_key_does_not_count() {
    let (bench, _server) = bench(&Mirror::new(vec![suite()], Key::revoked(4)));
    snapshot!(
        lock(&bench),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` is not signed by a trusted key: key a323893af418f564cf3454d8a61b4c7c17b51ee3 is revoked
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
}

#[test]
fn one_changed_byte_is_noticed() {
    snapshot!(
        with_release(|_, signed| signed.replacen("Origin: Test", "Origin: Tess", 1)),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` is not signed by a trusted key: key 92e5cff79e9534d8e69e7e40a6c489a227994217 is not in the key ring, or the text was changed
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
    let digit = |signed: &str| {
        let at = signed.find("SHA256:\n ").unwrap() + 9;
        let other = if signed.as_bytes()[at] == b'0' { "1" } else { "0" };
        format!("{}{other}{}", &signed[..at], &signed[at + 1..])
    };
    assert_eq!(with_release(|_, signed| digit(signed)).code, Some(2));
}

#[test]
fn text_outside_of_the_signature_is_not_read() {
    let forged = "Origin: Forged\nCodename: bookworm\nSHA256:\n";
    let after = with_release(|_, signed| format!("{signed}\n{forged}"));
    let before = with_release(|_, signed| format!("{forged}\n{signed}"));
    for outcome in [after, before] {
        // Refused or passed over: both are fine, believed is not.
        assert!(matches!(outcome.code, Some(0 | 2)), "{outcome}");
        assert!(!outcome.stderr.contains("Forged"), "{outcome}");
    }
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror);
    let signed = String::from_utf8(server.file(IN_RELEASE)).unwrap();
    server.replace(IN_RELEASE, format!("{signed}\n{forged}"));
    if lock(&bench).code == Some(0) {
        assert!(bench.read("recipes/acme/recipe.lock").contains("origin = \"Test\""));
    }
}

#[test]
fn an_index_file_that_the_release_does_not_name_is_refused() {
    let (bench, server) = bench(&Mirror::new(vec![suite()], Key::new(1)));
    server.replace("dists/bookworm/main/binary-amd64/Packages.gz", gzip(b"Package: forged\n"));
    snapshot!(
        lock(&bench),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
error: `main/binary-amd64/Packages.gz` of debian:bookworm/main does not match its hash: expected sha256 [sha256], found [sha256]
hint: the file changed or was damaged on the way; if a mirror is out of step, run `hatchway lock --refresh`
"#
    );
}

#[test]
fn indices_are_read_by_their_hash_where_the_archive_offers_it() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror);
    let text = mirror.release("bookworm").replacen("SHA256:", "Acquire-By-Hash: yes\nSHA256:", 1);
    server.replace(IN_RELEASE, mirror.key.clearsign(&text));
    for (folder, file) in [("main/binary-amd64", "Packages.gz"), ("main", "Contents-amd64.gz")] {
        let bytes = server.file(&format!("dists/bookworm/{folder}/{file}"));
        server.replace(&format!("dists/bookworm/{folder}/by-hash/SHA256/{}", sha256(&bytes)), bytes);
        // By its name it is another one already, as on a mirror in the middle of an update.
        server.replace(&format!("dists/bookworm/{folder}/{file}"), "newer");
    }
    drop(lock(&bench).ok());
}

#[test]
fn a_mirror_in_the_middle_of_an_update_is_named_as_such() {
    let older = Suite::new("bullseye", Libc::Exports("2.36"));
    let mirror = Mirror::new(vec![suite(), older], Key::new(1));
    let (bench, server) = bench(&mirror);
    let text = mirror.release("bookworm").replacen("SHA256:", "Acquire-By-Hash: yes\nSHA256:", 1);
    server.replace(IN_RELEASE, mirror.key.clearsign(&text));
    // None has its name by its hash: by their own they are read, as apt does it.
    drop(lock(&bench).ok());

    let contents = "dists/bookworm/main/Contents-amd64.gz";
    let before = server.file(contents);
    server.replace(contents, "newer");
    let refused = bench.hatchway(&["lock", "acme", "--suite", "bookworm", "--refresh"]);
    snapshot!(
        refused,
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
error: no suite fits:
bookworm: the mirror is out of step: its signed list names `main/Contents-amd64.gz` of debian:bookworm/main with sha256 [sha256], and it has another one: it is being updated, or incomplete
hint: try again later, or name another mirror (HATCHWAY_DEBIAN_MIRROR, or [[mirror]] in hatchway.toml)
"#
    );
    // Another suite may do, and it is said why it was not this one.
    let other = bench.hatchway(&["lock", "acme", "--refresh"]).ok();
    assert!(other.stderr.contains("bookworm refused: the mirror is out of step"), "{other}");
    assert!(other.stderr.contains("locked: debian:bullseye"), "{other}");
    // It is no reason to believe that the suite is not there.
    server.replace(contents, before);
    drop(bench.hatchway(&["lock", "acme", "--suite", "bookworm", "--refresh"]).ok());
}

#[test]
fn an_old_index_is_refused_unless_the_mirror_is_declared_frozen() {
    let old = Suite { valid_for_s: -86_400, ..suite() };
    let (bench, server) = bench(&Mirror::new(vec![old], Key::new(1)));
    let outcome = lock(&bench);
    let date = outcome.stderr.split("until ").nth(1).and_then(|rest| rest.lines().next()).unwrap().to_owned();
    snapshot!(
        outcome.to_string().replace(&date, "[yesterday]"),
        r#"
exit 2
--- stderr
  reading the indices of bookworm
error: the index `debian:bookworm` expired: it was valid until [yesterday]
hint: use a current mirror, or, for a frozen one, set `check-valid-until = false` at its [[mirror]] in hatchway.toml
"#
    );
    let bench = bench.without_mirror_variable();
    let mirror = |check: bool| format!("[[mirror]]\nurl = \"{}\"\ncheck-valid-until = {check}\n", server.url);
    bench.configure(&mirror(true));
    assert_eq!(lock(&bench).code, Some(2));
    bench.configure(&mirror(false));
    drop(lock(&bench).ok());
    // The cache is judged as the network is.
    bench.configure(&mirror(true));
    assert_eq!(lock(&bench).code, Some(2), "{}", lock(&bench));
}

#[test]
fn an_index_of_another_suite_is_refused() {
    let other = Suite { signed_as: Some("trixie".to_owned()), ..suite() };
    let (bench, _server) = bench(&Mirror::new(vec![other], Key::new(1)));
    let signed_for = "it is signed for `trixie` (trixie), not for `bookworm`";
    hinted(&lock(&bench), &format!("error: the index `debian:bookworm` is not usable: {signed_for}"));
}

#[test]
fn a_key_ring_that_is_none_is_told() {
    let (bench, _server) = bench(&Mirror::new(vec![suite()], Key::new(1)));
    std::fs::write(bench.path("ring.pgp"), "no keys here").unwrap();
    snapshot!(
        lock(&bench),
        r#"
exit 2
--- stderr
error: key ring `[bench]/ring.pgp` cannot be used: IO error: unknown packet header version 1101110
hint: update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml
"#
    );
    std::fs::remove_file(bench.path("ring.pgp")).unwrap();
    hinted(&lock(&bench), "`[bench]/ring.pgp`");
}

#[test]
fn another_mirror_is_another_cache() {
    let (bench, _server) = bench(&Mirror::new(vec![suite()], Key::new(1)));
    drop(lock(&bench).ok());
    let newer = suite().with(Package::new("sed", "2.0-1"));
    let (bench, second) = bench.with_mirror(&Mirror::new(vec![newer], Key::new(2)));
    drop(lock(&bench).ok());
    assert_ne!(second.requests(), [], "the new mirror was never asked, nor the new key");
    let lock = bench.read("recipes/acme/recipe.lock");
    assert!(lock.contains("version = \"2.0-1\""), "the index of the old mirror was used");
}

#[test]
fn a_damaged_index_cache_is_made_anew() {
    let (bench, server) = bench(&Mirror::new(vec![suite()], Key::new(1)));
    drop(lock(&bench).ok());
    drop(server.requests());
    let folder = bench.path("cache/hatchway/indices");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    drop(lock(&bench).ok());
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked.iter().filter(|path| path.starts_with("dists/bookworm/")).count(), 3, "{asked:?}");
}
