//! Closures over several architectures and sources, and what becomes of a lock when the mirrors move on.

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;

use super::{hinted, needing};

fn suite() -> Suite {
    Suite::new("bookworm", Libc::Exports("2.36"))
}

/// A bench with a recipe for a package, and a mirror.
fn bench(mirror: &Mirror, package: &Package) -> (Bench, Server) {
    let (bench, server) = Bench::ordinary().with_mirror(mirror);
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    (bench, server)
}

/// Adds lines to a table of the recipe.
fn edit(bench: &Bench, lines: &str) {
    let recipe = bench.read("recipes/acme/recipe.toml");
    assert!(recipe.contains("[environment]\n"), "{recipe}");
    let recipe = recipe.replace("[environment]\n", &format!("[environment]\n{lines}\n"));
    bench.put("recipes/acme/recipe.toml", recipe);
}

fn lock(bench: &Bench, arguments: &[&str]) -> Outcome {
    bench.hatchway(&[&["lock", "acme", "--suite", "bookworm"], arguments].concat())
}

/// Version and source of a locked package.
fn locked(bench: &Bench, name: &str, architecture: &str) -> Option<(String, String)> {
    let lock = bench.read("recipes/acme/recipe.lock");
    lock.split("[[package]]").skip(1).find_map(|block| {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")))?;
            Some(line.trim_matches('"').to_owned())
        };
        let this = value("name")? == name && value("architecture")? == architecture;
        if this { Some((value("version")?, value("source")?)) } else { None }
    })
}

fn version(bench: &Bench, name: &str) -> String {
    locked(bench, name, "amd64").map(|(version, _)| version).unwrap()
}

/// glibc and an old library, both for i386.
pub(super) fn with_i386(suite: Suite) -> Suite {
    let folder = "usr/lib/i386-linux-gnu";
    let libc = Package::new("libc6", "2.36-9")
        .of("i386")
        .field("Multi-Arch", "same")
        .file("lib/ld-linux.so.2", "loader");
    let amd64 = suite.packages.iter().find(|package| package.name == "libc6").unwrap().clone();
    let old = Package::new("libold1", "1.0-1")
        .of("i386")
        .field("Multi-Arch", "same")
        .field("Depends", "libc6, tool, data")
        .file(&format!("{folder}/libold.so.1"), compile::library_for_i386("libold.so.1"))
        .file("usr/share/doc/libold1/copyright", "Free.\n");
    let twin = Package::new("libold1", "1.0-1")
        .field("Multi-Arch", "same")
        .file("usr/lib/x86_64-linux-gnu/libold.so.1", compile::library("libold.so.1", &[]))
        .file("usr/share/doc/libold1/copyright", "Free.\n");
    suite
        .with(amd64.field("Multi-Arch", "same"))
        .with(libc)
        .with(old)
        .with(twin)
        .with(Package::new("tool", "1.0-1").field("Multi-Arch", "foreign").file("usr/share/tool", "x"))
        .with(
            Package::new("data", "1.0-1")
                .of("all")
                .field("Multi-Arch", "foreign")
                .file("usr/share/data", "x"),
        )
}

