//! What maintainer scripts and triggers would have made: made at build time, by the tree's own tools in a sandbox or by the
//! builder, the same for everybody.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::host;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::{Package, sha256};

use super::{ACME, acme, hinted};

/// Says what it is given and what it sees, as a tool that lists modules would.
const TOOL: &str = "#!/usr/bin/bash\necho \"uid $UID\"\nfor file; do echo \"module $file\"; done\n\
                    (echo x > /usr/written) 2>/dev/null && echo 'the tree can be written'\n\
                    while read -r name rest; do case $name in *:) echo \"interface $name\";; esac; done < /proc/net/dev\n\
                    echo \"date $SOURCE_DATE_EPOCH\"\n";
const PIXBUF: &str = "usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0";

fn library(tool: impl Into<Vec<u8>>) -> Package {
    Package::new("libgdk-pixbuf-2.0-0", "1.0-1")
        .program(&format!("{PIXBUF}/gdk-pixbuf-query-loaders"), tool)
        .file(&format!("{PIXBUF}/2.10.0/loaders/b.so"), "b")
        .file(&format!("{PIXBUF}/2.10.0/loaders/a.so"), "a")
        .file(&format!("{PIXBUF}/2.10.0/loaders/readme"), "no module")
}

fn mirror_with(package: Package) -> Mirror {
    Mirror::new(vec![Suite::new("bookworm", Libc::Hosts).with(package)], Key::new(1))
}

fn vendor(depends: &str) -> Vec<u8> {
    Package::new("acme", "1.0")
        .field("Depends", &format!("libc6 (>= 2.14), {depends}"))
        .program("usr/bin/acme", compile::program(ACME))
        .deb()
}

/// Builds the tool and gives its tree's digest and what was said.
fn build(bench: &Bench, deb: &[u8]) -> (String, String) {
    bench.put("acme.deb", deb);
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let outcome = bench.hatchway(&["build", "acme"]).ok();
    let trees = bench.store().names("trees");
    assert_eq!(trees.len(), 1, "{outcome}");
    (trees[0].clone(), outcome.stderr)
}

#[test]
fn the_tree_s_own_tool_runs_in_a_sandbox_and_the_result_is_the_same_for_everybody() {
    let mirror = mirror_with(library(TOOL));
    let (bench, server) = Bench::new().with_mirror(&mirror);
    let (tree, _) = build(&bench, &vendor("libgdk-pixbuf-2.0-0"));
    let made =
        fs::read_to_string(bench.store().tree(&tree).join(PIXBUF).join("2.10.0/loaders.cache")).unwrap();
    assert_eq!(
        made,
        format!(
            "uid 0\nmodule /{PIXBUF}/2.10.0/loaders/a.so\nmodule /{PIXBUF}/2.10.0/loaders/b.so\ninterface lo:\ndate 1\n"
        )
    );
    let other = Bench::ordinary().with_server(&mirror, &server);
    assert_eq!(build(&other, &vendor("libgdk-pixbuf-2.0-0")).0, tree);
}

/// Loads what it is given, as a tool that lists modules does, and looks for something that is none of its business.
const LOADER: &str = r#"#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        void *module = dlopen(argv[i], RTLD_NOW);
        int (*number)(void) = module ? (int (*)(void))dlsym(module, "number") : 0;
        printf("%s %d\n", argv[i], number ? number() : -1);
    }
    printf("the vendor's program is %s\n", access("/usr/bin/acme", F_OK) ? "not here" : "here");
    return 0;
}
"#;

fn number(number: u32) -> Vec<u8> {
    compile::module(&format!("int number(void) {{ return {number}; }}\n"))
}

/// Writes a recipe for a vendor's file, locks and builds it with `program`; the outcome of the build.
fn built_with(bench: &Bench, name: &str, depends: &str, program: &str) -> Outcome {
    let deb = Package::new(name, "1.0")
        .field("Depends", &format!("libc6 (>= 2.14), {depends}"))
        .program("usr/bin/acme", compile::program(ACME));
    bench.put(&format!("{name}.deb"), deb.deb());
    bench.script(&format!(
        "$HATCHWAY new -q --force {name}.deb && $HATCHWAY lock -q {name} && {program} build {name} --json"
    ))
}

