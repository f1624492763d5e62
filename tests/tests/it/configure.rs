//! What an environment asks to be made by its own programs: `configure = "scripts"`, which runs the archive's scripts in a
//! build sandbox, and `locales`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;
use hatchway_tests::{compile, host};

use super::hinted;

fn mirror_with(packages: Vec<Package>) -> Mirror {
    let suite =
        packages.into_iter().fold(host::suite_with_dpkg("bookworm"), |suite, package| suite.with(package));
    Mirror::new(vec![suite], Key::new(1))
}

/// A recipe without artifacts for these packages, its scripts run.
fn recipe(bench: &Bench, environment: &str) {
    fs::create_dir_all(bench.path("work/recipes/odd")).unwrap();
    bench.allow("work/recipes");
    bench.allow("work/recipes/odd");
    let text = format!(
        "schema = 1\n[package]\nname = \"odd\"\n[environment]\nbase = \"debian:bookworm\"\n{environment}\n"
    );
    bench.put("recipes/odd/recipe.toml", text);
}

fn build(bench: &Bench) -> Outcome {
    drop(bench.hatchway(&["lock", "odd"]).ok());
    bench.hatchway(&["build", "odd", "--json"])
}

fn tree(bench: &Bench, built: Outcome) -> (String, PathBuf) {
    let digest = built.ok().json()["tree"].as_str().unwrap().to_owned();
    let folder = bench.store().tree(&digest);
    (digest, folder)
}

const SCRIPTS: &str = "packages = [\"odd\"]\nconfigure = \"scripts\"";

/// Scripts that nobody has read: they find themselves root, offline, and called by dpkg as ever.
fn odd() -> Vec<Package> {
    let data = Package::new("odd-data", "1.0-1")
        .file("usr/share/odd/list", "a\nb\n")
        .script("postinst", "#!/bin/sh\nset -e\nwc -l < /usr/share/odd/list | tr -d ' ' > /etc/odd-count\n");
    let preinst = "#!/bin/sh\nset -e\n[ \"$1\" = install ]\nmkdir -p /etc/odd.d\necho \"$DPKG_MAINTSCRIPT_NAME of $DPKG_MAINTSCRIPT_PACKAGE\" > /etc/odd.d/before\n";
    let postinst = r#"#!/bin/bash
set -e
[ "$1" = configure ]
echo "uid $(id -u), count $(cat /etc/odd-count), frontend $DEBIAN_FRONTEND" > /etc/odd.d/after
update-alternatives --install /usr/bin/odd odd /usr/bin/odd-tool 10
grep -v -e Inter -e face -e lo: /proc/net/dev >> /etc/odd.d/after || true
chmod 4755 /usr/bin/odd-tool
rm /usr/share/odd/temporary
date > /var/log/odd
date > /var/cache/odd
"#;
    let odd = Package::new("odd", "1.0-1")
        .field("Depends", "odd-data")
        .program("usr/bin/odd-tool", "#!/bin/sh\necho odd\n")
        .file("usr/share/odd/temporary", "x")
        .script("preinst", preinst)
        .script("postinst", postinst);
    vec![data, odd]
}

#[test]
fn scripts_that_nobody_has_read_run_in_a_sandbox_and_give_everybody_the_same_tree() {
    let mirror = mirror_with(odd());
    let (bench, server) = Bench::new().exact().with_mirror(&mirror);
    recipe(&bench, &SCRIPTS.replace("configure = \"scripts\"", ""));
    let refused = {
        drop(bench.hatchway(&["lock", "odd"]).ok());
        bench.hatchway(&["build", "odd"])
    };
    hinted(&refused, "postinst of `odd`");
    recipe(&bench, SCRIPTS);
    let built = build(&bench);
    let notes = built.clone().ok().json()["notes"].to_string();
    assert!(notes.contains("dropped setid bits of usr/bin/odd-tool"), "{notes}");
    let (digest, folder) = tree(&bench, built);
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    assert_eq!(read("etc/odd.d/before"), "preinst of odd\n");
    assert_eq!(read("etc/odd.d/after"), "uid 0, count 2, frontend noninteractive\n");
    assert_eq!(fs::read_link(folder.join("usr/bin/odd")).unwrap().to_str(), Some("/etc/alternatives/odd"));
    for gone in [
        "usr/share/odd/temporary",
        "var/log/odd",
        "var/cache/odd",
        "var/lib/dpkg/status",
        "usr/sbin/policy-rc.d",
    ] {
        assert!(!folder.join(gone).exists(), "{gone}");
    }
    let other = Bench::ordinary().exact().with_server(&mirror, &server);
    recipe(&other, SCRIPTS);
    let built = build(&other);
    assert_eq!(tree(&other, built).0, digest);
    let run = other.hatchway(&["run", "odd", "--program", "/usr/bin/odd"]).ok();
    assert_eq!(run.stdout, "odd\n");
}

