//! Wheels: found in an index of our own, chosen by versions, tags, markers and extras, locked by hash, installed as pip does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::{Package, sha256};
use hatchway_tests::server::Server;
use hatchway_tests::tar::zip;

use super::hinted;

/// A Python that prints the program it is started with: which one is started, and how, is what the tests look at.
const PYTHON: &str = "#!/bin/bash\nwhile IFS= read -r line; do echo \"$line\"; done < \"$1\"\n";

fn python(version: &str) -> Package {
    Package::new("python3", version).program("usr/bin/python3", PYTHON)
}

/// bookworm with Python 3.11 and the host's glibc, trixie with Python 3.13.
fn mirror() -> Mirror {
    let bookworm = Suite::new("bookworm", Libc::Hosts).with(python("3.11.2-1+b1"));
    let trixie = Suite::new("trixie", Libc::Exports("2.41")).with(python("3.13.5-1"));
    Mirror::new(vec![bookworm, trixie], Key::new(1))
}

/// A wheel: its name without tags, its metadata beyond name and version, and its files.
fn wheel(
    name: &str,
    version: &str,
    tags: &str,
    metadata: &str,
    files: &[(&str, &[u8])],
) -> (String, Vec<u8>) {
    let info = format!("{name}-{version}.dist-info");
    let texts = [
        (
            format!("{info}/METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"),
        ),
        (format!("{info}/WHEEL"), format!("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")),
        (format!("{info}/RECORD"), format!("{info}/RECORD,,\n")),
    ];
    let mut members: Vec<(&str, &[u8])> = files.to_vec();
    members.extend(texts.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
    (format!("{name}-{version}-{tags}.whl"), zip(&members))
}

/// An index of HTML pages.
fn index(wheels: &[(String, Vec<u8>)]) -> Server {
    let mut files: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
    let mut pages: BTreeMap<String, String> = BTreeMap::new();
    for (file, bytes) in wheels {
        let project =
            file.split('-').next().unwrap_or_default().to_ascii_lowercase().replace(['_', '.'], "-");
        let page = pages.entry(project).or_default();
        page.push_str(&format!("<a href=\"../../files/{file}#sha256={}\">{file}</a><br/>\n", sha256(bytes)));
        files.insert(format!("files/{file}"), Arc::new(bytes.clone()));
    }
    for (project, page) in pages {
        files.insert(format!("simple/{project}/"), Arc::new(page.into_bytes()));
    }
    Server::start(files)
}

/// A bench with a recipe that has nothing but a Python.
fn bench(mirror: &Mirror, index: &Server, python: &str) -> (Bench, Server) {
    let (bench, server) = Bench::ordinary().with_mirror(mirror);
    bench.configure(&format!(
        "python-index = \"{}/simple/\"\nsuites = [\"bookworm\", \"trixie\"]\n",
        index.url
    ));
    fs::create_dir_all(bench.path("work/recipes/sums")).unwrap();
    let recipe = format!(
        "schema = 1\n[package]\nname = \"sums\"\n[environment]\npython = {python}\n[run]\nprogram = \"/usr/local/bin/gauss\"\n"
    );
    bench.put("recipes/sums/recipe.toml", recipe);
    bench.allow("work/recipes/sums");
    (bench, server)
}

fn gauss(version: &str, metadata: &str) -> (String, Vec<u8>) {
    let points = b"[console_scripts]\ngauss = gauss.main:sums.run [fast]\n".as_slice();
    let info = format!("gauss-{version}.dist-info/entry_points.txt");
    wheel(
        "gauss",
        version,
        "py3-none-any",
        metadata,
        &[
            ("gauss/__init__.py", b""),
            ("gauss/main.py", b"sums = None\n"),
            (&info, points),
            (&format!("gauss-{version}.data/scripts/gauss-plain"), b"#!python -E\nprint(1)\n"),
            (&format!("gauss-{version}.data/data/share/gauss/table"), b"1 2 3\n"),
            (&format!("gauss-{version}.data/headers/gauss.h"), b"int gauss;\n"),
            (&format!("gauss-{version}.data/purelib/gauss_more.py"), b"more = 1\n"),
        ],
    )
}

/// `name version` of every wheel in a lock, and why.
fn locked(bench: &Bench) -> Vec<String> {
    let lock: Vec<String> = bench.read("recipes/sums/recipe.lock").lines().map(str::to_owned).collect();
    let value = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    let at = lock.iter().enumerate().filter(|(_, line)| *line == "[[wheel]]").map(|(at, _)| at);
    at.map(|at| {
        let field = |name: &str| {
            let line = lock[at..].iter().find(|line| line.starts_with(&format!("{name} = ")));
            value(line.unwrap_or_else(|| panic!("no {name}")))
        };
        format!("{} {} ({})", field("name"), field("version"), field("why"))
    })
    .collect()
}

#[test]
fn versions_markers_and_extras_decide() {
    let deep = "Requires-Dist: Deep_Part<3,>=2; python_version >= '3.8'\nRequires-Dist: never ; sys_platform == 'win32'\n\
                Provides-Extra: fast\nRequires-Dist: quick ; extra == 'fast'\nProvides-Extra: slow\nRequires-Dist: never; extra == 'slow'\n";
    let any = "py3-none-any";
    let index = index(&[
        gauss("1.0", ""),
        gauss("1.2", deep),
        gauss("2.0rc1", ""),
        wheel("deep_part", "1.0", any, "", &[("deep.py", b"")]),
        wheel("deep_part", "2.5", any, "Requires-Dist: quick==0.1\n", &[("deep.py", b"")]),
        wheel("deep_part", "3.0", any, "", &[("deep.py", b"")]),
        wheel("quick", "0.1", any, "", &[("quick.py", b"")]),
        wheel("quick", "0.2", any, "", &[("quick.py", b"")]),
    ]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"Gauss[fast]\"] }");
    drop(bench.hatchway(&["lock", "sums"]).ok());
    assert_eq!(
        locked(&bench),
        [
            "deep-part 2.5 (Requires-Dist of gauss)",
            "gauss 1.2 (recipe)",
            "quick 0.1 (Requires-Dist of deep-part)",
        ]
    );
    let lock = bench.read("recipes/sums/recipe.lock");
    assert!(!lock.contains("127.0.0.1") && lock.contains("python = \"3.11\""), "{lock}");
}

#[test]
fn a_wheel_is_installed_with_its_programs() {
    let index = index(&[gauss("1.0", "")]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    drop(bench.hatchway(&["lock", "sums"]).ok());
    let run = bench.hatchway(&["run", "sums"]).ok();
    assert_eq!(
        run.stdout,
        "#!/usr/bin/python3\nimport sys\nfrom gauss.main import sums\nif __name__ == \"__main__\":\n    sys.exit(sums.run())\n"
    );
    let plain = bench.hatchway(&["run", "sums", "--program", "/usr/local/bin/gauss-plain"]).ok();
    assert_eq!(plain.stdout, "#!/usr/bin/python3\nprint(1)\n");
    let tree = bench.store().names("trees").remove(0);
    bench.store().check_tree(&tree);
    let root = bench.store().tree(&tree);
    let read =
        |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(read("usr/local/share/gauss/table"), "1 2 3\n");
    assert_eq!(read("usr/local/include/python3.11/gauss/gauss.h"), "int gauss;\n");
    let packages = "usr/local/lib/python3.11/dist-packages";
    assert_eq!(read(&format!("{packages}/gauss_more.py")), "more = 1\n");
    assert_eq!(read(&format!("{packages}/gauss-1.0.dist-info/INSTALLER")), "hatchway\n");
}

/// Files below a folder, with what they hold.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for child in fs::read_dir(&folder).unwrap().flatten() {
            if child.file_type().unwrap().is_dir() {
                pending.push(child.path());
            } else {
                let path = child.path();
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn pip_installs_the_same_files() {
    let (file, bytes) = gauss("1.0", "");
    let index = index(&[(file.clone(), bytes.clone())]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    drop(bench.hatchway(&["lock", "sums"]).ok());
    drop(bench.hatchway(&["build", "sums"]).ok());
    let ours = contents(&bench.store().tree(&bench.store().names("trees").remove(0)).join("usr/local"));

    let folder = bench.path("pip");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&file), bytes).unwrap();
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-compile",
            "--ignore-installed",
        ])
        .args(["--break-system-packages", "--no-warn-script-location", "--root-user-action=ignore"])
        .args(["--prefix", "/usr/local", "--root"])
        .arg(folder.join("root"))
        .arg(folder.join(&file))
        .output()
        .expect("python3 is missing: install the package `python3-pip`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pips = contents(&folder.join("root/usr/local"));

    // pip's own Python has another version and another name for the folder of packages.
    let general = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        let parts = parts.iter().map(|part| match *part {
            part if part.starts_with("python3.") => "PYTHON",
            "site-packages" | "dist-packages" => "PACKAGES",
            part => part,
        });
        parts.collect::<Vec<_>>().join("/")
    };
    // What tells who installed, from where and by whose wish.
    let own = |path: &String| {
        ["INSTALLER", "RECORD", "direct_url.json", "REQUESTED"].iter().any(|end| path.ends_with(end))
    };
    let names = |files: &BTreeMap<String, Vec<u8>>| -> BTreeSet<String> {
        files.keys().filter(|path| !own(path)).map(|path| general(path)).collect()
    };
    assert_eq!(names(&ours), names(&pips));
    for (path, content) in ours.iter().filter(|(path, _)| !own(path) && !path.starts_with("bin/")) {
        let (_, theirs) = pips.iter().find(|(other, _)| general(other) == general(path)).unwrap();
        assert_eq!(content, theirs, "{path}");
    }
    let record = |files: &BTreeMap<String, Vec<u8>>| -> BTreeSet<String> {
        let text = files.iter().find(|(path, _)| path.ends_with("/RECORD")).unwrap().1;
        let lines = std::str::from_utf8(text).unwrap().lines();
        // pip copies the digests of the wheel's own list, which this one lacks.
        let paths = lines.map(|line| general(line.split(',').next().unwrap()));
        paths.filter(|path| !own(path)).collect()
    };
    assert_eq!(record(&ours), record(&pips));
}

