//! Trees as images. Second opinions: `umoci` unpacks them, `skopeo` reads and copies them, docker loads and runs them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hatchway_tests::bench::{Bench, Outcome, is_root};
use hatchway_tests::compile;
use hatchway_tests::engine::Engine;
use hatchway_tests::mirror::{LIBRARIES, Libc, Mirror, Suite};
use hatchway_tests::package::{Package, Packing};
use hatchway_tests::server::Server;
use hatchway_tests::store::walk;
use serde_json::Value;

use super::{ACME, hinted};

/// Content that is large enough for a layer of its own and does not shrink.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(next).collect()
}

/// An archive with a large library and a small one.
fn mirror() -> Mirror {
    let large = Package::new("liblarge1", "1.0-1")
        .packed(Packing::None)
        .file(&format!("{LIBRARIES}/liblarge.so.1"), noise(2 << 20))
        .link(&format!("{LIBRARIES}/liblarge.so"), "liblarge.so.1");
    let small = Package::new("libsmall1", "1.0-1")
        .file("usr/share/small/ünïcode name", "small\n")
        .file("usr/share/small/replaced", "the package's\n");
    let suite = Suite::new("bookworm", Libc::Hosts).with(large).with(small);
    Mirror::new(vec![suite], hatchway_tests::keys::Key::new(1))
}

/// A tool that brings what is odd, and replaces a file of the base.
fn tool(name: &str, depends: &str) -> Package {
    let long = format!("usr/share/{name}/{}file", "a-long-folder/".repeat(12));
    Package::new(name, "1.0")
        .field("Depends", depends)
        .program(&format!("usr/bin/{name}"), compile::program(ACME))
        .file(&long, "deep\n")
        .link(&format!("usr/share/{name}/link"), &format!("{}file", "a-long-folder/".repeat(12)))
        .file("usr/share/small/replaced", "the vendor's\n")
        .link(&format!("usr/share/{name}/odd"), "../.././share//x/")
}

fn locked(bench: &Bench, name: &str, depends: &str) {
    bench.put(&format!("{name}.deb"), tool(name, depends).deb());
    drop(bench.hatchway(&["new", &format!("{name}.deb")]).ok());
    drop(bench.hatchway(&["lock", name]).ok());
}

fn bench() -> (Bench, Server) {
    Bench::new().exact().with_mirror(&mirror())
}

fn export(bench: &Bench, name: &str, to: &str) -> Value {
    bench.hatchway(&["export", "oci", name, to, "--json"]).ok().json()
}

fn done(command: &mut Command, package: &str) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|_| panic!("{name} is missing: install the package `{package}`"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(arguments: &[&str]) -> String {
    done(Command::new("skopeo").arg("--insecure-policy").args(arguments), "skopeo")
}

/// Files by path, with what they hold.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = walk(folder).into_iter().filter(|(_, metadata)| metadata.is_file());
    all.map(|(path, _)| String::from_utf8(path).unwrap())
        .map(|path| (path.clone(), fs::read(folder.join(&path)).unwrap()))
        .collect()
}

/// What is at a path of the tree must be at that of the image, writable for its owner.
fn same_tree(tree: &Path, image: &Path) {
    let (ours, theirs) = (walk(tree), walk(image));
    let names = |all: &BTreeMap<Vec<u8>, fs::Metadata>| {
        all.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&ours), names(&theirs));
    for ((path, ours), theirs) in ours.iter().zip(theirs.values()) {
        let path = String::from_utf8(path.clone()).unwrap();
        let mode = match (ours.is_dir(), path.as_str()) {
            (true, "tmp" | "var/tmp") => 0o1777,
            _ if ours.is_symlink() => 0o777,
            _ => ours.mode() & 0o7777 | 0o200,
        };
        assert_eq!(theirs.mode() & 0o7777, mode, "{path}");
        assert_eq!(theirs.file_type(), ours.file_type(), "{path}");
        if ours.is_symlink() {
            assert_eq!(fs::read_link(tree.join(&path)).unwrap(), fs::read_link(image.join(&path)).unwrap());
        } else if ours.is_file() {
            assert!(fs::read(tree.join(&path)).unwrap() == fs::read(image.join(&path)).unwrap(), "{path}");
            assert_eq!(theirs.mtime(), 1, "{path}");
        }
    }
}

