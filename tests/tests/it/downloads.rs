//! What happens when a mirror is wrong, slow to the end, or not there.

use hatchway_tests::bench::Bench;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Mirror, pool_path, three_suites};
use hatchway_tests::server::{Fault, Server};
use hatchway_tests::snapshot;

use super::{hinted, needing};

/// A bench with a lock; libc6 alone is in the store, since its symbol versions were read.
fn locked() -> (Bench, Server) {
    let (bench, server) = Bench::ordinary().with_mirror(&Mirror::new(three_suites(), Key::new(1)));
    bench.put("acme.deb", needing(&[("libc.so.6", &["GLIBC_2.34"])]).deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    (bench, server)
}

fn sed() -> String {
    pool_path("bookworm", "sed", "1.0-1")
}

#[test]
fn a_package_with_another_hash_is_not_let_in() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::Corrupt(300));
    let outcome = bench.hatchway(&["build", "acme"]);
    snapshot!(
        outcome,
        r#"
exit 2
--- stderr
  downloading ([n] MiB)
error: `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main does not match its hash: expected sha256 [sha256], found [sha256]
hint: the file changed or was damaged on the way; if a mirror is out of step, run `hatchway lock --refresh`
"#
    );
    let store = bench.store();
    for folder in ["trees", "manifests", "builds", "packages", "objects", "tmp"] {
        assert_eq!(store.names(folder), [""; 0], "{folder}");
    }
    store.check_artifacts();
    assert!(
        !store.partial().iter().any(|name| name.len() == 64),
        "the wrong file is left: {:?}",
        store.partial()
    );
    server.mend();
    drop(bench.hatchway(&["build", "acme"]).ok());
}

#[test]
fn a_cut_connection_is_told_and_the_next_call_resumes() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::CutAfter(200));
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
  downloading ([n] MiB)
error: cannot download `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main
  because: io: Peer disconnected
hint: check the mirror (HATCHWAY_DEBIAN_MIRROR or hatchway.toml) and the network; the same command resumes
"#
    );
    drop(server.requests());
    drop(bench.hatchway(&["build", "acme"]).ok());
    let range = server.requests().into_iter().find(|request| request.path == sed()).unwrap().range;
    assert_eq!(range.as_deref(), Some("bytes=200-"));
    bench.store().check_artifacts();
    assert_eq!(bench.store().partial(), [""; 0]);
}

#[test]
fn a_rest_of_another_file_is_thrown_away() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::CutAfter(200));
    assert_eq!(bench.hatchway(&["build", "acme"]).code, Some(2));
    for name in bench.store().partial() {
        let path = bench.path("data/store/artifacts/.partial").join(name);
        std::fs::write(path, [7_u8; 100]).unwrap();
    }
    drop(bench.hatchway(&["build", "acme"]).ok());
    bench.store().check_artifacts();
}

#[test]
fn a_mirror_that_cannot_resume_sends_the_whole_file() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::CutAfter(200));
    assert_eq!(bench.hatchway(&["build", "acme"]).code, Some(2));
    server.fault(&sed(), Fault::WholeAndMore(0));
    drop(bench.hatchway(&["build", "acme"]).ok());
    bench.store().check_artifacts();
}

#[test]
fn a_file_that_does_not_end_is_cut_and_refused() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::WholeAndMore(64 << 20));
    let outcome = bench.hatchway(&["build", "acme"]);
    assert!(outcome.stderr.contains("does not match its hash"), "{outcome}");
    assert!(bench.store().partial().len() < 4, "{:?}", bench.store().partial());
}

#[test]
fn a_file_that_the_mirror_dropped_is_told() {
    let (bench, server) = locked();
    server.fault(&sed(), Fault::Status(404));
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
  downloading ([n] MiB)
error: no mirror has `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main any more, and it is not in the store
hint: move to what the mirrors have: `hatchway lock RECIPE --upgrade`
hint: or name a mirror that keeps old versions: a second [[mirror]] in hatchway.toml
hint: or bring it: `bundles = ["/media/stick"]` in hatchway.toml names a folder with a copy of another store's `artifacts`
"#
    );
}

#[test]
fn the_next_mirror_is_asked_when_the_first_fails() {
    let mirror = Mirror::new(three_suites(), Key::new(1));
    let (bench, server) = locked();
    let second = mirror.serve();
    server.fault(&sed(), Fault::Status(503));
    let bench = bench.without_mirror_variable();
    bench.configure(&format!("[[mirror]]\nurl = \"{}\"\n[[mirror]]\nurl = \"{}\"\n", server.url, second.url));
    drop(bench.hatchway(&["build", "acme"]).ok());
    assert_eq!(second.requests().len(), 1);
}

/// The lock's bench with two mirrors in its configuration, the first of which has dropped `sed`.
fn dropped_by_the_first() -> (Bench, Server, Server) {
    let (bench, first) = locked();
    let second = Mirror::new(three_suites(), Key::new(1)).serve();
    first.fault(&sed(), Fault::Status(404));
    let bench = bench.without_mirror_variable();
    bench.configure(&format!("[[mirror]]\nurl = \"{}\"\n[[mirror]]\nurl = \"{}\"\n", first.url, second.url));
    (bench, first, second)
}

#[test]
fn a_file_that_the_first_mirror_dropped_comes_from_the_second() {
    let (bench, first, second) = dropped_by_the_first();
    drop(bench.hatchway(&["build", "acme"]).ok());
    let asked = |server: &Server| server.requests().into_iter().map(|r| r.path).collect::<Vec<_>>();
    assert!(asked(&first).contains(&sed()), "the first is asked first");
    assert_eq!(asked(&second), [sed()], "the second only for what the first has not");
    bench.store().check_artifacts();
}

#[test]
fn a_file_that_every_mirror_dropped_is_told_once() {
    let (bench, _first, second) = dropped_by_the_first();
    second.fault(&sed(), Fault::Status(410));
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
  downloading ([n] MiB)
error: no mirror has `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main any more, and it is not in the store
hint: move to what the mirrors have: `hatchway lock RECIPE --upgrade`
hint: or name a mirror that keeps old versions: a second [[mirror]] in hatchway.toml
hint: or bring it: `bundles = ["/media/stick"]` in hatchway.toml names a folder with a copy of another store's `artifacts`
"#
    );
    // What a mirror has against answering says more than that another has not got the file.
    second.fault(&sed(), Fault::Status(503));
    let outcome = bench.hatchway(&["build", "acme"]);
    hinted(&outcome, "error: cannot download `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main");
    assert!(outcome.stderr.contains("503"), "{outcome}");
}

