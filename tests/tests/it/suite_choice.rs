//! Which suite is taken, and what is said about those that are not.

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{LIBRARIES, Mirror, Suite, three_suites};
use hatchway_tests::package::Package;
use hatchway_tests::snapshot;

use super::needing;

/// `libssl` as bullseye has it in one suite and as bookworm has it in the others.
fn suites() -> Vec<Suite> {
    let ssl = |package: &str, soname: &str| {
        Package::new(package, "1.0-1")
            .file(&format!("{LIBRARIES}/{soname}"), compile::library(soname, &["OPENSSL_1"]))
    };
    let [bookworm, trixie, bullseye] = <[Suite; 3]>::try_from(three_suites()).unwrap();
    vec![
        bookworm.with(ssl("libssl3", "libssl.so.3")),
        trixie.with(ssl("libssl3t64", "libssl.so.3")),
        bullseye.with(ssl("libssl1.1", "libssl.so.1.1")),
    ]
}

fn locked(suites: Vec<Suite>, package: &Package, arguments: &[&str]) -> (Bench, Outcome) {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(suites, Key::new(1)));
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    let outcome = bench.hatchway(&[&["lock", "acme"], arguments].concat());
    (bench, outcome)
}

#[test]
fn the_first_suite_that_fits_is_taken() {
    let (bench, outcome) = locked(suites(), &needing(&[("libc.so.6", &["GLIBC_2.28"])]), &[]);
    drop(outcome.ok());
    assert!(bench.read("recipes/acme/recipe.lock").contains("base = \"debian:bookworm\""));
}

#[test]
fn a_newer_glibc_moves_to_the_next_suite_and_says_why() {
    let (bench, outcome) = locked(suites(), &needing(&[("libc.so.6", &["GLIBC_2.34", "GLIBC_2.38"])]), &[]);
    snapshot!(
        outcome,
        r#"
exit 0
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  downloading ([n] MiB)
  reading the indices of trixie
  `main/binary-amd64/Packages.gz` of debian:trixie/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:trixie/main ([n] MiB)
  reading the indices of trixie-updates
  downloading ([n] MiB)
  bookworm refused: `GLIBC_2.38` is not in bookworm's libc6 2.36 (needed by usr/bin/acme)
locked: debian:trixie (Wed, 01 Jan 2025 00:00:00 UTC), 16 packages, [n] MB, rung fhs
wrote recipes/acme/recipe.lock
next: hatchway build acme
"#
    );
    let lock = bench.read("recipes/acme/recipe.lock");
    assert!(lock.contains("refused = [\"bookworm: `GLIBC_2.38` is not in bookworm's libc6 2.36"), "{lock}");
}

#[test]
fn an_old_library_moves_to_the_oldest_suite() {
    let package = needing(&[("libc.so.6", &["GLIBC_2.14"]), ("libssl.so.1.1", &["OPENSSL_1"])]);
    snapshot!(
        locked(suites(), &package, &[]).1,
        r#"
exit 0
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  reading the indices of trixie
  `main/binary-amd64/Packages.gz` of debian:trixie/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:trixie/main ([n] MiB)
  reading the indices of trixie-updates
  reading the indices of bullseye
  `main/binary-amd64/Packages.gz` of debian:bullseye/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bullseye/main ([n] MiB)
  reading the indices of bullseye-updates
  downloading ([n] MiB)
  bookworm refused: `libssl.so.1.1` (needed by usr/bin/acme) is in no package of bookworm
  trixie refused: `libssl.so.1.1` (needed by usr/bin/acme) is in no package of trixie
locked: debian:bullseye (Wed, 01 Jan 2025 00:00:00 UTC), 17 packages, [n] MB, rung fhs
wrote recipes/acme/recipe.lock
next: hatchway build acme
"#
    );
}

#[test]
fn a_glibc_that_nobody_has_is_refused_by_all() {
    snapshot!(
        locked(suites(), &needing(&[("libc.so.6", &["GLIBC_2.99"])]), &[]).1,
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  downloading ([n] MiB)
  reading the indices of trixie
  `main/binary-amd64/Packages.gz` of debian:trixie/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:trixie/main ([n] MiB)
  reading the indices of trixie-updates
  downloading ([n] MiB)
  reading the indices of bullseye
  `main/binary-amd64/Packages.gz` of debian:bullseye/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bullseye/main ([n] MiB)
  reading the indices of bullseye-updates
  downloading ([n] MiB)
error: no suite fits:
bookworm: `GLIBC_2.99` is not in bookworm's libc6 2.36 (needed by usr/bin/acme)
trixie: `GLIBC_2.99` is not in trixie's libc6 2.41 (needed by usr/bin/acme)
bullseye: `GLIBC_2.99` is not in bullseye's libc6 2.31 (needed by usr/bin/acme)
hint: try other suites with `--suite NAME`, leave a bogus dependency out with `exclude = ["…"]`, or ship the missing library as a second [[artifact]]
"#
    );
}