#[test]
fn a_cache_is_made_once_for_all_trees_that_have_the_same_to_make_it_from() {
    let loaders = format!("{PIXBUF}/2.10.0/loaders");
    let library = Package::new("libgdk-pixbuf-2.0-0", "1.0-1")
        .program(&format!("{PIXBUF}/gdk-pixbuf-query-loaders"), compile::program(LOADER))
        .file(&format!("{loaders}/a.so"), number(7));
    let other = Package::new("libother", "1.0-1").file("usr/share/other", "other");
    let module = Package::new("libmodule", "1.0-1").file(&format!("{loaders}/b.so"), number(8));
    let suite = Suite::new("bookworm", Libc::Hosts).with(library).with(other).with(module);
    let (bench, _server) = Bench::new().exact().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    let cache = |built: &Outcome| {
        let tree = built.json()["tree"].as_str().unwrap().to_owned();
        let path = bench.store().tree(&tree).join(PIXBUF).join("2.10.0/loaders.cache");
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}\n{built}"))
    };
    let first = built_with(&bench, "acme", "libgdk-pixbuf-2.0-0", "$HATCHWAY").ok();
    assert_eq!(cache(&first), format!("/{loaders}/a.so 7\nthe vendor's program is not here\n"));
    assert_eq!(bench.store().names("results").len(), 1);

    // Without the shim beside it a program cannot start a tool, and need not.
    drop(bench.script("mkdir alone && cp $HATCHWAY alone/").ok());
    let same = built_with(&bench, "acme-too", "libgdk-pixbuf-2.0-0, libother", "alone/hatchway").ok();
    assert_ne!(same.json()["tree"], first.json()["tree"]);
    assert_eq!(cache(&same), cache(&first));

    let more = "libgdk-pixbuf-2.0-0, libmodule";
    let refused = built_with(&bench, "acme-more", more, "alone/hatchway");
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("`hatchway-shim` was not found"), "{refused}");
    let made = built_with(&bench, "acme-more", more, "$HATCHWAY").ok();
    assert!(cache(&made).contains("a.so 7\n") && cache(&made).contains("b.so 8\n"), "{}", cache(&made));

    // A result goes with the last tree that has its files.
    let results = bench.store().names("results");
    assert_eq!(results.len(), 2);
    drop(bench.script("rm -r recipes/acme-more recipes/acme-too && $HATCHWAY store gc --older-than 0").ok());
    let left = bench.store().names("results");
    assert_eq!(left.len(), 1, "{results:?} {left:?}");

    // One whose file is gone is made again.
    let object = sha256(cache(&first).as_bytes());
    let at = format!("$HATCHWAY_DATA_DIR/store/objects/{}/{}", &object[..2], &object[2..]);
    drop(bench.script(&format!("rm {at}")).ok());
    let found = bench.script("$HATCHWAY store verify --json");
    assert!(found.stdout.contains("\"result-record-alone\""), "{found}");
    let again = built_with(&bench, "acme-again", "libgdk-pixbuf-2.0-0, libother", "$HATCHWAY").ok();
    assert_eq!(cache(&again), cache(&first));
    drop(bench.script(&format!("cat {at}")).ok());
}

#[test]
fn a_tool_that_writes_nothing_is_told_and_tried_again() {
    let other = Package::new("libother", "1.0-1").file("usr/share/other", "other");
    let tool = library(compile::program("int main(void) { return 0; }\n"));
    let suite = Suite::new("bookworm", Libc::Hosts).with(tool).with(other);
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    for (name, depends) in [("acme", "libgdk-pixbuf-2.0-0"), ("acme-too", "libgdk-pixbuf-2.0-0, libother")] {
        let built = built_with(&bench, name, depends, "$HATCHWAY").ok();
        assert!(
            built.stdout.contains("image loaders were not made: it ended without an error and wrote nothing"),
            "{built}"
        );
    }
    assert_eq!(bench.store().names("results"), [""; 0]);
}

#[test]
fn a_tool_that_fails_is_told_and_the_tree_is_built() {
    let mirror = mirror_with(library("#!/usr/bin/bash\necho 'no such module' >&2\nexit 3\n"));
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let (tree, said) = build(&bench, &vendor("libgdk-pixbuf-2.0-0"));
    assert!(said.contains("exit code 3") && said.contains("no such module"), "{said}");
    assert!(!bench.store().tree(&tree).join(PIXBUF).join("2.10.0/loaders.cache").exists());
}

#[test]
fn a_script_of_the_archive_that_nobody_has_read_is_an_error_with_a_way_out() {
    let mirror =
        mirror_with(Package::new("libodd", "1.0-1").script("postinst", "#!/bin/sh\nodd-setup --all\n"));
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    bench.put("acme.deb", vendor("libodd"));
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let refused = bench.hatchway(&["build", "acme"]);
    hinted(&refused, "postinst of `libodd`");
    assert!(refused.stderr.contains("configure = \"scripts\""), "{refused}");
    assert!(bench.store().names("trees").is_empty());
}

