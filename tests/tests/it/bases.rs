//! Bases without an index of packages: nothing but the artifacts, and OCI images. `umoci` is the second opinion on images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::oci::{self, Image};
use hatchway_tests::package::sha256;
use hatchway_tests::tar::Tar;
use hatchway_tests::{compile, store};

use super::{ACME, hinted};

/// Names no path that a base would bring.
const SMALL: &str = "#include <unistd.h>\nint main(int n, char **w) { for (int i = 1; i < n; i++) { int l = 0; \
                     while (w[i][l]) l++; write(1, w[i], l); } write(1, \".\\n\", 2); return 0; }\n";

fn recipe(bench: &Bench, text: &str) {
    fs::create_dir_all(bench.path("work/recipes/acme")).unwrap();
    bench.allow("work/recipes");
    bench.allow("work/recipes/acme");
    bench.put("recipes/acme/recipe.toml", format!("schema = 1\n[package]\nname = \"acme\"\n{text}"));
}

fn artifact(bench: &Bench, file: &str, bytes: &[u8]) -> String {
    fs::create_dir_all(bench.path("work/recipes/acme")).unwrap();
    bench.put(&format!("recipes/acme/{file}"), bytes);
    format!("[[artifact]]\nfile = \"{file}\"\nsha256 = \"{}\"\n", sha256(bytes))
}

/// Locks and builds; gives the tree.
fn built(bench: &Bench) -> PathBuf {
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let built = bench.hatchway(&["build", "acme", "--json"]).ok();
    PathBuf::from(
        built.json()["path"].as_str().unwrap().replace("[bench]", &bench.path("").display().to_string()),
    )
}

fn refused(bench: &Bench, says: &str) -> Outcome {
    let outcome = bench.hatchway(&["lock", "acme"]);
    hinted(&outcome, says);
    assert!(bench.store().names("trees").is_empty(), "{outcome}");
    outcome
}

#[test]
fn a_static_program_needs_no_base_and_new_says_so() {
    let bench = Bench::ordinary().exact();
    bench.put("small", compile::with_musl(SMALL, true));
    drop(bench.hatchway(&["new", "small"]).ok());
    let recipe = bench.read("recipes/small/recipe.toml");
    assert!(recipe.contains("base = \"none\"  # statically linked"), "{recipe}");
    // No mirror is known here: nothing is asked of one.
    let run = bench.hatchway(&["run", "./small", "--keep", "--", "a", "b"]).ok();
    assert_eq!(run.stdout, "ab.\n");
    assert!(run.stderr.contains("no shell, certificates, time zones and locales"), "{run}");
    let shell = bench.hatchway(&["shell", "small"]);
    assert!(shell.stderr.contains("the tree has no shell"), "{shell}");
    // One that names a file which a base would bring is left to its suite.
    bench.put("other", compile::with_musl(&SMALL.replace("\".\\n\"", "\"/usr/share/acme/x\""), true));
    drop(bench.hatchway(&["new", "other"]).ok());
    assert!(!bench.read("recipes/other/recipe.toml").contains("none"));
}

#[test]
fn a_bundle_runs_with_its_own_loader() {
    let bench = Bench::new().exact();
    let host = |path: &str| fs::read(path).unwrap();
    let tar = Tar::new()
        .file("usr/bin/acme", 0o755, &compile::program(ACME))
        .file("lib64/ld-linux-x86-64.so.2", 0o755, &host("/lib64/ld-linux-x86-64.so.2"))
        .file("lib/x86_64-linux-gnu/libc.so.6", 0o644, &host("/lib/x86_64-linux-gnu/libc.so.6"));
    let artifact = artifact(&bench, "acme.tar", &tar.finish());
    recipe(
        &bench,
        &format!(
            "{artifact}unpack = \"/\"\n[environment]\nbase = \"none\"\n[run]\nprogram = \"/usr/bin/acme\"\n"
        ),
    );
    let tree = built(&bench);
    assert!(tree.join("etc/nsswitch.conf").is_file() && tree.join("etc/ld.so.cache").is_file());
    assert_eq!(bench.hatchway(&["run", "acme"]).ok().stdout, "acme 1.0\n");
}

