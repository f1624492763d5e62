//! Recipes that are wrong: each fixture has its message beside it, with file, line, column and caret.

use std::fs;
use std::path::{Path, PathBuf};

use hatchway_tests::bench::Bench;
use hatchway_tests::snapshot;

/// As many as the issue asks for, at least.
const FIXTURES_MIN: usize = 10;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/broken-recipes");
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn every_fixture_has_its_expectation() {
    let all = fixtures();
    assert!(all.len() >= FIXTURES_MIN, "{} fixtures", all.len());
    for folder in all {
        for file in ["recipe.toml", "expected.txt"] {
            assert!(folder.join(file).is_file(), "`{}` has no {file}", folder.display());
        }
        let expected = fs::read_to_string(folder.join("expected.txt")).unwrap();
        assert!(expected.starts_with("error: recipe.toml:"), "{}: no place in it", folder.display());
        assert!(
            expected.lines().any(|line| line.trim_start().starts_with("| ") && line.contains('^')),
            "no caret"
        );
    }
}

#[test]
fn every_broken_recipe_gives_its_message() {
    let bench = Bench::ordinary().exact();
    let write = std::env::var_os("HATCHWAY_SNAPSHOTS").is_some_and(|value| value == "write");
    let mut wrong = String::new();
    for folder in fixtures() {
        bench.put("recipe.toml", fs::read(folder.join("recipe.toml")).unwrap());
        let outcome = bench.hatchway(&["recipe", "check", "recipe.toml"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{}: {outcome}", folder.display());
        let path = folder.join("expected.txt");
        if write {
            fs::write(&path, &outcome.stderr).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if outcome.stderr != expected {
            wrong += &format!("{}:\n{}instead of\n{expected}", folder.display(), outcome.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn check_takes_all_recipes_and_tells_good_from_broken() {
    let bench = Bench::ordinary();
    let good = "schema = 1\n[package]\nname = \"good\"\n";
    for (name, text) in [("good", good), ("newer", "schema = 9\n[package]\nname = \"newer\"\n")] {
        fs::create_dir_all(bench.path("work/recipes").join(name)).unwrap();
        bench.put(&format!("recipes/{name}/recipe.toml"), text);
    }
    snapshot!(
        bench.hatchway(&["recipe", "check"]),
        r#"
exit 1
--- stderr
recipes/good/recipe.toml: ok
error: recipes/newer/recipe.toml:1:10: schema 9 is not known; this version reads 1
 1 | schema = 9
   |          ^
"#
    );
    snapshot!(
        bench.hatchway(&["recipe", "check", "good"]),
        r#"
exit 0
--- stderr
recipes/good/recipe.toml: ok
"#
    );
}

#[test]
fn what_a_recipe_asks_for_in_vain_is_refused_by_lock() {
    let bench = Bench::ordinary();
    fs::create_dir_all(bench.path("work/recipes/much")).unwrap();
    let text = "schema = 1\n[package]\nname = \"much\"\n[run]\nrung = \"native\"\n";
    bench.put("recipes/much/recipe.toml", text);
    snapshot!(
        bench.hatchway(&["recipe", "check", "much"]),
        r#"
exit 0
--- stderr
warning: recipes/much/recipe.toml: this version does not carry out rung = "native"
recipes/much/recipe.toml: ok
"#
    );
    snapshot!(
        bench.hatchway(&["lock", "much"]),
        r#"
exit 2
--- stderr
error: the recipe `much` asks for what this version of Hatchway does not carry out: rung = "native"
hint: take those keys out of the recipe; CHANGELOG.md says what is there
"#
    );
}

#[test]
fn every_shipped_recipe_is_right() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    let bench = Bench::ordinary();
    let mut count = 0;
    for entry in fs::read_dir(&shipped).unwrap() {
        let recipe = entry.unwrap().path().join("recipe.toml");
        if !recipe.is_file() {
            continue;
        }
        bench.put("recipe.toml", fs::read(&recipe).unwrap());
        let outcome = bench.hatchway(&["recipe", "check", "recipe.toml"]);
        // A file that its user supplies is said to be open, and no more.
        let said: Vec<&str> = outcome.stderr.lines().filter(|line| !line.contains("is left open")).collect();
        assert_eq!((outcome.code, &said[..]), (Some(0), &["recipe.toml: ok"][..]), "{}", recipe.display());
        count += 1;
    }
    assert!(count > 0, "there is no recipe in {}", shipped.display());
}

/// The first one that could not be read ended the check, and one with an odd name was not there.
#[test]
fn one_recipe_that_cannot_be_read_does_not_keep_the_others_from_being_checked() {
    let bench = Bench::ordinary();
    let good = "schema = 1\n[package]\nname = \"good\"\n";
    for name in ["a-bytes", "b-good", "c-wrong"] {
        fs::create_dir_all(bench.path("work/recipes").join(name)).unwrap();
    }
    bench.put("recipes/a-bytes/recipe.toml", [0xff]);
    bench.put("recipes/b-good/recipe.toml", good);
    bench.put("recipes/c-wrong/recipe.toml", "schema = 2\n");
    let odd = bench
        .path("work/recipes")
        .join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"d-\xff"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("recipe.toml"), good).unwrap();
    let outcome = bench.hatchway(&["recipe", "check"]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    for part in [
        "recipes/a-bytes/recipe.toml",
        "b-good/recipe.toml: ok",
        "c-wrong/recipe.toml:1:",
        "d-\u{fffd}/recipe.toml: ok",
    ] {
        assert!(outcome.stderr.contains(part), "{part}\n{outcome}");
    }
    let outcome = bench.hatchway(&["recipe", "check", "--json", "nobody", "b-good", "a-bytes"]);
    let json = outcome.json();
    let oks: Vec<&serde_json::Value> = json.as_array().unwrap().iter().map(|one| &one["ok"]).collect();
    assert_eq!((outcome.code, oks), (Some(1), vec![&false.into(), &true.into(), &false.into()]), "{json}");
    assert!(json[0]["error"].as_str().unwrap().contains("there is no recipe `nobody`"), "{json}");
}
