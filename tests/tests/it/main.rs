//! The program from outside: what a person types, sees and finds on disk. One binary, since each links the same library.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod attach;
mod bases;
mod broken_archives;
mod broken_recipes;
mod companions;
mod configure;
mod conformance;
mod crash;
mod daemon;
mod dbus;
mod diagnostics;
mod dist;
mod doctor;
mod downloads;
mod escapes;
mod exhaustion;
mod faults;
mod fence;
mod foreign_packages;
mod graphics;
mod hostile_tools;
mod images;
mod index_trust;
mod inspecting;
mod installers;
mod machine;
mod machine_rows;
mod machine_snapshots;
mod machine_traffic;
mod machine_units;
mod machines;
mod man_pages;
mod native;
mod odd_places;
mod oracles;
mod patches;
mod python_packages;
mod recipes_in_use;
mod robustness;
mod rungs;
mod rungs_channels;
mod rungs_devices;
mod rungs_ends;
mod rungs_export;
mod rungs_guest;
mod rungs_kept;
mod rungs_limits;
mod rungs_podman;
mod rungs_services;
mod rungs_visits;
mod rungs_wine;
mod running;
mod sources;
mod store_upkeep;
mod suite_choice;
mod systemd_daemon;
mod systemd_faults;
mod systemd_faults_files;
mod systemd_faults_units;
mod systemd_figures;
mod systemd_host;
mod systemd_machine;
mod triggers;
mod units;
mod units_ready;
mod upgrades;
mod vendors_in_triggers;
mod whole_path;
mod why_corpus;
mod wine;

use hatchway_tests::bench::Outcome;
use hatchway_tests::compile;
use hatchway_tests::package::Package;

/// A vendor's program that does as it is told, so that a test can look around inside a sandbox.
const ACME: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
static const char *state = "/var/lib/acme/count";
static const char *license = "/etc/acme/license.dat";
static int show(const char *path) {
    char text[200];
    FILE *file = fopen(path, "r");
    if (!file) { printf("%s: %s\n", path, strerror(errno)); return 1; }
    while (fgets(text, sizeof text, file)) fputs(text, stdout);
    return 0;
}
static int add(const char *path) {
    FILE *file = fopen(path, "a");
    if (!file) { printf("%s: %s\n", path, strerror(errno)); return 1; }
    fputs("x", file);
    printf("%s has %ld\n", path, ftell(file));
    return fclose(file) != 0;
}
int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "version";
    if (!strcmp(verb, "version")) return puts("acme 1.0") < 0;
    if (!strcmp(verb, "exit")) { fputs("leaving\n", stderr); return atoi(words[2]); }
    if (!strcmp(verb, "echo")) { for (int i = 2; i < count; i++) printf("<%s>", words[i]); puts(""); return 0; }
    if (!strcmp(verb, "abort")) abort();
    if (!strcmp(verb, "license")) return show(license);
    if (!strcmp(verb, "show")) return show(words[2]);
    if (!strcmp(verb, "add")) return add(words[2]);
    if (!strcmp(verb, "count")) return add(state);
    if (!strcmp(verb, "copy")) { int c; while ((c = getchar()) != EOF) putchar(c); return 0; }
    if (!strcmp(verb, "wait")) { puts("waiting"); fflush(stdout); pause(); }
    if (!strcmp(verb, "root")) return getuid() == 0;
    return 64;
}
"#;

/// The package around [`ACME`].
fn acme() -> Package {
    Package::new("acme", "1.0")
        .field("Depends", "libc6 (>= 2.14)")
        .program("usr/bin/acme", compile::program(ACME))
        .file("usr/share/acme/greeting", "hello from acme\n")
}

/// A package whose program needs these libraries and cannot be started.
fn needing(needs: &[(&str, &[&str])]) -> Package {
    Package::new("acme", "1.0").program("usr/bin/acme", compile::program_needing(needs))
}

/// A failure that says this and ends with a hint.
fn hinted(outcome: &Outcome, says: &str) {
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains(says), "not said: {says}\n{outcome}");
    assert!(
        outcome.stderr.lines().last().is_some_and(|line| line.starts_with("hint: ")),
        "no hint\n{outcome}"
    );
}