#[test]
fn what_is_missing_without_a_base_is_told() {
    let bench = Bench::new().exact();
    let artifact = artifact(&bench, "acme", &compile::program_with(ACME, "libacme.so.7"));
    recipe(&bench, &format!("{artifact}unpack = \"/opt\"\n[environment]\nbase = \"none\"\n"));
    let said = bench.hatchway(&["lock", "acme"]);
    hinted(&said, "`libacme.so.7` (needed by acme) is in no artifact");
    assert!(said.stderr.contains("`libc.so.6` (needed by acme) is in no artifact"), "{said}");
    // A library that only a part wants which nobody uses can be left out, by its name.
    let text = bench.read("recipes/acme/recipe.toml");
    bench.put("recipes/acme/recipe.toml", text + "exclude = [\"libacme.so.7\"]\n");
    let said = bench.hatchway(&["lock", "acme"]);
    assert!(said.stderr.contains("libc.so.6") && !said.stderr.contains("`libacme"), "{said}");
}

/// What `env` was to look for was named, not `env` itself; without it nothing was said to be missing at all.
#[test]
fn a_tree_without_env_says_that_env_is_missing() {
    let bench = Bench::new();
    let tar = Tar::new().file("acme", 0o755, b"#!/usr/bin/env python3\n").finish();
    let artifact = artifact(&bench, "acme.tar", &tar);
    let rest = "unpack = \"/opt\"\n[environment]\nbase = \"none\"\n[run]\nprogram = \"/opt/acme\"\n";
    recipe(&bench, &format!("{artifact}{rest}"));
    drop(built(&bench));
    let outcome = bench.hatchway(&["run", "-q", "acme"]);
    assert_eq!(outcome.code, Some(126), "{outcome}");
    assert!(outcome.stderr.contains("the interpreter `/usr/bin/env` in its first line is not"), "{outcome}");
    assert!(
        outcome.stderr.contains("hint: an environment of Debian's packages has it: `base = "),
        "{outcome}"
    );
}

#[test]
fn what_only_an_index_can_give_is_refused_with_its_place() {
    let bench = Bench::ordinary().exact();
    for (key, base) in [
        ("packages = [\"libc6\"]", "none"),
        ("pin = { libc6 = \"1\" }", "none"),
        ("exclude = [\"libc6\"]", "oci:x.tar"),
        ("python = { version = \"3.11\" }", "oci:x.tar"),
        ("configure = \"scripts\"", "oci:x.tar"),
    ] {
        recipe(&bench, &format!("[environment]\nbase = \"{base}\"\n{key}\n"));
        let check = bench.hatchway(&["recipe", "check", "acme"]);
        let word = key.split(' ').next().unwrap();
        assert_eq!(check.code, Some(1), "{check}");
        assert!(
            check.stderr.contains("recipe.toml:5:8: this base has no index of packages, so `"),
            "{check}"
        );
        assert!(check.stderr.contains(word), "{check}");
    }
}

