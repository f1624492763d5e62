//! The manual pages as `man` shows them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hatchway_tests::bench::Bench;

fn pages(bench: &Bench) -> Vec<PathBuf> {
    let folder = bench.path("work/man");
    let outcome = bench.hatchway(&["generate", "man", folder.to_str().unwrap()]).ok();
    assert!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome}");
    let mut pages: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

#[test]
fn man_shows_every_page_without_a_warning() {
    let bench = Bench::new();
    let pages = pages(&bench);
    assert!(pages.len() > 25, "{pages:?}");
    for page in &pages {
        let output = Command::new("man")
            .args(["--warnings=w", "--local-file", "-P", "cat"])
            .arg(page)
            // Where no locale of UTF-8 is, characters are missing, which is a warning.
            .envs([("LC_ALL", "C.UTF-8"), ("MANWIDTH", "80"), ("MANROFFSEQ", "")])
            .output()
            .expect("man is missing: install the package `man-db`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
        assert!(output.stdout.len() > 200, "{}", page.display());
    }
}

#[test]
fn the_first_page_says_what_codes_variables_and_folders_mean() {
    let bench = Bench::new();
    let first = pages(&bench).into_iter().find(|page| page.ends_with("hatchway.1")).unwrap();
    let text = fs::read_to_string(first).unwrap();
    for heading in ["NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
        assert!(text.lines().any(|line| line.replace('"', "") == format!(".SH {heading}")), "{heading}");
    }
}