#[test]
fn the_stores_own_copy_needs_no_mirror() {
    let (bench, server) = locked();
    drop(bench.hatchway(&["build", "acme"]).ok());
    // What was made of the packages is gone, the packages are there.
    let store = bench.path("data/store");
    let forget =
        "cd ../data/store && chmod -R u+w trees objects && rm -r builds trees manifests packages objects";
    drop(bench.script(forget).ok());
    drop(server);
    let bench = bench.without_mirror_variable();
    let script = "mount -t tmpfs none /etc/apt && exec \"$HATCHWAY\" build acme";
    drop(bench.mounting_script(script).ok());
    // Of one that is gone too, the message says that nobody can be asked.
    drop(bench.script(forget).ok());
    let lock = bench.read("recipes/acme/recipe.lock");
    let of_sed = lock.split("[[package]]").find(|block| block.contains("name = \"sed\"")).unwrap();
    let digest = of_sed.lines().find_map(|line| line.strip_prefix("sha256 = \"")).unwrap();
    std::fs::remove_file(store.join("artifacts").join(digest.trim_end_matches('"'))).unwrap();
    hinted(&bench.mounting_script(script), "error: no Debian mirror is known");
}

#[test]
fn without_a_mirror_the_message_says_where_to_name_one() {
    let (bench, _server) = locked();
    let bench = bench.without_mirror_variable();
    // The host's own apt sources would name one: an empty folder hides them.
    let script = "mount -t tmpfs none /etc/apt && exec \"$HATCHWAY\" lock acme --refresh";
    snapshot!(
        bench.mounting_script(script),
        r#"
exit 2
--- stderr
error: no Debian mirror is known
hint: set HATCHWAY_DEBIAN_MIRROR to a mirror's URL, or add a [[mirror]] to hatchway.toml, or a Debian source to the host's apt
"#
    );
}

#[test]
fn offline_names_what_is_missing() {
    let (bench, _server) = locked();
    let outcome = bench.hatchway(&["build", "acme", "--offline"]);
    assert_eq!(outcome.code, Some(2));
    // Several downloads start at once, so which one is named first is open.
    assert!(
        outcome.stderr.contains(
            "is not in the cache and `--offline` was given\nhint: run the same command once without"
        ),
        "{outcome}"
    );
    snapshot!(
        bench.hatchway(&["lock", "acme", "--offline", "--suite", "trixie"]),
        r#"
exit 2
--- stderr
  reading the indices of trixie
error: `InRelease` of debian:trixie is not in the cache and `--offline` was given
hint: run the same command once without `--offline`
"#
    );
}

#[test]
fn an_artifact_with_another_digest_is_refused() {
    let (bench, _server) = locked();
    let other = Bench::ordinary();
    std::fs::create_dir_all(other.path("work/recipes/acme")).unwrap();
    for file in ["recipe.toml", "recipe.lock"] {
        other.put(&format!("recipes/acme/{file}"), bench.read(&format!("recipes/acme/{file}")));
    }
    snapshot!(
        other.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
error: the artifact `acme.deb` is not in the store
hint: put `acme.deb` into `recipes/acme` and run the command again
"#
    );
    other.put("recipes/acme/acme.deb", "another file");
    let outcome = other.hatchway(&["build", "acme"]);
    hinted(&outcome, "error: `recipes/acme/acme.deb` is not the file that was named: expected sha256 ");
    assert!(!outcome.stderr.contains("lock --refresh"), "no mirror has to do with it\n{outcome}");
    assert_eq!(other.store().names("artifacts"), [""; 0]);
}