/// Three layers with everything that one layer can do to those below it.
fn layers() -> Vec<Tar> {
    let bottom = Tar::new()
        .folder("etc/")
        .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nacme:x:77:77:Acme:/opt:/bin/sh\n")
        .file("etc/shadow", 0o640, b"root:secret\n")
        .file("etc/private", 0o600, b"key")
        .file("etc/hostname", 0o644, b"elsewhere")
        .folder("usr/")
        .folder("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("usr/lib/old", 0o644, b"old")
        .file("usr/lib/kept", 0o4755, b"kept")
        .folder("opt/")
        .file("opt/a", 0o644, b"a")
        .file("opt/b", 0o644, b"b")
        .file("becomes", 0o644, b"file")
        .folder("folder/")
        .file("folder/x", 0o644, b"x")
        .symlink("abroad", "/../../etc");
    let middle = Tar::new()
        .file("lib/new", 0o755, b"new")
        .file("lib/.wh.old", 0o644, b"")
        .folder("opt/")
        .file("opt/.wh..wh..opq", 0o644, b"")
        .file("opt/c", 0o644, b"c")
        .file("abroad/within", 0o644, b"within");
    let top = Tar::new()
        .folder("becomes/")
        .file("becomes/inside", 0o644, b"inside")
        .file("folder", 0o644, b"file")
        .file("usr/lib/first", 0o644, b"linked")
        .hardlink("usr/lib/second", "usr/lib/first");
    vec![bottom, middle, top]
}

/// Kind and content of everything in a folder but what a launch or the builder makes.
fn contents(folder: &Path) -> Vec<String> {
    const MADE: [&str; 7] = [
        "etc/shadow",
        "etc/hostname",
        "etc/nsswitch.conf",
        "etc/ld.so.cache",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/machine-id",
    ];
    let mut lines = Vec::new();
    for (path, metadata) in store::walk(folder) {
        let path = String::from_utf8(path).unwrap();
        let full = folder.join(&path);
        if metadata.is_symlink() {
            lines.push(format!("{path} -> {}", fs::read_link(full).unwrap().display()));
        } else if metadata.is_file() && !MADE.contains(&path.as_str()) {
            lines.push(format!("{path} {}", sha256(&fs::read(full).unwrap())));
        }
    }
    lines
}

#[test]
fn layers_give_what_umoci_gives_for_everybody() {
    let bench = Bench::new().exact();
    oci::layout(&[Image::new(layers())], &bench.path("work/recipes/acme/image"));
    recipe(&bench, "[environment]\nbase = \"oci:image\"\n");
    let tree = built(&bench);
    let umoci = Command::new("umoci")
        .args(["unpack", "--rootless", "--image"])
        .arg(format!("{}:acme", bench.path("work/recipes/acme/image").display()))
        .arg(bench.path("bundle"))
        .output()
        .expect("install the package `umoci`");
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    assert_eq!(contents(&tree), contents(&bench.path("bundle/rootfs")));
    assert!(tree.join("etc/within").is_file() && !tree.join("etc/shadow").exists());

    let other = Bench::ordinary().exact();
    oci::layout(&[Image::new(layers())], &other.path("work/recipes/acme/image"));
    recipe(&other, "[environment]\nbase = \"oci:image\"\n");
    drop(other.hatchway(&["lock", "acme"]).ok());
    let said = other.hatchway(&["build", "acme"]).ok().stderr;
    for line in [
        "the image: dropped setid bits of usr/lib/kept",
        "the image: dropped the password hashes in etc/shadow",
        "the image: dropped the mode 0600 of etc/private: in a tree everybody can read it",
    ] {
        assert!(said.contains(line), "not said: {line}\n{said}");
    }
    assert_eq!(other.store().names("trees"), [tree.file_name().unwrap().to_string_lossy().into_owned()]);
    // The lock names the manifest and each layer; each is an artifact that is kept.
    let lock = bench.read("recipes/acme/recipe.lock");
    assert_eq!(lock.matches("[[image.layer]]").count(), 3, "{lock}");
    drop(bench.hatchway(&["store", "gc"]).ok());
    assert_eq!(bench.store().names("artifacts").len(), 3);
}

#[test]
fn archives_layouts_and_what_docker_saved_are_one_tree() {
    let bench = Bench::new().exact();
    let plain: Vec<Vec<u8>> = layers().into_iter().map(Tar::finish).collect();
    let mut image = Image::new(Vec::new());
    for (number, layer) in plain.iter().enumerate() {
        image = match number {
            0 => image.layer(layer, layer.clone(), "tar"),
            1 => image.layer(layer, zstd(layer), "tar+zstd"),
            _ => image.layer(layer, hatchway_tests::tar::gzip(layer), "tar+gzip"),
        };
    }
    // An empty layer, as tools write for a step that changes nothing.
    let empty = Tar::new().finish();
    let image =
        image.layer(&empty, hatchway_tests::tar::gzip(&empty), "tar+gzip").starts(&["/bin/acme", "--serve"]);
    oci::layout(
        &[image.clone(), Image::new(Vec::new()).architecture("arm64").named("other")],
        &bench.path("layout"),
    );
    let with_empty: Vec<Vec<u8>> = plain.iter().cloned().chain([empty]).collect();
    image.save_as_docker(&with_empty, &bench.path("saved"));
    let mut trees = Vec::new();
    for (file, folder) in [("image.tar", "layout"), ("saved.tar", "saved")] {
        fs::create_dir_all(bench.path("work/recipes/acme")).unwrap();
        bench.put(&format!("recipes/acme/{file}"), oci::archive(&bench.path(folder)));
        recipe(&bench, &format!("[environment]\nbase = \"oci:{file}\"\n"));
        let said = bench.hatchway(&["lock", "acme"]).ok().stderr;
        assert!(said.contains("would start `/bin/acme --serve`"), "{said}");
        trees.push(built(&bench));
    }
    assert_eq!(trees[0], trees[1]);
    assert!(trees[0].join("usr/lib/second").is_file());
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("zstd").arg("-qc").arg(path).output().expect("install the package `zstd`");
    output.stdout
}

#[test]
fn a_tool_runs_over_an_image_with_another_libc() {
    let bench = Bench::new().exact();
    let image = |with_libc: bool| {
        let tar = Tar::new().folder("bin/").folder("lib/").folder("etc/").file(
            "etc/os-release",
            0o644,
            b"ID=acme\n",
        );
        let tar = tar.file("bin/sh", 0o755, &compile::with_musl(SMALL, false));
        if with_libc {
            tar.file("lib/ld-musl-x86_64.so.1", 0o755, &compile::musl())
                .symlink("lib/libc.so", "ld-musl-x86_64.so.1")
        } else {
            tar
        }
    };
    let artifact = artifact(&bench, "acme", &compile::with_musl(SMALL, false));
    let text = format!(
        "{artifact}unpack = \"/opt\"\n[environment]\nbase = \"oci:image\"\n[run]\nprogram = \"/opt/acme\"\n"
    );
    recipe(&bench, &text);
    oci::layout(&[Image::new(vec![image(false)])], &bench.path("work/recipes/acme/image"));
    let said = bench.hatchway(&["lock", "acme"]);
    hinted(
        &said,
        "the base `oci:image` lacks what the artifacts need:\n`libc.so` (needed by acme) is not in the image",
    );
    fs::remove_file(bench.path("work/recipes/acme/image/index.json")).unwrap();
    oci::layout(&[Image::new(vec![image(true)])], &bench.path("work/recipes/acme/image"));
    let tree = built(&bench);
    // `/bin` stays where the image has it.
    assert!(
        tree.join("bin/sh").symlink_metadata().unwrap().is_file()
            && tree.join("bin").symlink_metadata().unwrap().is_dir()
    );
    assert_eq!(bench.hatchway(&["run", "acme", "--", "x"]).ok().stdout, "x.\n");
    assert_eq!(bench.hatchway(&["run", "acme", "--program", "/bin/sh", "--", "y"]).ok().stdout, "y.\n");
}

#[test]
fn an_image_is_chosen_by_processor_and_name() {
    let bench = Bench::ordinary().exact();
    let folder = bench.path("work/recipes/acme/image");
    let of = |text: &[u8]| Image::new(vec![Tar::new().file("x", 0o644, text)]);
    oci::layout(&[of(b"1").named("one"), of(b"2").named("two:2.0"), of(b"3").architecture("arm64")], &folder);
    recipe(&bench, "[environment]\nbase = \"oci:image\"\n");
    refused(&bench, "it holds 2 images: `acme`, `one`, `two:2.0`; name one");
    recipe(&bench, "[environment]\nbase = \"oci:image:three\"\n");
    refused(&bench, "it holds no image `three`");
    recipe(&bench, "[environment]\nbase = \"oci:image:acme\"\n");
    refused(&bench, "it holds no image for linux/amd64: `linux/arm64`");
    recipe(&bench, "[environment]\nbase = \"oci:image:two:2.0\"\n");
    assert_eq!(fs::read(built(&bench).join("x")).unwrap(), b"2");
}

#[test]
fn hostile_and_broken_images_are_refused() {
    let layout = |layers: Vec<Tar>| {
        let bench = Bench::ordinary().exact();
        oci::layout(&[Image::new(layers)], &bench.path("work/recipes/acme/image"));
        recipe(&bench, "[environment]\nbase = \"oci:image\"\n");
        bench
    };
    let build_fails = |layers: Vec<Tar>, says: &str| {
        let bench = layout(layers);
        drop(bench.hatchway(&["lock", "acme"]).ok());
        let outcome = bench.hatchway(&["build", "acme"]);
        assert_eq!(outcome.code, Some(2), "{outcome}");
        assert!(outcome.stderr.contains(says), "not said: {says}\n{outcome}");
        assert!(bench.store().names("trees").is_empty());
    };
    build_fails(vec![Tar::new().file("../x", 0o644, b"x")], "..");
    build_fails(vec![Tar::new().symlink("a", "/etc").file("a/x", 0o644, b"x")], "lies below `a`");
    build_fails(vec![Tar::new().file("etc/.wh...", 0o644, b"")], "names nothing");
    build_fails(
        vec![Tar::new().file("a", 0o644, b"x").folder("d"), Tar::new().hardlink("b", "d")],
        "no file of a lower layer",
    );
    let to_itself = Tar::new().symlink("a", "b").symlink("b", "a");
    build_fails(vec![to_itself, Tar::new().file("a/.wh.x", 0o644, b"")], "too many links");
    build_fails(
        vec![
            Tar::new().file("a", 0o644, b"x"),
            Tar::new().file(".hatchway-control/changes", 0o644, b"remove\ta\n"),
        ],
        "keeps for itself",
    );

    // A blob that is not what its name says; one that is a link; a document that is too large.
    let bench = layout(layers());
    let blobs = bench.path("work/recipes/acme/image/blobs/sha256");
    let largest = |blobs: &Path| {
        fs::read_dir(blobs).unwrap().flatten().max_by_key(|e| e.metadata().unwrap().len()).unwrap().path()
    };
    let (blob, secret) = (largest(&blobs), bench.path("work/secret"));
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, [&bytes[..], b"x"].concat()).unwrap();
    refused(&bench, "is not the file that was named");
    fs::write(&secret, bytes).unwrap();
    fs::remove_file(&blob).unwrap();
    refused(&bench, "is missing");
    std::os::unix::fs::symlink(&secret, &blob).unwrap();
    refused(&bench, "leads through a link");
    fs::write(bench.path("work/recipes/acme/image/index.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    refused(&bench, "`index.json` has more than 4194304 bytes");
    fs::remove_file(bench.path("work/recipes/acme/image/index.json")).unwrap();
    refused(&bench, "neither `index.json` nor `manifest.json`");
    bench.put("recipes/acme/no.tar", b"no archive");
    recipe(&bench, "[environment]\nbase = \"oci:no.tar\"\n");
    refused(&bench, "it is neither a folder nor a tar archive");
}

#[test]
fn a_lock_keeps_its_image() {
    let bench = Bench::ordinary().exact();
    let folder = bench.path("work/recipes/acme/image");
    let of = |text: &[u8]| Image::new(vec![Tar::new().file("x", 0o644, text)]);
    oci::layout(&[of(b"1")], &folder);
    recipe(&bench, "[environment]\nbase = \"oci:image\"\n");
    let tree = built(&bench);
    // Another image under the same name changes nothing until it is locked, as long as the store has the first.
    oci::layout(&[of(b"2")], &folder);
    assert_eq!(built_only(&bench), tree);
    for artifact in bench.store().names("artifacts") {
        fs::remove_file(bench.path("data/store/artifacts").join(artifact)).unwrap();
    }
    assert_eq!(built_only(&bench), tree);
    for record in bench.store().names("builds") {
        fs::remove_file(bench.path("data/store/builds").join(record)).unwrap();
    }
    hinted(&bench.hatchway(&["build", "acme"]), "does not fit its recipe any more");
    assert_ne!(built(&bench), tree);
}

fn built_only(bench: &Bench) -> PathBuf {
    let built = bench.hatchway(&["build", "acme", "--json"]).ok();
    PathBuf::from(
        built.json()["path"].as_str().unwrap().replace("[bench]", &bench.path("").display().to_string()),
    )
}