/// What comes of a package with this script.
fn with_script(postinst: &str) -> Outcome {
    let (bench, server) = Bench::ordinary().exact().with_mirror(&mirror_with(vec![]));
    let port =
        server.url.trim_end_matches('/').rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    // The mirror of this bench stays, so that its port has somebody who would answer.
    let package = Package::new("odd", "1.0-1").script("postinst", &postinst.replace("PORT", &port));
    let mirror = mirror_with(vec![package]);
    let (other, _server) = Bench::ordinary().exact().with_mirror(&mirror);
    recipe(&other, SCRIPTS);
    let outcome = build(&other);
    assert!(other.store().names("trees").is_empty(), "{outcome}");
    drop(bench);
    outcome
}

#[test]
fn a_script_that_writes_something_else_each_time_is_an_error() {
    let refused = with_script(
        "#!/bin/sh\nmkdir -p /etc/odd\ndate +%s.%N > /etc/odd/stamp\necho same > /etc/odd/same\n",
    );
    hinted(&refused, "wrote something else the second time: /etc/odd/stamp\n");
}

#[test]
fn a_script_that_fails_is_shown_with_what_it_said() {
    let refused = with_script("#!/bin/sh\necho 'odd: no licence server' >&2\nexit 7\n");
    assert_eq!(refused.code, Some(2), "{refused}");
    for line in ["the maintainer scripts failed", "odd: no licence server", "error exit status 7"] {
        assert!(refused.stderr.contains(line), "not said: {line}\n{refused}");
    }
}

#[test]
fn a_script_that_wants_the_network_fails() {
    let refused = with_script(
        "#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/PORT || { echo 'odd: no network' >&2; exit 1; }\n",
    );
    assert!(refused.stderr.contains("odd: no network"), "{refused}");
}

/// Says a date, a number and a message in the language it is started in.
const SPEAKER: &str = r#"
#include <locale.h>
#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
int main(void) {
    struct tm march = { .tm_year = 125, .tm_mon = 2, .tm_mday = 1 };
    char text[64];
    if (!setlocale(LC_ALL, "")) return puts("no such locale"), 1;
    strftime(text, sizeof text, "%B", &march);
    return printf("%s %.1f %s\n", text, 0.5, nl_langinfo(CODESET)) < 0;
}
"#;

#[test]
fn locales_are_there_for_programs_and_the_same_for_everybody() {
    let tool = Package::new("acme", "1.0").program("usr/bin/acme", compile::program(SPEAKER));
    let mirror = mirror_with(vec![host::locales(), tool]);
    let environment = "packages = [\"acme\"]\nlocales = [\"de_DE.UTF-8\", \"de_DE\", \"C.UTF-8\"]\n[run]\nprogram = \"/usr/bin/acme\"\nenv = { LC_ALL = \"LOCALE\" }";
    let (bench, server) = Bench::new().exact().with_mirror(&mirror);
    recipe(&bench, &environment.replace("LOCALE", "de_DE.UTF-8"));
    let built = build(&bench);
    let (digest, folder) = tree(&bench, built);
    assert_eq!(bench.hatchway(&["run", "odd"]).ok().stdout, "März 0,5 UTF-8\n");
    let listed = bench.hatchway(&["run", "odd", "--program", "/usr/bin/locale", "--", "-a"]).ok().stdout;
    for name in ["de_DE", "de_DE.utf8"] {
        assert!(listed.lines().any(|line| line == name), "{listed}");
    }
    // As `locale-gen` makes it, but in a folder of its own.
    let made = bench.path("made");
    let localedef = Command::new("localedef")
        .args(["--no-archive", "-c", "-i", "de_DE", "-f", "UTF-8", "-A", "/dev/null"])
        .arg(&made)
        .output()
        .expect("localedef is missing: install the package `libc-bin`");
    assert!(localedef.status.success(), "{}", String::from_utf8_lossy(&localedef.stderr));
    for name in ["LC_CTYPE", "LC_COLLATE", "LC_TIME", "LC_NUMERIC", "LC_MESSAGES/SYS_LC_MESSAGES"] {
        let ours = fs::read(folder.join("usr/lib/locale/de_DE.utf8").join(name)).unwrap();
        assert!(ours == fs::read(made.join(name)).unwrap(), "{name} is not what localedef writes");
    }
    let other = Bench::ordinary().exact().with_server(&mirror, &server);
    recipe(&other, &environment.replace("LOCALE", "de_DE"));
    let built = build(&other);
    assert_eq!(tree(&other, built).0, digest);
    let run = other.hatchway(&["run", "odd"]).ok();
    assert!(run.stdout.ends_with(" 0,5 ISO-8859-1\n"), "{run}");
}

#[test]
fn a_locale_that_nobody_knows_is_an_error() {
    let mirror = mirror_with(vec![host::locales()]);
    let (bench, _server) = Bench::new().exact().with_mirror(&mirror);
    recipe(&bench, "locales = [\"xx_YY.UTF-8\"]");
    let refused = build(&bench);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("`/usr/share/i18n/SUPPORTED` does not list it"), "{refused}");
}
