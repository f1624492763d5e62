//! What a vendor's file may try when the archive's tools make caches: none of its code runs, and what it brings changes no
//! cache but by its name.

use std::fs;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::host;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Mirror, Suite};
use hatchway_tests::package::Package;

use super::ACME;

const THEME: &str = "usr/share/icons/acme";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Stands in for GTK's tool: says whether the vendor's program is there.
const LOOKS_AROUND: &str = r#"#include <stdio.h>
#include <unistd.h>
int main(void) {
    FILE *out = fopen("/run/icons/icon-theme.cache", "w");
    fprintf(out, "the vendor's program is %s\n", access("/usr/bin/acme", F_OK) ? "not here" : "here");
    fclose(out);
    return 0;
}
"#;

/// The same as a script, which is shown all that is no vendor's.
const SCRIPT: &str = "#!/usr/bin/bash\ntest -e /usr/bin/acme && here=here\n\
                      echo \"the vendor's program is ${here:-not here}\" >/run/icons/icon-theme.cache\n";
const NOT_HERE: &str = "the vendor's program is not here\n";

/// The archive, with this as the tool that makes the cache of icons.
fn mirror(tool: impl Into<Vec<u8>>) -> Mirror {
    let icons = Package::new("gtk-update-icon-cache", "1.0-1")
        .program("usr/bin/gtk-update-icon-cache", tool)
        .file(&format!("{THEME}/index.theme"), "[Icon Theme]\nName=Acme\n")
        .file(&format!("{THEME}/one.png"), "no picture");
    let suite: Suite = host::suite("bookworm").with(icons);
    Mirror::new(vec![suite], Key::new(1))
}

fn vendor() -> Package {
    Package::new("acme", "1.0")
        .field("Depends", "libc6 (>= 2.14), gtk-update-icon-cache, bash, dash, coreutils")
        .program("usr/bin/acme", compile::program(ACME))
}

/// Builds it, and gives the cache of icons, or why there is none.
fn cache(mirror: &Mirror, vendor: &Package) -> Result<String, String> {
    let (bench, _server) = Bench::new().exact().with_mirror(mirror);
    bench.put("acme.deb", vendor.deb());
    let built = bench
        .script("$HATCHWAY new -q acme.deb && $HATCHWAY lock -q acme && $HATCHWAY build acme --json")
        .ok();
    let tree = built.json()["tree"].as_str().unwrap().to_owned();
    let path = bench.store().tree(&tree).join(THEME).join("icon-theme.cache");
    fs::read_to_string(path).map_err(|_| format!("{}\n{}", built.stdout, built.stderr))
}

#[test]
fn a_vendors_link_in_a_folder_that_a_tool_reads_is_not_followed() {
    let mirror = mirror(compile::program(LOOKS_AROUND));
    let vendor = vendor().link(&format!("{THEME}/x"), "/usr").link(&format!("{THEME}/y"), "../../../bin");
    assert_eq!(cache(&mirror, &vendor).as_deref(), Ok(NOT_HERE));
}

#[test]
fn a_vendors_program_in_usr_local_is_not_what_a_script_finds() {
    let mirror = mirror(SCRIPT);
    let evil = "#!/usr/bin/bash\necho evil >/run/out/icon-theme.cache\n";
    let places = ["usr/local/bin", "usr/local/sbin"];
    let vendor = places.iter().fold(vendor(), |vendor, place| {
        vendor.program(&format!("{place}/cp"), evil).program(&format!("{place}/sh"), evil)
    });
    assert_eq!(cache(&mirror, &vendor).as_deref(), Ok(NOT_HERE));
}

#[test]
fn a_vendors_library_that_the_loader_would_prefer_is_not_loaded() {
    // Whatever loads it ends at once.
    let evil = compile::module(
        "#include <unistd.h>\n__attribute__((constructor)) static void evil(void) { _exit(0); }\n",
    );
    let levels = ["x86-64-v2", "x86-64-v3", "x86-64-v4"];
    let vendor = levels.iter().fold(vendor(), |vendor, level| {
        vendor.file(&format!("{LIBRARIES}/glibc-hwcaps/{level}/libc.so.6"), evil.clone())
    });
    for tool in [compile::program(LOOKS_AROUND), SCRIPT.into()] {
        assert_eq!(cache(&mirror(tool), &vendor).as_deref(), Ok(NOT_HERE));
    }
}

/// Stands in for the tool that makes the MIME database: three files, of which the first always finds its place.
const THREE_FILES: &str = r#"#include <stdio.h>
#include <sys/stat.h>
int main(void) {
    mkdir("/run/mime/text", 0755);
    fputs("made\n", fopen("/run/mime/text/acme.xml", "w"));
    fputs("made\n", fopen("/run/mime/aliases", "w"));
    fputs("made\n", fopen("/run/mime/globs2", "w"));
    return 0;
}
"#;

/// A vendor's folder where a tool's file belongs, or a file where its folder does, made the whole build fail.
#[test]
fn a_result_that_finds_a_vendors_files_in_its_place_is_left_out_as_a_whole() {
    let mime = Package::new("shared-mime-info", "1.0-1")
        .program("usr/bin/update-mime-database", compile::program(THREE_FILES))
        .file("usr/share/mime/packages/acme.xml", "<mime-info/>");
    let suite: Suite = host::suite("bookworm").with(mime);
    let mirror = Mirror::new(vec![suite], Key::new(1));
    let depends = "libc6 (>= 2.14), shared-mime-info, bash, dash, coreutils";
    let vendor = || {
        Package::new("acme", "1.0").field("Depends", depends).program("usr/bin/acme", compile::program(ACME))
    };
    for (vendor, why) in [
        (vendor(), None),
        (
            vendor().file("usr/share/mime/globs2/own", "a vendor's\n"),
            Some("`/usr/share/mime/globs2` is a folder"),
        ),
        (vendor().file("usr/share/mime/text", "a vendor's\n"), Some("`/usr/share/mime/text` is no folder")),
    ] {
        let (bench, _server) = Bench::new().exact().with_mirror(&mirror);
        bench.put("acme.deb", vendor.deb());
        let built = bench
            .script("$HATCHWAY new -q acme.deb && $HATCHWAY lock -q acme && $HATCHWAY build acme --json");
        let built = built.ok();
        let json = built.json();
        let notes = json["notes"].to_string();
        let note = why.map(|why| format!("the MIME database were not made: {why}"));
        assert_eq!(notes.contains("were not made"), note.is_some(), "{notes}");
        assert!(note.is_none_or(|note| notes.contains(&note)), "{notes}");
        let tree = bench.store().tree(json["tree"].as_str().unwrap());
        let made = fs::read(tree.join("usr/share/mime/aliases")).is_ok();
        assert_eq!(made, why.is_none(), "half of a result is in the tree");
    }
}