#[test]
fn a_soname_that_nobody_provides_names_the_file_and_near_misses() {
    let package = needing(&[("libssl.so.4", &[]), ("libnowhere.so.0", &[])]);
    snapshot!(
        locked(suites(), &package, &["--suite", "bookworm", "--suite", "bullseye"]).1,
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  reading the indices of bullseye
  `main/binary-amd64/Packages.gz` of debian:bullseye/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bullseye/main ([n] MiB)
  reading the indices of bullseye-updates
error: no suite fits:
bookworm: `libnowhere.so.0` (needed by usr/bin/acme) is in no package of bookworm
bookworm: `libssl.so.4` (needed by usr/bin/acme) is in no package of bookworm
bullseye: `libnowhere.so.0` (needed by usr/bin/acme) is in no package of bullseye
bullseye: `libssl.so.4` (needed by usr/bin/acme) is in no package of bullseye
hint: similar names: libssl.so.3, libssl.so.1.1
hint: try other suites with `--suite NAME`, leave a bogus dependency out with `exclude = ["…"]`, or ship the missing library as a second [[artifact]]
"#
    );
}

#[test]
fn a_missing_dependency_names_the_package_and_what_there_is() {
    let package =
        Package::new("acme", "1.0").field("Depends", "libssl3 (>= 9), no-such-thing | nor-this, sed");
    snapshot!(
        locked(suites(), &package, &["--suite", "bookworm"]).1,
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
error: no suite fits:
bookworm: `libssl3 (>= 9)` (Depends of acme) is not in bookworm, which has libssl3 1.0-1
bookworm: `no-such-thing | nor-this` (Depends of acme) is not in bookworm
hint: try other suites with `--suite NAME`, leave a bogus dependency out with `exclude = ["…"]`, or ship the missing library as a second [[artifact]]
"#
    );
}

#[test]
fn packages_that_exclude_each_other_are_explained() {
    let bookworm = suites().remove(0);
    let suite = bookworm
        .with(Package::new("left", "1").field("Depends", "middle (= 1)"))
        .with(Package::new("right", "1").field("Conflicts", "middle"))
        .with(Package::new("middle", "1"));
    let package = Package::new("acme", "1.0").field("Depends", "left, right");
    snapshot!(
        locked(vec![suite], &package, &["--suite", "bookworm"]).1,
        r#"
exit 2
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
error: no suite fits:
bookworm: the packages cannot be installed together:
The following packages are incompatible
├─ left could be one of:
│  └─ left 1 depends on
│     └─ middle (= 1), of which there is:
│        └─ middle 1
└─ right cannot be installed:
   └─ right 1 conflicts with
      └─ middle, which conflicts with any installable versions previously reported
`left` is asked for by acme
`right` is asked for by acme
hint: try other suites with `--suite NAME`, leave a bogus dependency out with `exclude = ["…"]`, or ship the missing library as a second [[artifact]]
"#
    );
}

#[test]
fn a_suite_that_no_mirror_has_is_refused_not_an_end() {
    let package = needing(&[("libc.so.6", &["GLIBC_2.28"])]);
    snapshot!(
        locked(suites(), &package, &["--suite", "sid", "--suite", "trixie"]).1,
        r#"
exit 0
--- stderr
  reading the indices of sid
  reading the indices of trixie
  `main/binary-amd64/Packages.gz` of debian:trixie/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:trixie/main ([n] MiB)
  reading the indices of trixie-updates
  downloading ([n] MiB)
  sid refused: no mirror has it
locked: debian:trixie (Wed, 01 Jan 2025 00:00:00 UTC), 16 packages, [n] MB, rung fhs
wrote recipes/acme/recipe.lock
next: hatchway build acme
"#
    );
}

#[test]
fn the_flag_and_the_configuration_choose_the_suites() {
    let package = needing(&[("libc.so.6", &["GLIBC_2.28"])]);
    let (bench, outcome) = locked(suites(), &package, &["--suite", "trixie"]);
    drop(outcome.ok());
    assert!(bench.read("recipes/acme/recipe.lock").contains("base = \"debian:trixie\""));
    bench.configure("suites = [\"bullseye\", \"bookworm\", \"trixie\"]\n");
    let (bench, server) = bench.with_mirror(&Mirror::new(suites(), Key::new(1)));
    // A lock that fits stays where it is until somebody asks for more.
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert!(bench.read("recipes/acme/recipe.lock").contains("base = \"debian:trixie\""));
    drop(bench.hatchway(&["lock", "acme", "--upgrade"]).ok());
    assert!(bench.read("recipes/acme/recipe.lock").contains("base = \"debian:bullseye\""));
    drop(server);
}

#[test]
fn the_lock_says_why_each_package_is_there() {
    let bookworm = suites().remove(0);
    let suite = bookworm
        .with(Package::new("helper", "1").field("Depends", "deep"))
        .with(Package::new("deep", "1"))
        .with(Package::new("extra", "1"));
    let package = needing(&[("libssl.so.3", &["OPENSSL_1"])]).field("Depends", "helper");
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    let recipe = bench
        .read("recipes/acme/recipe.toml")
        .replace("[environment]", "[environment]\npackages = [\"extra\"]");
    bench.put("recipes/acme/recipe.toml", recipe);
    let json = bench.hatchway(&["lock", "acme", "--json"]).ok().json();
    let why = |name: &str| {
        let packages = json["packages"].as_array().unwrap();
        packages
            .iter()
            .find(|package| package["name"] == name)
            .map(|package| package["why"].as_str().unwrap().to_owned())
    };
    assert_eq!(why("libssl3").unwrap(), "libssl.so.3 of usr/bin/acme");
    assert_eq!(why("helper").unwrap(), "Depends of acme");
    assert_eq!(why("deep").unwrap(), "dependency");
    assert_eq!(why("extra").unwrap(), "recipe");
    assert_eq!(why("dash").unwrap(), "base");
}