#[test]
fn a_program_for_i386_gets_libraries_and_loader_for_i386() {
    let mirror = Mirror::new(vec![with_i386(suite())], Key::new(1));
    let package = Package::new("acme", "1.0").program("usr/bin/acme", compile::program_for_i386());
    let (bench, _server) = bench(&mirror, &package);
    edit(&bench, "packages = [\"libold1\"]");
    drop(lock(&bench, &[]).ok());
    assert!(locked(&bench, "libold1", "i386").is_some(), "by its soname");
    assert!(locked(&bench, "libold1", "amd64").is_some(), "by the recipe, beside it");
    assert!(locked(&bench, "libc6", "i386").is_some());
    assert!(locked(&bench, "tool", "amd64").is_some(), "Multi-Arch: foreign serves i386");
    assert!(locked(&bench, "data", "all").is_some());
    let why = bench.hatchway(&["recipe", "why", "acme", "tool"]).ok();
    assert!(
        why.stdout.contains("libold1:i386 is there for libold.so.1 of usr/bin/acme\n└─ depends on tool"),
        "{why}"
    );
    let json = bench.hatchway(&["recipe", "why", "acme", "libold1:i386", "--json"]).ok().json();
    assert_eq!(json["chain"], serde_json::json!(["libold1:i386"]));
    assert_eq!(bench.hatchway(&["recipe", "why", "acme", "nobody"]).code, Some(1));
    drop(bench.hatchway(&["build", "acme"]).ok());
    let trees = bench.store().names("trees");
    let tree = bench.store().tree(&trees[0]);
    for file in
        ["usr/lib/ld-linux.so.2", "usr/lib/i386-linux-gnu/libold.so.1", "usr/share/doc/libold1/copyright"]
    {
        assert!(tree.join(file).exists(), "{file}");
    }
    let cache = std::fs::read(tree.join("etc/ld.so.cache")).unwrap();
    let flags: Vec<u32> = cache[48..]
        .chunks_exact(24)
        .take(u32::from_le_bytes(cache[20..24].try_into().unwrap()) as usize)
        .map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap()))
        .collect();
    assert!(flags.contains(&0x0303), "no entry for x86-64: {flags:?}");
}

#[test]
fn updates_and_security_updates_belong_to_a_base() {
    let updates = Suite::bare("bookworm-updates").with(Package::new("sed", "1.0-1+u1"));
    let mirror = Mirror::new(vec![suite(), updates], Key::new(1));
    let security = Suite::bare("bookworm-security").with(Package::new("grep", "1.0-1+sec1"));
    let security = Mirror::new(vec![security], Key::new(1)).serve();
    let (bench, server) = bench(&mirror, &needing(&[("libc.so.6", &["GLIBC_2.34"])]));
    let bench = bench.without_mirror_variable();
    bench.configure(&format!(
        "[[mirror]]\nurl = \"{}\"\nsuites = [\"bookworm\"]\n[[mirror]]\nurl = \"{}\"\narchive = \"security\"\n",
        server.url, security.url
    ));
    drop(lock(&bench, &[]).ok());
    let found = |name| locked(&bench, name, "amd64").unwrap();
    assert_eq!(found("sed"), ("1.0-1+u1".into(), "debian:bookworm-updates/main".into()));
    assert_eq!(found("grep"), ("1.0-1+sec1".into(), "debian:bookworm-security/main".into()));
    assert_eq!(found("dash"), ("1.0-1".into(), "debian:bookworm/main".into()));
    drop(bench.hatchway(&["build", "acme"]).ok());
}

#[test]
fn updates_that_somebody_names_and_no_mirror_has_are_told_each_time() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror, &needing(&[("libc.so.6", &["GLIBC_2.34"])]));
    let bench = bench.without_mirror_variable();
    let warned = |entry: &str, options: &[&str]| {
        bench.configure(&format!("[[mirror]]\nurl = \"{}\"\n{entry}", server.url));
        let outcome = bench.hatchway(&[&["lock", "acme", "--suite", "bookworm"], options].concat()).ok();
        let lines = outcome.stderr.lines().filter(|line| line.contains("no mirror has it"));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let says =
        |what: &str| [format!("warning: {what}, and no mirror has it: its packages are not in the lock")];
    let updates = "suites = [\"bookworm\", \"bookworm-updates\"]\n";
    // Where it was looked for, where the cache knows that it is not there, and where silence was asked for.
    for options in [&["--refresh"][..], &[], &["-q"]] {
        assert_eq!(warned(updates, options), says("hatchway.toml names bookworm-updates"), "{options:?}");
    }
    // One that no mirror is asked for, since none holds that archive.
    let security = "suites = [\"bookworm\", \"bookworm-security\"]\n";
    assert_eq!(warned(security, &["-q"]), says("hatchway.toml names bookworm-security"));
    // A mirror of the security archive names no suite, and is there for that one.
    let mirror = format!("[[mirror]]\nurl = \"{}\"\narchive = \"security\"\n", server.url);
    let told = says("hatchway.toml names a mirror for bookworm-security");
    for options in [&["--refresh"][..], &["-q"]] {
        assert_eq!(warned(&mirror, options), told, "{options:?}");
    }
    // Whoever names only the suite has asked for nothing else.
    assert_eq!(warned("suites = [\"bookworm\"]\n", &[]), [""; 0]);
}

