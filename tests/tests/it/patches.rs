//! Patches of a recipe, and files that a shipped recipe leaves open.

use std::fs;

use hatchway_tests::bench::Bench;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::tar::{Tar, gzip};

use super::{acme, hinted};

const PATCH: &str = "--- a/acme.conf\n+++ b/acme.conf\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n";

fn mirror() -> Mirror {
    Mirror::new(vec![Suite::new("bookworm", Libc::Hosts)], Key::new(1))
}

/// A recipe of a package with a configuration, and patches for it.
fn patched(bench: &Bench, patches: &[(&str, &str)]) {
    let deb = acme()
        .file("etc/acme/acme.conf", "one\ntwo\nthree\n")
        .file("etc/acme/gone", "gone\n")
        .link("etc/link", "acme/acme.conf")
        .link("etc/way", "acme");
    bench.put("acme.deb", deb.deb());
    drop(bench.hatchway(&["new", "acme.deb", "--force"]).ok());
    let mut text = bench.read("recipes/acme/recipe.toml") + "\n[environment.patch]\n";
    for (number, (at, patch)) in patches.iter().enumerate() {
        bench.put(&format!("recipes/acme/{number}.patch"), patch);
        text += &format!("\"{at}\" = \"{number}.patch\"\n");
    }
    bench.put("recipes/acme/recipe.toml", text);
}

#[test]
fn a_patch_is_part_of_the_tree_and_of_the_lock() {
    let mirror = mirror();
    let (bench, server) = Bench::new().with_mirror(&mirror);
    let made = "--- /dev/null\n+++ b/new.conf\n@@ -0,0 +1 @@\n+new\n";
    let removed = "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";
    let patches = [("/etc/way/acme.conf", PATCH), ("/etc/acme/new.conf", made), ("/etc/acme/gone", removed)];
    patched(&bench, &patches);
    drop(bench.hatchway(&["lock", "acme"]).ok());
    drop(bench.hatchway(&["build", "acme"]).ok());
    let trees = bench.store().names("trees");
    let folder = bench.store().tree(&trees[0]).join("etc/acme");
    assert_eq!(fs::read_to_string(folder.join("acme.conf")).unwrap(), "one\nTWO\nthree\n");
    assert_eq!(fs::read_to_string(folder.join("new.conf")).unwrap(), "new\n");
    assert!(!folder.join("gone").exists());
    let lock = bench.read("recipes/acme/recipe.lock");
    assert_eq!(lock.matches("[[patch]]").count(), 3, "{lock}");
    // Another machine, an ordinary user: the same tree. Without the patch, from the store.
    let other = Bench::ordinary().with_server(&mirror, &server);
    patched(&other, &patches);
    drop(other.hatchway(&["lock", "acme"]).ok());
    fs::remove_file(other.path("work/recipes/acme/0.patch")).unwrap();
    drop(other.hatchway(&["store", "gc"]).ok());
    drop(other.hatchway(&["build", "acme"]).ok());
    assert_eq!(other.store().names("trees"), trees);
    // A patch that was changed since is another recipe.
    bench.put("recipes/acme/0.patch", PATCH.replace("TWO", "2"));
    hinted(&bench.hatchway(&["build", "acme"]), "does not fit its recipe any more");
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let run = bench.hatchway(&["run", "acme", "--", "show", "/etc/acme/acme.conf"]).ok();
    assert_eq!(run.stdout, "one\n2\nthree\n");
}