#[test]
fn certificates_are_found_by_the_names_that_openssl_gives_them() {
    let shipped = std::path::Path::new("/usr/share/ca-certificates/mozilla");
    let mut package = Package::new("ca-certificates", "1.0-1");
    let mut names: Vec<String> = fs::read_dir(shipped)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 50, "install the package `ca-certificates`");
    for name in &names {
        let bytes = fs::read(shipped.join(name)).unwrap();
        package = package.file(&format!("usr/share/ca-certificates/mozilla/{name}"), bytes);
    }
    let mirror = mirror_with(package);
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let (tree, _) = build(&bench, &acme().deb());
    let folder = bench.store().tree(&tree).join("etc/ssl/certs");
    // Where libssl looks, without the package `openssl`.
    let openssl =
        |name: &str| fs::read_link(bench.store().tree(&tree).join("usr/lib/ssl").join(name)).unwrap();
    assert_eq!(openssl("certs").to_string_lossy(), "/etc/ssl/certs");
    assert_eq!(openssl("cert.pem").to_string_lossy(), "/etc/ssl/certs/ca-certificates.crt");
    for name in &names {
        let openssl = Command::new("openssl")
            .args(["x509", "-noout", "-hash", "-in"])
            .arg(shipped.join(name))
            .output()
            .expect("install the package `openssl`");
        let hash = String::from_utf8(openssl.stdout).unwrap();
        let link = name.replace(".crt", ".pem");
        let found = (0..9).any(|number| {
            let target = fs::read_link(folder.join(format!("{}.{number}", hash.trim())));
            target.is_ok_and(|target| target.to_string_lossy() == link)
        });
        assert!(found, "{name} is not at {}", hash.trim());
        assert_eq!(
            fs::read_link(folder.join(&link)).unwrap().to_string_lossy(),
            format!("/usr/share/ca-certificates/mozilla/{name}")
        );
    }
}

#[test]
fn users_of_packages_are_in_the_tree() {
    let package = Package::new("libacme-users", "1.0-1")
        .file(
            "usr/lib/sysusers.d/acme.conf",
            "u acme-daemon 321 \"Acme\" /var/lib/acme-daemon\nm acme-daemon video\n",
        )
        .file("usr/lib/tmpfiles.d/acme.conf", "d /var/lib/acme-daemon 0750 acme-daemon acme-daemon -\n");
    let mirror = mirror_with(package);
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let (tree, _) = build(&bench, &vendor("libacme-users"));
    let tree = bench.store().tree(&tree);
    let passwd = fs::read_to_string(tree.join("etc/passwd")).unwrap();
    assert!(
        passwd.contains("acme-daemon:x:321:321:Acme:/var/lib/acme-daemon:/usr/sbin/nologin\n"),
        "{passwd}"
    );
    let group = fs::read_to_string(tree.join("etc/group")).unwrap();
    assert!(group.contains(":acme-daemon\n"), "{group}");
    assert!(tree.join("var/lib/acme-daemon").is_dir());
}

#[test]
fn a_vendors_tool_or_module_is_never_run_to_make_a_cache() {
    let mirror = mirror_with(library(TOOL));
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let deb = Package::new("acme", "1.0")
        .field("Depends", "libc6 (>= 2.14), libgdk-pixbuf-2.0-0")
        .program("usr/bin/acme", compile::program(ACME))
        .program("usr/bin/glib-compile-schemas", "#!/usr/bin/bash\necho x > /run/out/gschemas.compiled\n")
        .file("usr/share/glib-2.0/schemas/org.acme.gschema.xml", "<schemalist/>")
        .file(&format!("{PIXBUF}/2.10.0/loaders/evil.so"), "evil")
        .deb();
    let (tree, said) = build(&bench, &deb);
    let tree = bench.store().tree(&tree);
    assert!(!tree.join("usr/share/glib-2.0/schemas/gschemas.compiled").exists(), "{said}");
    let cache = fs::read_to_string(tree.join(PIXBUF).join("2.10.0/loaders.cache")).unwrap();
    assert!(cache.contains("loaders/a.so") && !cache.contains("evil.so"), "{cache}");
    assert!(said.contains("loaders/evil.so` is in no cache of modules"), "{said}");
}

