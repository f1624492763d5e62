//! Hosts that are set up in unusual ways: masks, paths, links, several commands at once.

use std::os::unix::fs::MetadataExt;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::tar::zip;

use super::acme;

const RUN: &str = "exec \"$HATCHWAY\" run -q ./acme.deb --bind license=acme.deb -- version";

/// Runs a script that ends in [`RUN`], for root and for an ordinary user; gives the benches to look at.
fn runs(before: &str) -> [Bench; 2] {
    [Bench::new(), Bench::ordinary()].map(|bench| {
        let (bench, _server) = bench.with_mirror(&Mirror::runnable());
        bench.put("acme.deb", acme().deb());
        assert_eq!(bench.script(&format!("{before}; {RUN}")).ok().stdout, "acme 1.0\n");
        bench
    })
}

#[test]
fn the_file_mode_mask_has_no_say_in_a_tree() {
    for mask in ["umask 077", "umask 000", "chmod g+s \"$HATCHWAY_DATA_DIR\""] {
        for bench in runs(mask) {
            let digest = bench.store().names("trees").remove(0);
            bench.store().check_tree(&digest);
            let tree = std::fs::metadata(bench.store().tree(&digest)).unwrap();
            assert_eq!(tree.mode() & 0o7777, 0o755, "{mask}: the tree itself");
        }
    }
}

#[test]
fn the_data_folder_may_have_any_name() {
    for name in ["da:ta", "with, comma", "back\\\\slash", "ünï \\\"code\\\""] {
        drop(runs(&format!("mkdir -p \"$HOME/{name}\" && export HATCHWAY_DATA_DIR=\"$HOME/{name}\"")));
    }
}

#[test]
fn a_zip_with_an_odd_name_runs_too() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let name = "Acme Tool (1.0) ünï.zip";
    bench.put(name, zip(&[("readme", b"x"), ("bin/acme", &compile::program(super::ACME))]));
    let outcome = bench.hatchway(&["run", "-q", &format!("./{name}"), "--", "echo", "x"]);
    assert_eq!(outcome.ok().stdout, "<x>\n");
}

#[test]
fn the_data_folder_may_be_a_link_or_relative() {
    drop(runs("mkdir -p \"$HOME/real\"; ln -s real \"$HOME/link\"; export HATCHWAY_DATA_DIR=\"$HOME/link\""));
    drop(runs("mkdir -p sub; export HATCHWAY_DATA_DIR=sub/data"));
}

#[test]
fn several_first_runs_at_once_all_work() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server) = bench.with_mirror(&Mirror::runnable());
        bench.put("acme.deb", acme().deb());
        let start = || bench.start(&["run", "-q", "./acme.deb", "--bind", "license=acme.deb", "--", "count"]);
        let children: Vec<_> = (0..4).map(|_| start()).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", bench.shown(&output));
        }
        assert_eq!(std::fs::read(bench.state("/var/lib/acme").join("count")).unwrap(), b"xxxx");
    }
}

#[test]
fn a_home_that_is_not_there_is_no_obstacle() {
    drop(runs("export HOME=/nonexistent"));
    drop(runs("unset HOME TMPDIR LC_ALL"));
}

#[test]
fn closed_standard_streams_are_survived() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server) = bench.with_mirror(&Mirror::runnable());
        bench.put("acme.deb", acme().deb());
        let head = "\"$HATCHWAY\" run ./acme.deb --bind license=acme.deb -- ";
        drop(bench.script(&format!("{head} version >&- 2>&- <&-; true")).ok());
        assert_eq!(bench.script(&format!("{head} exit 7 <&- 2>&-")).code, Some(7));
        assert_eq!(bench.script(&format!("{head} echo x 2>&-")).stdout, "<x>\n");
    }
}