/// The recipe's source, with its key ring beside the recipe.
fn with_source(bench: &Bench, url: &str, key: &Key) {
    bench.put("recipes/acme/vendor.pgp", key.ring());
    let recipe = bench.read("recipes/acme/recipe.toml");
    let source = format!(
        "\n[[source]]\nname = \"vendor\"\nurls = [\"{url}\"]\nsuite = \"stable\"\ncomponents = [\"main\"]\nkey = \"vendor.pgp\"\n"
    );
    bench.put("recipes/acme/recipe.toml", recipe + &source);
}

fn vendor() -> Suite {
    Suite::bare("stable")
        .with(Package::new("libvendor", "2.0").field("Depends", "sed (>= 2)"))
        .with(Package::new("sed", "2.0-vendor1"))
}

#[test]
fn a_vendors_source_is_believed_by_its_own_key_and_the_highest_version_wins() {
    let package = needing(&[("libc.so.6", &["GLIBC_2.34"])]).field("Depends", "libvendor");
    let (bench, _server) = bench(&Mirror::new(vec![suite()], Key::new(1)), &package);
    let server = Mirror::new(vec![vendor()], Key::new(2)).serve();
    with_source(&bench, &server.url, &Key::new(2));
    let outcome = lock(&bench, &[]).ok();
    assert!(
        outcome.stderr.contains("`sed` 2.0-vendor1 of source:vendor/main is taken before Debian's"),
        "{outcome}"
    );
    assert_eq!(locked(&bench, "libvendor", "amd64").unwrap().1, "source:vendor/main");
    drop(bench.hatchway(&["build", "acme"]).ok());
}

#[test]
fn the_key_of_one_source_says_nothing_about_another() {
    let package = needing(&[("libc.so.6", &["GLIBC_2.34"])]);
    // Debian's key does not make a vendor's source good.
    let (first, _server) = bench(&Mirror::new(vec![suite()], Key::new(1)), &package);
    let server = Mirror::new(vec![vendor()], Key::new(1)).serve();
    with_source(&first, &server.url, &Key::new(2));
    hinted(&lock(&first, &[]), "the index `source:vendor` is not signed by a trusted key");
    // Nor the vendor's key Debian's archive.
    let (second, _server) = bench(&Mirror::new(vec![suite()], Key::new(2)), &package);
    std::fs::write(second.path("ring.pgp"), Key::new(1).ring()).unwrap();
    let server = Mirror::new(vec![vendor()], Key::new(2)).serve();
    with_source(&second, &server.url, &Key::new(2));
    hinted(&lock(&second, &[]), "the index `debian:bookworm` is not signed by a trusted key");
}

/// A mirror that has moved on: `sed` and `grep` are newer, and the old files are gone.
fn newer() -> Mirror {
    let suite = suite().with(Package::new("sed", "2.0-1")).with(Package::new("grep", "2.0-1"));
    Mirror::new(vec![suite], Key::new(1))
}

fn moved_on(server: &Server) {
    for (path, bytes) in newer().files {
        server.replace(&path, bytes.to_vec());
    }
}