#[test]
fn no_tool_runs_where_a_vendors_file_took_the_place_of_one() {
    let mirror = mirror_with(library(TOOL).program("usr/bin/gauge", "#!/usr/bin/bash\n"));
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let deb = Package::new("acme", "1.0")
        .field("Depends", "libc6 (>= 2.14), libgdk-pixbuf-2.0-0")
        .program("usr/bin/acme", compile::program(ACME))
        .program("usr/bin/gauge", "#!/usr/bin/bash\necho evil\n")
        .deb();
    let (tree, said) = build(&bench, &deb);
    assert!(!bench.store().tree(&tree).join(PIXBUF).join("2.10.0/loaders.cache").exists(), "{said}");
    assert!(said.contains("`acme.deb` replaces `/usr/bin/gauge` of `libgdk-pixbuf-2.0-0`"), "{said}");
    assert!(said.contains("were not made: `/usr/bin/gauge` is a vendor's"), "{said}");
}

/// The host's own fontconfig and GTK tools with one font and one icon.
fn desktop_mirror() -> Mirror {
    let font = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf";
    let bytes = fs::read(font).unwrap_or_else(|error| panic!("{font}: {error}: install `fonts-dejavu-core`"));
    let settings = "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"urn:fontconfig:fonts.dtd\"><fontconfig>\
                    <dir>/usr/share/fonts</dir><cachedir>/var/cache/fontconfig</cachedir></fontconfig>\n";
    let theme = "[Icon Theme]\nName=Acme\nDirectories=16x16/apps\n[16x16/apps]\nSize=16\n";
    let suite = host::suite("bookworm")
        .with(
            host::with_programs("fontconfig", &["fc-cache", "fc-list"])
                .file("etc/fonts/fonts.conf", settings)
                .file("usr/share/fonts/truetype/mono.ttf", bytes),
        )
        .with(
            host::with_programs("gtk-update-icon-cache", &["gtk-update-icon-cache"])
                .file("usr/share/icons/acme/index.theme", theme)
                .file("usr/share/icons/acme/16x16/apps/archives.png", "no picture"),
        );
    Mirror::new(vec![suite], Key::new(1))
}

fn with_desktop(more: &str) -> Vec<u8> {
    Package::new("acme", "1.0")
        .field("Depends", "libc6 (>= 2.14), fontconfig, gtk-update-icon-cache, dash, coreutils")
        .program("usr/bin/acme", compile::program(ACME))
        .file(more, "no picture either")
        .deb()
}

#[test]
fn caches_of_icons_and_fonts_are_the_same_for_everybody_and_are_taken() {
    let mirror = desktop_mirror();
    let (bench, server) = Bench::new().with_mirror(&mirror);
    let deb = with_desktop("usr/share/icons/acme/16x16/apps/vendors.png");
    let (tree, said) = build(&bench, &deb);
    let folder = bench.store().tree(&tree);
    let names = fs::read(folder.join("usr/share/icons/acme/icon-theme.cache")).expect(&said);
    let names = String::from_utf8_lossy(&names);
    assert!(names.contains("archives") && names.contains("vendors"), "{names}");
    for place in ["", "usr", "usr/share/fonts/truetype", "usr/share/icons/acme"] {
        assert_eq!(fs::metadata(folder.join(place)).unwrap().mtime(), 1, "{place}");
    }
    // The number has fontconfig say which fonts it reads. GTK's tool makes a cache anew that it would not take, which
    // cannot be written here.
    let script = "fc-list : family; FC_DEBUG=128 fc-list | grep -c Scanning.file; FC_DEBUG=128 fc-cache -f | \
                  grep -c Scanning.file; gtk-update-icon-cache /usr/share/icons/acme && echo taken";
    let outcome = bench.hatchway(&["shell", "-q", "acme", "--", "-c", script]);
    assert_eq!(outcome.stdout, "DejaVu Sans Mono\n0\n1\ntaken\n", "{outcome}");
    let other = Bench::ordinary().with_server(&mirror, &server);
    assert_eq!(build(&other, &deb).0, tree);
}

#[test]
fn a_vendors_font_is_not_read_to_make_a_cache() {
    let (bench, _server) = Bench::new().with_mirror(&desktop_mirror());
    let (tree, said) = build(&bench, &with_desktop("usr/share/fonts/truetype/acme.ttf"));
    assert!(
        said.contains("fontconfig's cache were not made: `/usr/share/fonts/truetype/acme.ttf` is a vendor's"),
        "{said}"
    );
    assert!(!bench.store().tree(&tree).join("var/cache/fontconfig").exists(), "{said}");
}
