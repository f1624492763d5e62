//! The same image from another machine: a tree is exported here and in a guest, whose processor is another model.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hatchway_tests::package::Package;

use super::rungs::Rungs;

/// The program under test without what debuggers want, which is most of it.
fn stripped(rungs: &Rungs) -> Vec<u8> {
    let to = rungs.bench.path("hatchway");
    let from = rungs.bench.script("readlink -f $HATCHWAY").ok().stdout;
    assert!(
        Command::new("strip")
            .args(["-o".as_ref(), to.as_os_str(), from.trim_end().as_ref()])
            .status()
            .unwrap()
            .success()
    );
    fs::read(to).unwrap()
}

/// The folder behind the exporter's state.
fn state(rungs: &Rungs) -> PathBuf {
    let folders = fs::read_dir(rungs.bench.path("data/state/exporter")).unwrap().flatten();
    folders.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap()
}

#[test]
fn an_image_is_the_same_from_a_guest_with_another_processor() {
    let rungs = Rungs::new("");
    let export = "$HATCHWAY export oci acme --quiet";
    let here = rungs
        .bench
        .script(&format!(
            "{export} one.tar >&2 && {export} two.tar >&2 && md5sum < one.tar && md5sum < two.tar"
        ))
        .ok()
        .stdout;
    let (one, two) = here.trim_end().split_once('\n').unwrap();
    assert_eq!(one, two);
    // Hatchway itself as a tool, whose state has the store of here.
    let libgcc = fs::read("/lib/x86_64-linux-gnu/libgcc_s.so.1").unwrap();
    let package = Package::new("exporter", "1.0")
        .field("Depends", "coreutils, dash, grep")
        .program("usr/bin/hatchway", stripped(&rungs))
        .file("usr/lib/x86_64-linux-gnu/libgcc_s.so.1", libgcc);
    rungs.bench.put("exporter.deb", package.deb());
    drop(rungs.bench.hatchway(&["new", "-q", "exporter.deb"]).ok());
    let recipe = rungs.bench.path("work/recipes/exporter/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    assert!(text.contains("[run]\n"), "{text}");
    let run = "[run]\nstate = [\"/var/lib/inner\"]\nenv = { HATCHWAY_DATA_DIR = \"/var/lib/inner/data\", HATCHWAY_CACHE_DIR = \"/tmp/cache\" }\n";
    fs::write(&recipe, text.replace("[run]\n", run)).unwrap();
    drop(rungs.bench.hatchway(&["lock", "-q", "exporter"]).ok());
    let run = |rung: &str, line: &str| {
        let line = format!("$HATCHWAY run -q exporter --rung {rung} --program /usr/bin/dash -- -c '{line}'");
        rungs.bench.script(&line).ok().stdout
    };
    // Makes the folder, whose owner the copy gets.
    run("fhs", "true");
    let state = state(&rungs);
    let copy = format!(
        "mkdir {0}/data && cp -a \"$HATCHWAY_DATA_DIR\"/store {0}/data/ && cp -a recipes/acme {0}/acme && chown -R --reference={0} {0}",
        state.display()
    );
    drop(rungs.bench.script(&copy).ok());
    let said = run(
        "vm",
        "cd /var/lib/inner && hatchway export oci ./acme /tmp/image.tar --quiet >&2 && md5sum < /tmp/image.tar && grep -m 1 \"model name\" /proc/cpuinfo",
    );
    let (there, model) = said.trim_end().split_once('\n').unwrap();
    assert_eq!(there, one);
    let own = fs::read_to_string("/proc/cpuinfo").unwrap();
    assert!(model.contains("model name") && !own.contains(model), "the same model: {model}");
}