#[test]
fn an_image_is_the_tree_file_by_file_and_the_same_each_time() {
    let mirror = mirror();
    let (bench, server) = Bench::new().exact().with_mirror(&mirror);
    locked(&bench, "acme", "libc6, liblarge1, libsmall1");
    // It was not built before: `export` does that, as `run` does.
    let one = export(&bench, "acme", "one");
    let two = export(&bench, "acme", "two");
    assert_eq!(one["manifest"], two["manifest"]);
    assert_eq!(files(&bench.path("work/one")), files(&bench.path("work/two")));
    // Another user's store.
    let other = Bench::ordinary().exact().with_server(&mirror, &server);
    locked(&other, "acme", "libc6, liblarge1, libsmall1");
    assert_eq!(export(&other, "acme", "one"), one);
    // Without the records of what was unpacked, it is unpacked again.
    for record in bench.store().names("packages") {
        fs::remove_file(bench.path("data/store/packages").join(record)).unwrap();
    }
    assert_eq!(export(&bench, "acme", "three")["manifest"], one["manifest"]);

    let layers: Vec<&str> =
        one["layers"].as_array().unwrap().iter().map(|layer| layer["title"].as_str().unwrap()).collect();
    assert_eq!(layers, ["debian:bookworm: base", "liblarge1 1.0-1", "more packages", "generated", "vendor"]);

    let work = bench.path("work");
    let image = format!("{}:acme", work.join("one").display());
    let bundle = work.join("bundle");
    done(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle), "umoci");
    let tree = bench.store().tree(one["tree"].as_str().unwrap());
    same_tree(&tree, &bundle.join("rootfs"));
    let stat: Value = serde_json::from_str(&done(
        Command::new("umoci").args(["stat", "--json", "--image", &image]),
        "umoci",
    ))
    .unwrap();
    let history = stat["history"].as_array().unwrap();
    assert_eq!(history.len(), layers.len());
    assert_eq!(history[1]["created_by"], "hatchway: liblarge1 1.0-1");

    let seen: Value = serde_json::from_str(&skopeo(&["inspect", &format!("oci:{image}")])).unwrap();
    assert_eq!(seen["Digest"], one["manifest"]);
    assert_eq!((&seen["Os"], &seen["Architecture"]), (&"linux".into(), &"amd64".into()));
    assert_eq!(seen["Created"], "1970-01-01T00:00:01Z");
    let config: Value =
        serde_json::from_str(&skopeo(&["inspect", "--config", &format!("oci:{image}")])).unwrap();
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/acme"]));
    assert_eq!(
        config["config"]["Env"],
        serde_json::json!([
            "LANG=C.UTF-8",
            "LC_ALL=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SHELL=/bin/sh"
        ])
    );
    // Its digests are computed by whoever copies it.
    skopeo(&["copy", &format!("oci:{image}"), &format!("dir:{}", work.join("copy").display())]);
}

#[test]
fn an_archive_is_what_oci_tools_and_docker_read_and_byte_for_byte_the_same() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    let layout = export(&bench, "acme", "layout");
    let one = export(&bench, "acme", "one.tar");
    bench.put("two.tar", "something else");
    drop(export(&bench, "acme", "two.tar"));
    assert!(fs::read(bench.path("work/one.tar")).unwrap() == fs::read(bench.path("work/two.tar")).unwrap());
    assert_eq!((&layout["manifest"], &layout["config"]), (&one["manifest"], &one["config"]));
    let work = bench.path("work");
    let archive = work.join("one.tar").display().to_string();
    for (form, to) in
        [(format!("oci-archive:{archive}:acme"), "a"), (format!("docker-archive:{archive}"), "b")]
    {
        skopeo(&["copy", &form, &format!("dir:{}", work.join(to).display())]);
    }
    let inspected: Value =
        serde_json::from_str(&skopeo(&["inspect", &format!("docker-archive:{archive}")])).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), one["layers"].as_array().unwrap().len());
    assert_eq!(left_behind(&work), [] as [String; 0]);
}

/// What an export that was not finished leaves.
fn left_behind(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".hatchway")).collect()
}