#[test]
fn a_lock_keeps_its_versions_while_they_are_to_be_had() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror, &needing(&[("libc.so.6", &["GLIBC_2.34"])]));
    drop(lock(&bench, &[]).ok());
    drop(bench.hatchway(&["build", "acme"]).ok());
    let before = bench.read("recipes/acme/recipe.lock");
    let again = lock(&bench, &["--refresh"]).ok();
    assert!(again.stderr.contains("fits and is as it was"), "{again}");
    assert_eq!(bench.read("recipes/acme/recipe.lock"), before, "a lock that fits is not touched");

    moved_on(&server);
    let kept = lock(&bench, &["--refresh"]).ok();
    assert!(
        kept.stderr.contains("only the store still has `sed` 1.0-1: no mirror has it any more"),
        "{kept}"
    );
    assert_eq!(version(&bench, "sed"), "1.0-1");

    let dry = lock(&bench, &["--upgrade", "--dry-run"]).ok();
    assert!(dry.stderr.contains("  upgraded grep 1.0-1 → 2.0-1\n  upgraded sed 1.0-1 → 2.0-1\n"), "{dry}");
    assert_eq!(version(&bench, "sed"), "1.0-1", "a dry run writes nothing");

    let one = lock(&bench, &["--upgrade", "sed", "--json"]).ok().json();
    assert_eq!(one["changes"][0]["kind"], "upgraded");
    assert_eq!((version(&bench, "sed").as_str(), version(&bench, "grep").as_str()), ("2.0-1", "1.0-1"));
    drop(bench.hatchway(&["build", "acme"]).ok());
    hinted(&lock(&bench, &["--upgrade", "nobody"]), "`nobody` is not in the lock");
    drop(lock(&bench, &["--upgrade"]).ok());
    assert_eq!(version(&bench, "grep"), "2.0-1");
}

/// The recipe was taken for a package, and the usage line that followed led there.
#[test]
fn upgrade_before_the_recipe_is_told_with_the_right_order() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, _server) = bench(&mirror, &needing(&[("libc.so.6", &["GLIBC_2.34"])]));
    for (arguments, says) in [
        (&["--upgrade", "acme"][..], "hint: run `hatchway lock acme --upgrade`\n"),
        (&["--upgrade", "sed", "acme"], "hint: run `hatchway lock acme --upgrade sed`\n"),
        (&["--upgrade", "sed"], "hint: run `hatchway lock RECIPE --upgrade sed`\n"),
    ] {
        let outcome = bench.hatchway(&[&["lock"], arguments].concat());
        assert_eq!(outcome.code, Some(2), "{outcome}");
        assert!(
            outcome.stderr.contains("the recipe comes before it") && outcome.stderr.ends_with(says),
            "{outcome}"
        );
    }
    let usage = bench.hatchway(&["lock"]);
    assert!(usage.stderr.contains("hatchway lock <RECIPE> --upgrade [PACKAGE]..."), "{usage}");
}

#[test]
fn what_neither_mirror_nor_store_has_moves_and_build_says_what_to_do() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (bench, server) = bench(&mirror, &needing(&[("libc.so.6", &["GLIBC_2.34"])]));
    drop(lock(&bench, &[]).ok());
    server.fault("pool/bookworm/sed_1.0-1_amd64.deb", hatchway_tests::server::Fault::Status(404));
    let outcome = bench.hatchway(&["build", "acme"]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(
        outcome
            .stderr
            .contains("no mirror has `pool/bookworm/sed_1.0-1_amd64.deb` of debian:bookworm/main any more"),
        "{outcome}"
    );
    assert!(outcome.stderr.contains("hint: move to what the mirrors have: `hatchway lock"), "{outcome}");

    moved_on(&server);
    let outcome = lock(&bench, &["--refresh"]).ok();
    assert!(outcome.stderr.contains("no mirror has `sed` 1.0-1 any more"), "{outcome}");
    assert_eq!(version(&bench, "sed"), "2.0-1");
}