/// Python's own reader of `RECORD`, on every row.
const CHECK_RECORD: &str = r#"
import base64, csv, hashlib, pathlib, sys
record = next(pathlib.Path(sys.argv[1]).glob("*.dist-info/RECORD"))
rows = list(csv.reader(record.open()))
assert len(rows) > 8, rows
for path, digest, size in rows:
    if path.endswith("/RECORD"):
        assert digest == size == "", path
        continue
    content = (record.parent.parent / path).read_bytes()
    own = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    assert digest == "sha256=" + own and int(size) == len(content), path
"#;

#[test]
fn the_record_of_what_is_installed_is_right() {
    let index = index(&[gauss("1.0", "")]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    drop(bench.hatchway(&["lock", "sums"]).ok());
    drop(bench.hatchway(&["build", "sums"]).ok());
    let tree = bench.store().tree(&bench.store().names("trees").remove(0));
    let packages = tree.join("usr/local/lib/python3.11/dist-packages");
    let output = Command::new("python3").args(["-c", CHECK_RECORD]).arg(packages).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_python_that_no_suite_has_names_those_that_there_are() {
    let index = index(&[gauss("1.0", "")]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.12\" }");
    let refused = bench.hatchway(&["lock", "sums"]);
    hinted(&refused, "bookworm: its Python is 3.11.2, not 3.12");
    hinted(&refused, "trixie: its Python is 3.13.5, not 3.12");
}

#[test]
fn source_distributions_are_refused_with_the_reason() {
    let index = index(&[]);
    index.replace("simple/gauss/", format!("<a href='/gauss-1.0.tar.gz#sha256={}'>x</a>", "0".repeat(64)));
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    hinted(&bench.hatchway(&["lock", "sums"]), "of `gauss` there are only source distributions");
}

#[test]
fn a_wheel_for_another_glibc_does_not_fit() {
    let index =
        index(&[wheel("gauss", "1.0", "cp311-cp311-manylinux_2_99_x86_64", "", &[("gauss.py", b"")])]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    hinted(
        &bench.hatchway(&["lock", "sums"]),
        "no wheel of `gauss` is for CPython 3.11 on x86-64 with glibc 2.36",
    );
}

#[test]
fn a_file_that_changed_on_the_index_is_refused() {
    let (file, bytes) = gauss("1.0", "");
    let index = index(&[(file.clone(), bytes)]);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    index.replace(&format!("files/{file}"), gauss("1.0", "Summary: another\n").1);
    hinted(&bench.hatchway(&["lock", "sums"]), "does not match its hash");
}

#[test]
fn a_vendors_wheel_brings_its_libraries_and_what_it_requires() {
    let library = compile::program_needing(&[("libc.so.6", &["GLIBC_2.2.5"])]);
    let vendor = wheel(
        "acme_scope",
        "3.1",
        "cp39-abi3-manylinux_2_28_x86_64",
        "Requires-Dist: gauss>=1\nRequires-Python: >=3.9\n",
        &[("acme_scope/native.abi3.so", &library), ("acme_scope/__init__.py", b"")],
    );
    let index = index(&[gauss("1.0", "")]);
    let mirror = mirror();
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    bench.configure(&format!("python-index = \"{}/simple\"\n", index.url));
    bench.put(&vendor.0, &vendor.1);
    let run = bench.hatchway(&[
        "run",
        &vendor.0,
        "--keep",
        "--",
        "/usr/local/lib/python3.11/dist-packages/gauss/main.py",
    ]);
    assert_eq!(run.clone().ok().stdout, "sums = None\n", "{run}");
    let recipe = bench.read("recipes/acme-scope/recipe.toml");
    assert!(recipe.contains("python = { version = \"3.11\" }"), "{recipe}");
    let lock = bench.read("recipes/acme-scope/recipe.lock");
    assert!(lock.contains("how = \"wheel\"") && lock.contains("name = \"gauss\""), "{lock}");
}

#[test]
fn hostile_entry_points_and_folders_are_refused() {
    let mirror = mirror();
    for (what, member, content) in [
        (
            "is not understood",
            "gauss-1.0.dist-info/entry_points.txt",
            "[console_scripts]\n../../../etc/x = a:b\n",
        ),
        (
            "is not understood",
            "gauss-1.0.dist-info/entry_points.txt",
            "[console_scripts]\nx = a;import os:b\n",
        ),
        ("which is no place of a wheel's", "gauss-1.0.data/etc/passwd", "x"),
        ("it has two `.dist-info` folders", "other-1.dist-info/LICENSE", "x"),
    ] {
        let index = index(&[wheel("gauss", "1.0", "py3-none-any", "", &[(member, content.as_bytes())])]);
        let (bench, _server) = bench(&mirror, &index, "{ version = \"3.11\", requirements = [\"gauss\"] }");
        let locked = bench.hatchway(&["lock", "sums"]);
        let outcome = if locked.code == Some(0) { bench.hatchway(&["build", "sums"]) } else { locked };
        assert!(outcome.code == Some(2) && outcome.stderr.contains(what), "{member}: {outcome}");
    }
}

#[test]
fn a_lock_keeps_its_wheels_until_they_are_asked_to_move() {
    let any = "py3-none-any";
    let old = [gauss("1.0", "Requires-Dist: quick"), wheel("quick", "0.1", any, "", &[("quick.py", b"")])];
    let new = [gauss("1.1", "Requires-Dist: quick"), wheel("quick", "0.2", any, "", &[("quick.py", b"")])];
    let before = index(&old);
    let mirror = mirror();
    let (bench, _server) = bench(&mirror, &before, "{ version = \"3.11\", requirements = [\"gauss\"] }");
    drop(bench.hatchway(&["lock", "sums"]).ok());
    let first = bench.read("recipes/sums/recipe.lock");

    let after = index(&[&old[..], &new[..]].concat());
    let ask = |index: &Server| {
        bench.configure(&format!(
            "python-index = \"{}/simple/\"\nsuites = [\"bookworm\", \"trixie\"]\n",
            index.url
        ));
    };
    ask(&after);
    let kept = bench.hatchway(&["lock", "sums"]).ok();
    assert!(kept.stderr.contains("fits and is as it was"), "{kept}");
    assert_eq!(bench.read("recipes/sums/recipe.lock"), first);

    let tried = bench.hatchway(&["lock", "sums", "--upgrade", "--dry-run"]).ok();
    for change in ["upgraded wheel gauss 1.0 → 1.1", "upgraded wheel quick 0.1 → 0.2"] {
        assert!(tried.stderr.contains(change), "{tried}");
    }
    assert_eq!(bench.read("recipes/sums/recipe.lock"), first);

    drop(bench.hatchway(&["lock", "sums", "--upgrade", "Quick"]).ok());
    assert_eq!(locked(&bench), ["gauss 1.0 (recipe)", "quick 0.2 (Requires-Dist of gauss)"]);
    hinted(&bench.hatchway(&["lock", "sums", "--upgrade", "slow"]), "slow");

    // A file that the index has no more is taken from the store.
    let gone = index(&new);
    ask(&gone);
    let stored = bench.hatchway(&["lock", "sums"]).ok();
    assert!(stored.stderr.contains("only the store still has `gauss-1.0-py3-none-any.whl`"), "{stored}");
    assert_eq!(locked(&bench), ["gauss 1.0 (recipe)", "quick 0.2 (Requires-Dist of gauss)"]);
    drop(bench.hatchway(&["build", "sums"]).ok());

    drop(bench.hatchway(&["lock", "sums", "--upgrade"]).ok());
    assert_eq!(locked(&bench), ["gauss 1.1 (recipe)", "quick 0.2 (Requires-Dist of gauss)"]);
}

#[test]
fn a_wheel_of_programs_needs_no_python() {
    let program =
        compile::program("#include <stdio.h>\nint main(void) { return puts(\"assembled\") < 0; }\n");
    let point = "acme_asm-1.0.dist-info/entry_points.txt";
    let entry_points = b"[console_scripts]\nacme-asm = acme:main\n".as_slice();
    for (tags, points, python) in [
        ("py3-none-manylinux_2_17_x86_64", b"".as_slice(), false),
        ("cp39-abi3-manylinux_2_17_x86_64", b"", true),
        ("py3-none-manylinux_2_17_x86_64", entry_points, true),
    ] {
        let files = [("acme/__init__.py", b"".as_slice()), ("acme/bin/asm", &program), (point, points)];
        let (file, bytes) = wheel("acme_asm", "1.0", tags, "", &files);
        let mirror = mirror();
        let (bench, _server) = Bench::ordinary().with_mirror(&mirror);
        bench.put(&file, &bytes);
        drop(bench.hatchway(&["new", &file]).ok());
        let recipe = bench.read("recipes/acme-asm/recipe.toml");
        assert_eq!(recipe.contains("python = { version"), python, "{recipe}");
        assert_eq!(recipe.contains("unpack = \"/opt/acme-asm\""), !python, "{recipe}");
        if !python {
            drop(bench.hatchway(&["lock", "acme-asm"]).ok());
            let run = bench.hatchway(&["run", "acme-asm"]).ok();
            assert_eq!(run.stdout, "assembled\n", "{run}");
            let lock = bench.read("recipes/acme-asm/recipe.lock");
            assert!(!lock.contains("name = \"python3\""), "{lock}");
        }
    }
}