#[test]
fn images_share_the_layers_of_the_same_packages() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    locked(&bench, "beta", "libc6, liblarge1, libsmall1");
    let acme = export(&bench, "acme", "images");
    let beta = export(&bench, "beta", "images");
    assert_eq!(acme["layers"][0], beta["layers"][0]);
    assert_eq!(acme["layers"][1], beta["layers"][1]);
    assert_ne!(acme["manifest"], beta["manifest"]);
    // What was generated is the same, too: no library but those of the same packages.
    assert_eq!(beta["layers-shared"], 3);
    // The same image once more changes nothing, and another under its name takes its place.
    let before = files(&bench.path("work/images"));
    drop(export(&bench, "acme", "images"));
    assert_eq!(files(&bench.path("work/images")), before);
    drop(bench.hatchway(&["export", "oci", "beta", "images", "--reference", "acme"]).ok());
    let index: Value = serde_json::from_str(&bench.read("images/index.json")).unwrap();
    let entries: Vec<(&Value, &Value)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["annotations"]["org.opencontainers.image.ref.name"], &entry["digest"]))
        .collect();
    let (one, two): (Value, Value) = ("acme".into(), "beta".into());
    assert_eq!(entries, [(&one, &beta["manifest"]), (&two, &beta["manifest"])]);
    assert_eq!(left_behind(&bench.path("work/images")), [] as [String; 0]);
}

#[test]
fn what_hatchway_wrote_it_takes_as_a_base() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6");
    for (image, place) in [("layout", "layout:acme"), ("acme.tar", "acme.tar")] {
        drop(export(&bench, "acme", image));
        fs::create_dir_all(bench.path("work/recipes/over")).unwrap();
        bench.put(
            "recipes/over/recipe.toml",
            format!(
                "schema = 1\n[package]\nname = \"over\"\n[environment]\nbase = \"oci:../../{place}\"\n[run]\n\
                 program = \"/usr/bin/acme\"\n"
            ),
        );
        drop(bench.hatchway(&["lock", "over"]).ok());
        assert_eq!(bench.hatchway(&["run", "over"]).ok().stdout, "acme 1.0\n");
    }
    // An image of an image: its base is one layer.
    let over = export(&bench, "over", "over");
    assert!(over["layers"][0]["title"].as_str().unwrap().starts_with("oci:sha256:"), "{over}");
    let image = format!("{}:over", bench.path("work/over").display());
    let bundle = bench.path("work/bundle");
    done(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle), "umoci");
    same_tree(&bench.store().tree(over["tree"].as_str().unwrap()), &bundle.join("rootfs"));
}

