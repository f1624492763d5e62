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

/// The profile for hosts whose AppArmor keeps ordinary users from user namespaces, judged by AppArmor's own parser.
#[test]
fn the_apparmor_profile_parses() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fhs-envs/apparmor/hatchway");
    let parse = |path: &std::path::Path| {
        let parser = std::process::Command::new("/usr/sbin/apparmor_parser")
            .args(["--skip-kernel-load", "--skip-cache", "--quiet"])
            .arg(path)
            .output()
            .unwrap_or_else(|error| panic!("{error}: install the package `apparmor`"));
        (parser.status.success(), String::from_utf8_lossy(&parser.stderr).into_owned())
    };
    let bench = Bench::new();
    let profile = std::fs::read_to_string(path).unwrap();
    let version_4 = std::path::Path::new("/etc/apparmor.d/abi/4.0").exists();
    // A parser of version 3 knows neither `userns` nor profiles that confine nothing; all else it judges.
    let readable = if version_4 {
        profile
    } else {
        assert_eq!(profile.matches("  userns,\n").count(), 2);
        profile
            .replace("abi/4.0", "abi/3.0")
            .replace("  userns,\n", "")
            .replace("flags=(unconfined)", "flags=(complain)")
    };
    let (good, said) = parse(&bench.put("profile", &readable));
    assert!(good, "{said}");
    let (good, said) =
        parse(&bench.put("broken", readable.replace("profile hatchway-shim", "profile hatchway-shim {")));
    assert!(!good && said.contains("parser error"), "{said}");
}
