//! The order of the crates: who may know whom. The same order stands in docs/ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// A crate of the workspace, and the crates of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hatchway-inspect", &[]),
    ("hatchway-sys", &[]),
    ("hatchway-wire", &[]),
    ("hatchway-shim", &["hatchway-sys", "hatchway-wire"]),
    ("hatchway-envs", &["hatchway-inspect", "hatchway-sys", "hatchway-wire"]),
    ("hatchway-images", &["hatchway-envs", "hatchway-sys"]),
    ("hatchway-vm", &["hatchway-inspect", "hatchway-envs", "hatchway-sys", "hatchway-wire"]),
    (
        "hatchway",
        &[
            "hatchway-inspect",
            "hatchway-envs",
            "hatchway-images",
            "hatchway-vm",
            "hatchway-sys",
            "hatchway-wire",
        ],
    ),
    ("hatchway-recon", &["hatchway-sys", "hatchway-wire"]),
    // (The shim's own tests also use hatchway-envs, to plan what they run; see `TESTED_WITH`.)
    // They see the programs from outside, as a user does.
    ("hatchway-tests", &[]),
    ("xtask", &[]),
];

/// A crate's tests may use one more: what is not part of the program is not part of the order.
const TESTED_WITH: &[(&str, &str)] = &[("hatchway-shim", "hatchway-envs")];

#[test]
fn crates_depend_only_in_the_order_of_the_architecture() {
    let problems = problems(&metadata().unwrap(), ALLOWED).unwrap();
    assert!(problems.is_empty(), "the order of the crates is broken:\n{}", problems.join("\n"));
}

#[test]
fn a_broken_order_is_seen() {
    let package = |name: &str, needs: &[&str]| {
        let needs: Vec<Value> = needs.iter().map(|need| serde_json::json!({ "name": need })).collect();
        serde_json::json!({ "name": name, "dependencies": needs })
    };
    let allowed: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    let check =
        |packages: Vec<Value>| problems(&serde_json::json!({ "packages": packages }), allowed).unwrap();

    assert!(check(vec![package("low", &["serde"]), package("high", &["low", "serde"])]).is_empty());
    let upwards = check(vec![package("low", &["high"]), package("high", &[])]);
    assert_eq!(upwards, ["`low` depends on `high`; it may depend on no crate of the workspace"]);
    let unknown = check(vec![package("low", &[]), package("high", &[]), package("new", &[])]);
    assert!(unknown[0].starts_with("`new` has no place in the order"), "{unknown:?}");
    let gone = check(vec![package("low", &[])]);
    assert!(gone[0].starts_with("`high` is in the order and not in the workspace"), "{gone:?}");
}

/// Every edge that is not allowed, and every crate that only one side knows.
fn problems(metadata: &Value, allowed: &[(&str, &[&str])]) -> Result<Vec<String>> {
    let allowed: BTreeMap<&str, &[&str]> = allowed.iter().copied().collect();
    let packages = metadata["packages"].as_array().context("the metadata has no packages")?;
    let name_of =
        |package: &Value| package["name"].as_str().map(str::to_owned).context("a package has no name");
    let ours: BTreeSet<String> = packages.iter().map(name_of).collect::<Result<_>>()?;

    let mut problems = Vec::new();
    for package in packages {
        let name = name_of(package)?;
        let Some(may) = allowed.get(name.as_str()) else {
            problems.push(format!("`{name}` has no place in the order: add it to tests/tests/order.rs"));
            continue;
        };
        let list = if may.is_empty() { "no crate of the workspace".to_owned() } else { may.join(", ") };
        for dependency in package["dependencies"].as_array().context("a package has no dependencies")? {
            let for_tests = dependency["kind"] == "dev";
            let dependency = name_of(dependency)?;
            if for_tests && TESTED_WITH.contains(&(name.as_str(), dependency.as_str())) {
                continue;
            }
            if ours.contains(&dependency) && !may.contains(&dependency.as_str()) {
                problems.push(format!("`{name}` depends on `{dependency}`; it may depend on {list}"));
            }
        }
    }
    for name in allowed.keys().filter(|name| !ours.contains(**name)) {
        problems.push(format!(
            "`{name}` is in the order and not in the workspace: remove it from tests/tests/order.rs"
        ));
    }
    Ok(problems)
}

fn metadata() -> Result<Value> {
    // Asked at run time: a target folder may be shared between checkouts.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").context("run this test with cargo")?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(folder)
        .output()
        .context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")
}
