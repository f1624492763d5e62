//! `hatchway doctor` on the host of the tests: it has to be fit, or nothing else here would run.

use hatchway_tests::bench::{Bench, Outcome};

fn fit(bench: &Bench) {
    let outcome = bench.hatchway(&["doctor"]).ok();
    assert!(outcome.stdout.ends_with("fit: tools can be run here\n"), "{outcome}");
    assert!(outcome.stdout.contains("✓ sandbox: one was made and left"), "{outcome}");
    for line in outcome.stdout.lines() {
        // A word that is longer than a line stays whole.
        assert!(line.chars().count() <= 80 || line.split_whitespace().count() <= 2, "{line}");
    }
    let json = bench.hatchway(&["doctor", "--json"]).ok().json();
    assert_eq!(json["fit"], true);
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.len() >= 15, "{json}");
    for check in checks.iter().filter(|check| check["state"] != "works") {
        assert!(check["means"].as_str().is_some_and(|means| !means.is_empty()), "{check}");
        assert!(check["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{check}");
    }
    let left = std::fs::read_dir(bench.path("tmp")).unwrap().count()
        + std::fs::read_dir(bench.path("data")).unwrap().count();
    assert_eq!(left, 0, "looking left something behind");
}

#[test]
fn a_host_that_runs_tools_is_fit_for_whoever_runs_the_tests() {
    fit(&Bench::new());
}

#[test]
fn a_host_that_runs_tools_is_fit_for_an_ordinary_user() {
    let bench = Bench::ordinary();
    fit(&bench);
}

#[test]
fn a_host_without_user_namespaces_is_not_fit_for_an_ordinary_user() {
    let bench = Bench::ordinary();
    let inner = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \
                 \"$HATCHWAY\" doctor";
    let outcome: Outcome =
        bench.script(&format!("unshare -U --map-user=1000 --map-group=1000 --keep-caps sh -c '{inner}'"));
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stdout.contains("✗ sandbox:"), "{outcome}");
    assert!(outcome.stdout.contains("sysctl user.max_user_namespaces=15000"), "{outcome}");
    assert!(outcome.stdout.ends_with("not fit: see the lines with ✗\n"), "{outcome}");
}
