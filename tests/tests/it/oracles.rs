//! Other programs' word for what ours made: dpkg on packages, ldconfig and the loader on the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{LIBRARIES, Libc, Mirror, Suite};
use hatchway_tests::package::{Package, Packing};
use hatchway_tests::store::walk;

/// Builds a package against a suite; gives the tree's digest.
fn built(bench: &Bench, deb: &[u8]) -> String {
    bench.put("acme.deb", deb);
    for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
        drop(bench.hatchway(&step).ok());
    }
    let trees = bench.store().names("trees");
    assert_eq!(trees.len(), 1);
    trees[0].clone()
}

fn done(command: &mut Command, package: &str) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|_| panic!("{name} is missing: install the package `{package}`"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder as a vendor's build leaves it, with what is odd and allowed.
fn vendor_folder(root: &Path) {
    let write = |path: &str, mode: u32, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write(
        "DEBIAN/control",
        0o644,
        "Package: acme\nVersion: 1.0\nArchitecture: amd64\nMaintainer: A <a@example.invalid>\nDescription: x\n",
    );
    write("opt/acme/bin/acme", 0o755, "#!/bin/sh\necho acme\n");
    write("opt/acme/share/with blank and ünïcode #1", 0o600, "odd name\n");
    write("opt/acme/share/a\\backslash", 0o644, "odd too\n");
    write(&format!("opt/acme/{}/file", "long".repeat(40)), 0o640, "behind a long name\n");
    write("opt/acme/empty", 0o444, "");
    std::fs::hard_link(root.join("opt/acme/bin/acme"), root.join("opt/acme/bin/acme-too")).unwrap();
    std::os::unix::fs::symlink("../bin/acme", root.join("opt/acme/share/link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at all", root.join("opt/acme/share/dangling")).unwrap();
    std::fs::create_dir_all(root.join("opt/acme/nothing/in/it")).unwrap();
}

#[test]
fn a_package_is_unpacked_as_dpkg_does_it() {
    for compression in ["xz", "gzip", "zstd", "none"] {
        let (bench, _server) = Bench::ordinary().with_mirror(&Mirror::runnable());
        let source = bench.path("tmp/source");
        vendor_folder(&source);
        let (deb, theirs) = (bench.path("tmp/acme.deb"), bench.path("tmp/theirs"));
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", &format!("-Z{compression}"), "--build"]).arg(&source).arg(&deb);
        done(&mut pack, "dpkg");
        done(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&theirs), "dpkg");
        let digest = built(&bench, &std::fs::read(&deb).unwrap());
        bench.store().check_tree(&digest);
        compare(&theirs, &bench.store().tree(&digest));
    }
}

/// Everything that dpkg unpacked is in the tree, and below the vendor's folder nothing else.
fn compare(theirs: &Path, tree: &Path) {
    let (expected, found) = (walk(theirs), walk(tree));
    let below = |names: Vec<&Vec<u8>>| -> BTreeSet<Vec<u8>> {
        names.into_iter().filter(|path| path.starts_with(b"opt/")).cloned().collect()
    };
    assert_eq!(below(expected.keys().collect()), below(found.keys().collect()));
    for (path, theirs_metadata) in expected {
        let relative = Path::new(std::ffi::OsStr::from_bytes(&path));
        let (their, our) = (theirs.join(relative), tree.join(relative));
        let shown = our.display();
        let metadata = &found[&path];
        assert_eq!(metadata.file_type(), theirs_metadata.file_type(), "{shown}");
        if metadata.is_symlink() {
            assert_eq!(std::fs::read_link(&our).unwrap(), std::fs::read_link(&their).unwrap(), "{shown}");
        } else if metadata.is_file() {
            assert_eq!(std::fs::read(&our).unwrap(), std::fs::read(&their).unwrap(), "{shown}");
            let executable = |metadata: &std::fs::Metadata| metadata.permissions().mode() & 0o111 != 0;
            assert_eq!(executable(metadata), executable(&theirs_metadata), "{shown}");
        }
    }
}

/// What a cache says, as ldconfig reads it: of several paths for one name the first, which is what the loader takes.
fn printed(root: &Path) -> BTreeMap<String, String> {
    let cache = root.join("etc/ld.so.cache");
    let text = done(Command::new("/sbin/ldconfig").args(["-p", "-C"]).arg(cache), "libc-bin");
    let mut first = BTreeMap::new();
    for (name, path) in text.lines().filter_map(|line| line.trim().split_once(" => ")) {
        first.entry(name.to_owned()).or_insert_with(|| path.to_owned());
    }
    first
}

/// Libraries as they come: with and without links, in several folders, with numbers that sort oddly.
fn suite_with_libraries() -> Suite {
    let mut package = Package::new("libs", "1")
        .link(&format!("{LIBRARIES}/liblinked.so.1"), "liblinked.so.1.4")
        .link(&format!("{LIBRARIES}/libodd.so.1"), "libodd.so.1.0.4")
        .link(&format!("{LIBRARIES}/libodd.so.1.0"), "libodd.so.1.0.4")
        .link(&format!("{LIBRARIES}/libeven.so.7"), "libeven.so.7.2");
    for (file, soname) in [
        ("liblinked.so.1.4", "liblinked.so.1"),
        ("libodd.so.1.0.4", "libodd.so.1.0"),
        ("libeven.so.7.2", "libeven.so.7.2"),
        ("libbare.so.2.0.10", "libbare.so.2"),
        ("libmany.so.9", "libmany.so.9"),
        ("libmany.so.10", "libmany.so.10"),
        ("libx-1.2.so", "libx-1.2.so"),
        ("libstdc++.so.6.0.30", "libstdc++.so.6"),
    ] {
        package = package.file(&format!("{LIBRARIES}/{file}"), compile::library(soname, &[]));
    }
    let local = compile::library("liblocal.so.3", &["LOCAL_1"]);
    package = package
        .file("usr/local/lib/x86_64-linux-gnu/liblocal.so.3", local)
        .file(&format!("{LIBRARIES}/liblocal.so.3"), compile::library("liblocal.so.3", &[]))
        .file(&format!("{LIBRARIES}/libscript.so"), "INPUT(libmany.so.10)\n");
    Suite::new("bookworm", Libc::Exports("2.36")).with(package)
}

#[test]
fn ldconfig_makes_the_same_cache_and_no_further_links() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(vec![suite_with_libraries()], Key::new(1)));
    let vendor = Package::new("acme", "1.0")
        .field("Depends", "libs")
        .file("etc/ld.so.conf.d/acme.conf", "# ours\n/opt/acme/lib\n")
        .file("opt/acme/lib/libgauss.so.4.4.4", compile::library("libgauss.so.4", &[]))
        .file("opt/acme/lib/plugin.so", compile::library("plugin.so", &[]))
        .program("usr/bin/acme", "#!/bin/sh\n");
    let digest = built(&bench, &vendor.deb());
    let (tree, copy) = (bench.store().tree(&digest), bench.path("tmp/copy"));
    done(Command::new("cp").arg("-a").arg(&tree).arg(&copy), "coreutils");
    std::fs::remove_file(copy.join("etc/ld.so.cache")).unwrap();
    done(Command::new("/sbin/ldconfig").arg("-r").arg(&copy), "libc-bin");

    let (ours, theirs) = (printed(&tree), printed(&copy));
    assert_eq!(ours, theirs);
    assert_eq!(ours["libgauss.so.4 (libc6,x86-64)"], "/opt/acme/lib/libgauss.so.4");
    assert_eq!(ours["liblocal.so.3 (libc6,x86-64)"], "/usr/local/lib/x86_64-linux-gnu/liblocal.so.3");
    let links = |root: &Path| -> BTreeSet<Vec<u8>> {
        walk(root).into_iter().filter(|(_, metadata)| metadata.is_symlink()).map(|(path, _)| path).collect()
    };
    assert_eq!(
        links(&tree),
        links(&copy),
        "links that ldconfig makes and we did not, or the other way round"
    );
}

#[test]
fn the_loader_finds_a_library_that_only_the_cache_knows() {
    let source =
        "#include <stdio.h>\nvoid plain(void);\nint main(void) { plain(); return puts(\"found\") < 0; }\n";
    let vendor = Package::new("acme", "1.0")
        .packed(Packing::Xz)
        .field("Depends", "libc6")
        .file("etc/ld.so.conf.d/acme.conf", "/opt/acme/lib\n")
        .file("opt/acme/lib/libgauss.so.4.4.4", compile::library("libgauss.so.4", &[]))
        .program("usr/bin/acme", compile::program_with(source, "libgauss.so.4"));
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server) = bench.with_mirror(&Mirror::runnable());
        bench.put("acme.deb", vendor.deb());
        assert_eq!(bench.hatchway(&["run", "-q", "./acme.deb"]).ok().stdout, "found\n");
    }
}