#[test]
fn an_ordinary_user_exports_and_is_told_what_the_image_leaves_to_others() {
    let mirror = mirror();
    let (bench, _server) = Bench::ordinary().exact().with_mirror(&mirror);
    locked(&bench, "acme", "libc6");
    let recipe = bench.read("recipes/acme/recipe.toml");
    bench.put(
        "recipes/acme/recipe.toml",
        recipe.replace("[run]\n", "[run]\nenv = { ACME = \"1\", LANG = \"C\" }\n"),
    );
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let said = bench.hatchway(&["export", "oci", "acme", "image"]).ok();
    assert!(said.stderr.contains("note: state in `/var/lib/acme` is lost with the container"), "{said}");
    assert!(said.stderr.contains("next: skopeo copy oci:image:acme docker://"), "{said}");
    assert!(said.stdout.starts_with("sha256:") && said.stdout.lines().count() == 1, "{said}");
    let image = format!("oci:{}:acme", bench.path("work/image").display());
    let config: Value = serde_json::from_str(&skopeo(&["inspect", "--config", &image])).unwrap();
    let environment = config["config"]["Env"].to_string();
    assert!(environment.starts_with(r#"["ACME=1","LANG=C","PATH="#), "{environment}");
}

#[test]
fn what_cannot_be_written_is_told_and_nothing_is_left() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6");
    let export = |to: &str| bench.hatchway(&["export", "oci", "acme", to]);
    hinted(&export("none/image"), "there is no folder `none` to write into");
    fs::create_dir(bench.path("work/full")).unwrap();
    bench.put("full/mine", "mine");
    hinted(&export("full"), "is not empty, and no OCI layout");
    assert_eq!(bench.read("full/mine"), "mine");
    let usage = bench.hatchway(&["export", "oci", "acme", "image", "--reference", "a b"]);
    assert!(usage.code == Some(2) && usage.stderr.contains("`--reference` takes"), "{usage}");
    // A newer layout than we know.
    fs::create_dir(bench.path("work/newer")).unwrap();
    bench.put("newer/oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    hinted(&export("newer"), "its version is 2.0.0");
    bench.put("newer/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    bench.put("newer/index.json", "{");
    hinted(&export("newer"), "`index.json` cannot be read");

    // An object of the store that has lost its end.
    let built = bench.hatchway(&["build", "acme", "--json"]).ok().json();
    let built = built["path"].as_str().unwrap().replace("[bench]", &bench.path("").display().to_string());
    let file = Path::new(&built).join("usr/bin/acme");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len(100).unwrap();
    for to in ["image", "image.tar"] {
        hinted(&export(to), "the store's content of `/usr/bin/acme` has not");
        assert!(!bench.path("work").join(to).exists());
    }
    assert_eq!(left_behind(&bench.path("work")), [] as [String; 0]);
    assert_eq!(left_behind(&bench.path("work/newer")), [] as [String; 0]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    drop(bench.hatchway(&["build", "acme"]).ok());
    fs::create_dir(bench.path("work/small")).unwrap();
    let said = bench.mounting_script(
        "mount -t tmpfs -o size=1m small small && for to in small/image small/image.tar; do \
         $HATCHWAY export oci acme $to && exit 1; ls -A small; done; exit 9",
    );
    assert_eq!(said.code, Some(9), "{said}");
    assert_eq!(said.stdout, "", "{said}");
    assert_eq!(said.stderr.matches("No space left on device").count(), 2, "{said}");
    assert_eq!(said.stderr.matches("hint: make room").count(), 2, "{said}");
}

#[test]
fn an_interrupted_export_leaves_nothing_half_made() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    drop(bench.hatchway(&["build", "acme"]).ok());
    let work = bench.path("work");
    for (number, after_ms) in [20, 60, 100, 140, 180, 220].into_iter().enumerate() {
        for to in [format!("image{number}"), "shared".to_owned(), "image.tar".to_owned()] {
            let mut child = bench.start(&["export", "oci", "acme", &to]);
            std::thread::sleep(Duration::from_millis(after_ms));
            // It may have ended by itself.
            drop(Command::new("kill").args(["-INT", &child.id().to_string()]).output());
            child.wait().unwrap();
            let made = work.join(&to);
            if made.is_dir() {
                let image = format!("oci:{}:acme", made.display());
                skopeo(&["copy", &image, &format!("dir:{}", work.join("copy").display())]);
            } else if made.exists() {
                skopeo(&["inspect", &format!("docker-archive:{}", made.display())]);
            }
        }
    }
    drop(export(&bench, "acme", "shared"));
    drop(export(&bench, "acme", "image.tar"));
    assert_eq!(left_behind(&work), [] as [String; 0]);
    assert_eq!(left_behind(&work.join("shared")), [] as [String; 0]);
}

fn to_engine(bench: &Bench, host: &str, more: &str) -> Outcome {
    bench.script(&format!("DOCKER_HOST='{host}' exec $HATCHWAY export oci acme docker {more}"))
}

#[test]
fn an_engine_that_does_not_answer_is_told_with_what_to_do() {
    let bench = Bench::ordinary().exact();
    let socket = |name: &str| bench.path(name);
    let host = |name: &str| format!("unix://{}", socket(name).display());
    let absent = to_engine(&bench, &host("none"), "");
    hinted(&absent, "no container engine answers at `[bench]/none`");
    assert!(absent.stderr.contains("No such file or directory"), "{absent}");
    assert!(absent.stderr.contains("systemctl start docker"), "{absent}");
    drop(UnixListener::bind(socket("deaf")).unwrap());
    fs::set_permissions(socket("deaf"), fs::Permissions::from_mode(0o666)).unwrap();
    let deaf = to_engine(&bench, &host("deaf"), "");
    hinted(&deaf, "no container engine answers");
    assert!(deaf.stderr.contains("Connection refused"), "{deaf}");
    hinted(&to_engine(&bench, "tcp://10.0.0.1:2375", ""), "speaks to an engine over a unix socket only");
    assert!(is_root(), "run this test as root: it makes a socket that another user may not open");
    let _closed = UnixListener::bind(socket("closed")).unwrap();
    fs::set_permissions(socket("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    let closed = to_engine(&bench, &host("closed"), "");
    hinted(&closed, "no container engine answers");
    assert!(closed.stderr.contains("as a member of the socket's group"), "{closed}");
}

#[test]
fn docker_gets_an_image_once_and_runs_the_tool() {
    assert!(is_root(), "run this test as root: it starts a container engine");
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1, libsmall1");
    let engine = Engine::start(&bench.path("engine"), None);
    let loaded = to_engine(&bench, &engine.host(), "").ok();
    let tag = loaded.stdout.trim().to_owned();
    assert!(tag.starts_with("hatchway/acme:"), "{loaded}");
    assert!(loaded.stderr.contains(&format!("loaded {tag}: 5 layers")), "{loaded}");
    assert!(loaded.stderr.contains(&format!("next: docker run --rm --network none {tag}")), "{loaded}");
    let run = |arguments: &[&str]| {
        engine.says(&[&["run", "--rm", "--network", "none", &tag][..], arguments].concat())
    };
    assert_eq!(run(&[]), "acme 1.0");
    assert_eq!(run(&["echo", "a b"]), "<a b>");
    assert_eq!(run(&["show", "/usr/share/small/ünïcode name"]), "small");
    assert_eq!(run(&["show", "/usr/share/acme/link"]), "deep");
    assert_eq!(run(&["show", "/usr/share/small/replaced"]), "the vendor's");
    // The second time nothing is sent.
    let again = to_engine(&bench, &engine.host(), "").ok();
    assert!(again.stderr.contains(&format!("the engine has {tag} already")), "{again}");
    let id = engine.says(&["image", "inspect", "--format", "{{.Id}}", &tag]);
    let report = to_engine(&bench, &engine.host(), "--json").ok().json();
    assert_eq!((&report["config"], &report["was-there"]), (&Value::from(id.as_str()), &true.into()));
    // Under another name only: it is named, not sent.
    engine.says(&["tag", &tag, "other:1"]);
    engine.says(&["rmi", &tag]);
    let named = to_engine(&bench, &engine.host(), "").ok();
    assert!(named.stderr.contains(&format!("it is named {tag} now")), "{named}");
    assert_eq!(run(&[]), "acme 1.0");
    // The archive is the same image, layers compressed or not.
    engine.says(&["rmi", &tag, "other:1"]);
    let archive = export(&bench, "acme", "acme.tar");
    engine.says(&["load", "--input", &bench.path("work/acme.tar").display().to_string()]);
    assert_eq!(engine.says(&["image", "inspect", "--format", "{{.Id}}", &tag]), id);
    assert_eq!(archive["config"], id);
    assert_eq!(run(&[]), "acme 1.0");
}

/// An engine that answers questions and hangs up in the middle of an image.
fn dying_engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
                path if path.ends_with("/images/load?quiet=true") => {
                    connection.read_exact(&mut [0; 100_000]).unwrap();
                    continue;
                }
                path if path.ends_with("/version") => ("200 OK", r#"{"ApiVersion":"1.41"}"#),
                _ => ("404 Not Found", r#"{"message":"no such image"}"#),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            // Who only looks whether somebody answers has gone by now.
            drop(connection.write_all(answer.as_bytes()));
        }
    });
}

#[test]
fn an_engine_that_dies_while_it_loads_is_told() {
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    drop(bench.hatchway(&["build", "acme"]).ok());
    let socket = bench.path("dying");
    dying_engine(&socket);
    let host = format!("unix://{}", socket.display());
    let said = bench.script(&format!("DOCKER_HOST='{host}' timeout 60 $HATCHWAY export oci acme docker"));
    hinted(&said, "the container engine cannot load the image: ");
}

#[test]
fn an_engine_without_room_says_so_and_what_helps() {
    assert!(is_root(), "run this test as root: it starts a container engine");
    let (bench, _server) = bench();
    locked(&bench, "acme", "libc6, liblarge1");
    let engine = Engine::start(&bench.path("engine"), Some(6));
    let said = to_engine(&bench, &engine.host(), "");
    hinted(&said, "no space left on device");
    assert!(said.stderr.contains("docker image prune"), "{said}");
}