#[test]
fn what_no_mirror_has_any_more_is_taken_from_a_bundle() {
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let package = needing(&[("libc.so.6", &["GLIBC_2.34"])]);
    let (other, server) = self::bench(&mirror, &package);
    drop(lock(&other, &[]).ok());
    drop(other.hatchway(&["build", "acme"]).ok());
    let bench = Bench::ordinary().with_server(&mirror, &server);
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(lock(&bench, &[]).ok());
    server.fault("pool/bookworm/sed_1.0-1_amd64.deb", hatchway_tests::server::Fault::Status(404));
    let refused = bench.hatchway(&["build", "acme"]);
    assert!(refused.stderr.contains("any more, and it is not in the store"), "{refused}");
    assert!(refused.stderr.contains("`bundles = [\"/media/stick\"]`"), "{refused}");

    // A stick with the other machine's files, one of them damaged: that is passed over, and there is no other place.
    let stick = bench.path("work/stick");
    let copy = format!("cp -r {}/store/artifacts {}", other.path("data").display(), stick.display());
    drop(bench.script(&copy).ok());
    let text = bench.read("recipes/acme/recipe.lock");
    let of_sed = text.split("[[package]]").find(|part| part.contains("name = \"sed\"")).unwrap();
    let digest = of_sed.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    let bytes = std::fs::read(stick.join(digest)).unwrap();
    drop(
        bench
            .script(&format!(
                "chmod u+w {0}; head -c {1} /dev/zero > {0}",
                stick.join(digest).display(),
                bytes.len()
            ))
            .ok(),
    );
    bench.configure(&format!("bundles = [\"{}\"]\n", stick.display()));
    let damaged = bench.hatchway(&["build", "acme"]);
    assert_eq!(damaged.code, Some(2), "{damaged}");
    assert!(damaged.stderr.contains("is damaged, and is passed over"), "{damaged}");

    // Whole, and without a network.
    bench.configure(&format!(
        "bundles = [\"{}\", \"{}\"]\n",
        stick.display(),
        other.path("data/store").display()
    ));
    drop(bench.hatchway(&["build", "acme", "--offline"]).ok());
}

#[test]
fn pins_and_exclusions_are_carried_out_or_explained() {
    let updates = Suite::bare("bookworm-updates").with(Package::new("sed", "2.0-1"));
    let suite = suite()
        .with(Package::new("wants-new", "1").field("Depends", "sed (>= 2)"))
        .with(Package::new("wants-old", "1").field("Depends", "bogus, sed"));
    let mirror = Mirror::new(vec![suite, updates], Key::new(1));
    let package = needing(&[("libc.so.6", &["GLIBC_2.34"])]);
    let attempt = |lines: &str| {
        let (bench, _server) = bench(&mirror, &package);
        edit(&bench, lines);
        let outcome = lock(&bench, &[]);
        (bench, outcome)
    };
    let (bench, outcome) = attempt("pin = { sed = \"1.0-1\" }");
    drop(outcome.ok());
    assert_eq!(version(&bench, "sed"), "1.0-1");
    let (bench, outcome) = attempt("packages = [\"wants-old\"]\nexclude = [\"bogus\"]");
    assert!(outcome.ok().stderr.contains("`bogus` is excluded, but bookworm has no package of that name"));
    assert_eq!(version(&bench, "wants-old"), "1");
    for (lines, says) in [
        ("pin = { sed = \"9\" }", "`sed` is pinned to 9; bookworm has 1.0-1, 2.0-1"),
        ("pin = { sedd = \"9\" }", "`sedd` is pinned to 9, but bookworm has no package of that name"),
        ("packages = [\"sedd\"]", "`sedd` (in the recipe's `packages`) is not in bookworm"),
        (
            "packages = [\"sed\"]\nexclude = [\"sed\"]",
            "`sed` is in `packages` and in `exclude` of the recipe",
        ),
        ("packages = [\"wants-old\"]", "bogus, for which no candidates were found"),
        (
            "packages = [\"wants-new\"]\npin = { sed = \"1.0-1\" }",
            "sed 2.0-1 is excluded because the recipe pins `sed` to 1.0-1",
        ),
        (
            "packages = [\"wants-new\"]\npin = { sed = \"1.0-1\" }",
            "\n`wants-new` is in the recipe's `packages`\n",
        ),
    ] {
        hinted(&attempt(lines).1, says);
    }
}