#[test]
fn a_patch_that_does_not_fit_is_told() {
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror());
    for (at, patch, says) in [
        (
            "/etc/acme/acme.conf",
            PATCH.replace("-two", "-tow"),
            "the patch `0.patch` cannot be applied to `/etc/acme/acme.conf`: hunk 1 (line 1) does not fit: line 2 should be `tow` and is `two`",
        ),
        (
            "/etc/link",
            PATCH.to_owned(),
            "it is a link to `acme/acme.conf`: patch `/etc/acme/acme.conf`, where it leads",
        ),
        ("/etc/acme", PATCH.to_owned(), "it is a folder"),
        ("/etc/none", PATCH.to_owned(), "there is no such file in the tree"),
        ("/usr/bin/acme", PATCH.to_owned(), "it is not text"),
        ("/etc/acme/acme.conf/x", PATCH.replace("a/acme.conf", "/dev/null"), "cannot be"),
    ] {
        patched(&bench, &[(at, &patch)]);
        drop(bench.hatchway(&["lock", "acme"]).ok());
        let outcome = bench.hatchway(&["build", "acme"]);
        assert_eq!(outcome.code, Some(2), "{at}: {outcome}");
        assert!(outcome.stderr.contains(says), "not said: {says}\n{outcome}");
        assert!(bench.store().names("trees").is_empty());
    }
    fs::remove_file(bench.path("work/recipes/acme/0.patch")).unwrap();
    hinted(&bench.hatchway(&["lock", "acme"]), "the patch `0.patch` is not beside the recipe");
    let text = bench.read("recipes/acme/recipe.toml").replace("0.patch", "../0.patch");
    bench.put("recipes/acme/recipe.toml", text);
    let check = bench.hatchway(&["recipe", "check", "acme"]);
    assert!(check.stderr.contains("is not the name of a file beside the recipe"), "{check}");
}

/// The shape of 3D Slicer's archive, not its content: a stand-in with a launcher that finds libraries beside itself.
fn stand_in() -> Vec<u8> {
    let top = "Slicer-9.9.9-linux-amd64";
    let launcher = "#!/bin/bash\nhere=${0%/*}\necho \"stand-in at $here\"\n\
                    test -f \"$here/lib/Slicer-9.9/libSlicer.so\" && \"$here/bin/SlicerApp-real\" \"$@\"\n";
    let tar = Tar::new()
        .folder(&format!("{top}/"))
        .file(&format!("{top}/Slicer"), 0o755, launcher.as_bytes())
        .file(&format!("{top}/bin/SlicerApp-real"), 0o755, b"#!/bin/bash\necho \"application $1\"\n")
        .file(&format!("{top}/lib/Slicer-9.9/libSlicer.so"), 0o644, b"no library");
    gzip(&tar.finish())
}

#[test]
fn a_shipped_recipe_takes_the_file_that_its_user_supplies() {
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror());
    let shipped =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/3d-slicer/recipe.toml")).unwrap();
    // The archive of the bench has neither of these.
    let start = shipped.find("packages = [").unwrap();
    let end = start + shipped[start..].find(']').unwrap() + 1;
    let shipped = shipped
        .replace(&shipped[start..end], "packages = []")
        .replace("display = \"nested\"", "display = \"none\"");
    fs::create_dir_all(bench.path("work/recipes/3d-slicer")).unwrap();
    bench.allow("work/recipes");
    bench.allow("work/recipes/3d-slicer");
    bench.put("recipes/3d-slicer/recipe.toml", &shipped);
    let check = bench.hatchway(&["recipe", "check", "3d-slicer"]).ok();
    assert!(check.stderr.contains("is left open: `hatchway recipe adopt`"), "{check}");
    hinted(&bench.hatchway(&["lock", "3d-slicer"]), "leaves it to you which file `Slicer-");
    bench.put("Slicer-9.9.9-linux-amd64.tar.gz", stand_in());
    drop(bench.hatchway(&["recipe", "adopt", "3d-slicer", "Slicer-9.9.9-linux-amd64.tar.gz"]).ok());
    let adopted = bench.read("recipes/3d-slicer/recipe.toml");
    assert!(
        adopted.contains("file = \"Slicer-9.9.9-linux-amd64.tar.gz\"") && !adopted.contains("0000000000"),
        "{adopted}"
    );
    // The file is in the store: it need not lie beside the recipe.
    drop(bench.hatchway(&["lock", "3d-slicer"]).ok());
    let run = bench.hatchway(&["run", "3d-slicer", "--", "volume.nrrd"]).ok();
    assert_eq!(run.stdout, "stand-in at /opt/slicer\napplication volume.nrrd\n");
    let again = bench.hatchway(&["recipe", "adopt", "3d-slicer", "Slicer-9.9.9-linux-amd64.tar.gz"]);
    assert!(again.stderr.contains("has its digest already"), "{again}");
}
