//! Vendors' installers: run once in a build sandbox, what they wrote kept and locked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{LIBRARIES, Mirror};
use hatchway_tests::package::{Package, sha256};
use hatchway_tests::{compile, host};

use super::{ACME, hinted};

/// An archive whose programs are the host's, with a library that only an installed program asks for.
fn mirror() -> Mirror {
    let suite = host::suite("bookworm")
        .with(
            Package::new("libacme1", "1.0-1")
                .file(&format!("{LIBRARIES}/libacme.so.1"), compile::library("libacme.so.1", &[])),
        )
        .with(
            Package::new("base-files", "1.0-1")
                .file("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n")
                .link("etc/os-release", "../usr/lib/os-release")
                .file("usr/share/base-files/unwanted", "x"),
        );
    Mirror::new(vec![suite], Key::new(1))
}

/// A recipe in `recipes/acme`, with the installer beside it.
fn recipe(bench: &Bench, file: &str, bytes: &[u8], install: &str, more: &str) {
    let folder = bench.path("work/recipes/acme");
    fs::create_dir_all(&folder).unwrap();
    bench.allow("work/recipes");
    bench.allow("work/recipes/acme");
    fs::write(folder.join(file), bytes).unwrap();
    let text = format!(
        "schema = 1\n[package]\nname = \"acme\"\n[[artifact]]\nfile = \"{file}\"\nsha256 = \"{}\"\ninstall = {{ {install} }}\n{more}\n",
        sha256(bytes)
    );
    bench.put("recipes/acme/recipe.toml", text);
}

/// The recipe and its lock as another machine gets them: without the store.
fn carry(from: &Bench, to: &Bench) {
    let folder = to.path("work/recipes/acme");
    fs::create_dir_all(&folder).unwrap();
    to.allow("work/recipes");
    to.allow("work/recipes/acme");
    for entry in fs::read_dir(from.path("work/recipes/acme")).unwrap().flatten() {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

/// The digest of what the installer wrote, as the lock names it.
fn captured(bench: &Bench) -> String {
    let lock = bench.read("recipes/acme/recipe.lock");
    let table = lock.split("[artifact.captured]").nth(1).unwrap_or_else(|| panic!("{lock}"));
    let line = table.lines().find(|line| line.starts_with("sha256")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

/// The tree of the recipe's lock.
fn tree(bench: &Bench) -> (String, std::path::PathBuf) {
    let built = bench.hatchway(&["build", "acme", "--json"]).ok().json();
    let digest = built["tree"].as_str().unwrap().to_owned();
    let folder = bench.store().tree(&digest);
    (digest, folder)
}

/// A makeself archive of a program, a setup script and perhaps a licence.
fn makeself(bench: &Bench, setup: &str, licence: bool) -> Vec<u8> {
    let folder = bench.path("self");
    fs::create_dir_all(folder.join("content/bin")).unwrap();
    let executable = |path: &str, bytes: &[u8]| {
        fs::write(folder.join(path), bytes).unwrap();
        fs::set_permissions(folder.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    executable("content/bin/acme", &compile::program(ACME));
    executable("content/setup.sh", setup.as_bytes());
    fs::write(folder.join("licence"), "You must agree to everything\n").unwrap();
    let mut command = Command::new("makeself");
    command.args(["--nox11", "--quiet", "--tar-extra", "--mtime=@0 --owner=0 --group=0 --sort=name"]);
    command.args(["--packaging-date", "2025-01-01"]);
    if licence {
        command.args(["--license", "licence"]);
    }
    let output = command.args(["content", "acme.run", "Acme", "./setup.sh"]).current_dir(&folder).output();
    let output = output.unwrap_or_else(|error| panic!("{error}: install the package `makeself`"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.join("acme.run")).unwrap()
}

/// What installers ask and do: they want to be root, look for space and for the system, write all over it.
const SETUP: &str = r#"#!/bin/sh
set -e
[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }
free=$(df -k -P /opt | tail -n 1 | awk '{print $4}')
[ "$free" -gt 1000 ] || { echo "no space" >&2; exit 1; }
. /etc/os-release
[ "$ID" = debian ] || { echo "not for $ID" >&2; exit 1; }
mkdir -p /opt/acme/bin /etc/acme "$HOME/.acme" /var/log/acme /usr/local/bin
cp bin/acme /opt/acme/bin/acme
chown 0:0 /opt/acme/bin/acme
chmod 4755 /opt/acme/bin/acme
echo "for=$VERSION_ID" > /etc/acme/acme.conf
echo once > "$HOME/.acme/seen"
date > /opt/acme/install.log
date > /var/log/acme/setup
ln -s /opt/acme/bin/acme /usr/local/bin/acme
rm /usr/share/base-files/unwanted
"#;

#[test]
fn a_makeself_installer_gives_the_same_tree_to_everybody() {
    let mirror = mirror();
    let (bench, server) = Bench::new().exact().with_mirror(&mirror);
    let run = makeself(&bench, SETUP, true);
    // A program that wants its owner's rights asks for a higher rung, unless the recipe says that it goes without.
    let fhs = "[run]\nrung = \"fhs\"\n";
    recipe(&bench, "acme.run", &run, "run = [\"./acme.run\"]", fhs);
    let refused = bench.hatchway(&["lock", "acme"]);
    hinted(&refused, "the installer `acme.run` has a licence to accept");
    assert!(refused.stderr.contains("accept-licence = true"), "{refused}");

    recipe(&bench, "acme.run", &run, "run = [\"./acme.run\"], accept-licence = true", fhs);
    let locked = bench.hatchway(&["lock", "acme"]).ok();
    assert!(!locked.stderr.contains("something else each time"), "{locked}");
    assert!(locked.stderr.contains("dropped setid bits of opt/acme/bin/acme"), "{locked}");
    assert!(locked.stderr.contains("not the tool's at run time: "), "{locked}");
    let (digest, folder) = tree(&bench);
    assert_eq!(fs::read_to_string(folder.join("etc/acme/acme.conf")).unwrap(), "for=12\n");
    assert_eq!(fs::read_link(folder.join("usr/local/bin/acme")).unwrap(), Path::new("/opt/acme/bin/acme"));
    for gone in
        ["usr/share/base-files/unwanted", "opt/acme/install.log", "var/log/acme", "run/install", "acme.run"]
    {
        assert!(!folder.join(gone).exists(), "{gone}");
    }
    assert_eq!(bench.hatchway(&["run", "acme", "--", "version"]).ok().stdout, "acme 1.0\n");
    // The same again is answered from the store.
    let again = bench.hatchway(&["lock", "acme"]).ok();
    assert!(!again.stderr.contains("running the installer"), "{again}");

    // An ordinary user on another machine has the recipe and its lock only.
    let other = Bench::ordinary().exact().with_server(&mirror, &server);
    carry(&bench, &other);
    let built = other.hatchway(&["build", "acme"]).ok();
    assert!(built.stderr.contains("running the installer"), "{built}");
    assert_eq!(tree(&other).0, digest);
    // And makes the same lock.
    let third = Bench::ordinary().exact().with_server(&mirror, &server);
    recipe(&third, "acme.run", &run, "run = [\"./acme.run\"], accept-licence = true", fhs);
    drop(third.hatchway(&["lock", "acme"]).ok());
    assert_eq!(captured(&third), captured(&bench));
}

/// A script that unpacks what is appended to it.
fn self_extracting(head: &str, content: &[u8]) -> Vec<u8> {
    let lines = head.lines().count();
    let mut bytes = head.replace("LINES", &(lines + 1).to_string()).into_bytes();
    bytes.extend(hatchway_tests::tar::gzip(
        &hatchway_tests::tar::Tar::new().file("acme", 0o755, content).finish(),
    ));
    bytes
}

#[test]
fn a_self_extracting_script_runs_in_one_go_and_gets_the_libraries_of_what_it_unpacked() {
    let (bench, _server) = Bench::ordinary().exact().with_mirror(&mirror());
    let head =
        "#!/bin/sh\nmkdir -p /opt/hand/bin\ntail -n +LINES \"$0\" | tar -xz -C /opt/hand/bin\nexit 0\n";
    bench.put("hand.sh", self_extracting(head, &compile::program_with(ACME, "libacme.so.1")));
    let run = bench.hatchway(&["run", "hand.sh", "--keep", "--", "echo", "a b"]);
    assert_eq!(run.clone().ok().stdout, "<a b>\n", "{run}");
    let recipe = bench.read("recipes/hand/recipe.toml");
    assert!(
        recipe.contains(
            "install = { run = [\"./hand.sh\"] }  # the script unpacks what is appended to it at 0x"
        ),
        "{recipe}"
    );
    assert!(recipe.contains("writes /opt/hand/bin"), "{recipe}");
    let lock = bench.read("recipes/hand/recipe.lock");
    assert!(lock.contains("libacme.so.1 of opt/hand/bin/acme"), "{lock}");
    assert!(
        bench.read("recipes/hand/hand.sh.captured").contains("./opt/hand/bin/acme type=file mode=0555"),
        "{lock}"
    );
}

#[test]
fn what_differs_between_runs_is_told_and_travels_as_a_file() {
    let mirror = mirror();
    let (bench, server) = Bench::new().exact().with_mirror(&mirror);
    let script =
        b"#!/bin/sh\nmkdir -p /opt/acme\ndate +%s.%N > /opt/acme/stamp\necho same > /opt/acme/same\n";
    recipe(&bench, "setup.sh", script, "run = [\"./setup.sh\"]", "");
    let locked = bench.hatchway(&["lock", "acme"]).ok();
    assert!(locked.stderr.contains("writes something else each time: /opt/acme/stamp\n"), "{locked}");
    let (digest, _) = tree(&bench);

    let other = Bench::ordinary().exact().with_server(&mirror, &server);
    carry(&bench, &other);
    let refused = other.hatchway(&["build", "acme"]);
    hinted(&refused, "`setup.sh` wrote something else than what was locked: /opt/acme/stamp\n");
    assert!(other.store().names("trees").iter().all(|tree| *tree != digest));
    let name = format!("{}.tar", &captured(&bench)[..12]);
    fs::copy(
        bench.path("data/store/artifacts").join(captured(&bench)),
        other.path("work/recipes/acme").join(&name),
    )
    .unwrap();
    assert_eq!(tree(&other).0, digest);
}

/// The outcome of locking a recipe whose installer is this script.
fn lock(bench: &Bench, script: &str, more: &str) -> Outcome {
    recipe(bench, "setup.sh", script.as_bytes(), "run = [\"./setup.sh\"]", more);
    bench.hatchway(&["lock", "acme"])
}

#[test]
fn an_installer_that_fails_is_shown_with_what_it_said() {
    let (bench, _server) = Bench::ordinary().exact().with_mirror(&mirror());
    let failed = lock(&bench, "#!/bin/sh\necho step one\necho 'no licence server' >&2\nexit 3\n", "");
    hinted(
        &failed,
        "the installer `setup.sh` failed: it ended with exit code 3:\n  step one\n  no licence server",
    );
    let missing = lock(&bench, "#!/bin/sh\nset -e\nrpm2cpio x\n", "");
    hinted(&missing, "rpm2cpio: not found");
    assert!(missing.stderr.contains("packages = [\"…\"]"), "{missing}");
    let nothing = lock(&bench, "#!/bin/sh\necho done > /var/log/setup.log\n", "");
    hinted(&nothing, "it wrote nothing that is kept");
    let wants = "#!/bin/sh\ntty -s || { echo 'I need a terminal'; exit 1; }\nmkdir /opt/acme; tty -s && echo yes > /opt/acme/tty\n";
    let terminal = lock(&bench, wants, "");
    hinted(&terminal, "I need a terminal");
    assert!(terminal.stderr.contains("bsdutils"), "{terminal}");
    // As the hint says.
    let run = "run = [\"script\", \"-qec\", \"./setup.sh\", \"/dev/null\"]";
    recipe(&bench, "setup.sh", wants.as_bytes(), run, "[environment]\npackages = [\"bsdutils\"]\n");
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert_eq!(fs::read_to_string(tree(&bench).1.join("opt/acme/tty")).unwrap(), "yes\n");
    // A licence that is asked for on the terminal's side of things, and answered.
    let asks = "#!/bin/sh\necho 'END USER LICENSE AGREEMENT'\nread answer\n[ \"$answer\" = y ] || exit 1\nmkdir /opt/acme\n";
    hinted(&lock(&bench, asks, ""), "line 2 of its /setup.sh speaks of a licence");
    recipe(&bench, "setup.sh", asks.as_bytes(), "run = [\"./setup.sh\"], accept-licence = true", "");
    drop(bench.hatchway(&["lock", "acme"]).ok());
}

/// Tries to get out, and writes down what worked.
const ESCAPE: &str = r#"#!/bin/bash
mkdir -p /opt/acme
mount --version > /opt/acme/tried && unshare --version >> /opt/acme/tried
out() { echo "$1" >> /opt/acme/worked; }
: > /opt/acme/worked
(exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null && out network
(echo x > CANARY) 2>/dev/null && [ -e CANARY.seen ] && out canary
for root in /proc/1/root /proc/self/root /../../.. /run/install/../../../..; do
    [ -e "$root/CANARY.seen" ] && out "host by $root"
done
mount -t tmpfs none /mnt 2>/dev/null && out mount
unshare -Ur true 2>/dev/null && out unshare
mknod /opt/acme/disk b 8 0 2>/dev/null && out mknod
kill -0 HOSTPID 2>/dev/null && out "host's processes"
[ -w /proc/sys/kernel/hostname ] && out sysctl
ln -s CANARY.seen /opt/acme/link
ln CANARY.seen /opt/acme/hard 2>/dev/null && out "hard link"
(sleep 31337; echo late > /opt/acme/late) > /dev/null 2>&1 &
exit 0
"#;

#[test]
fn an_installer_cannot_leave_its_sandbox() {
    for bench in [Bench::new().exact(), Bench::ordinary().exact()] {
        let mirror = mirror();
        let (bench, server) = bench.with_mirror(&mirror);
        let canary = bench.path("canary");
        fs::write(bench.path("canary.seen"), "secret").unwrap();
        let port = server
            .url
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        let script = ESCAPE
            .replace("PORT", &port)
            .replace("HOSTPID", &std::process::id().to_string())
            .replace("CANARY", &canary.display().to_string());
        let packages = "[environment]\npackages = [\"util-linux\"]\n";
        drop(lock(&bench, &script, packages).ok());
        let (_, folder) = tree(&bench);
        assert_eq!(fs::read_to_string(folder.join("opt/acme/worked")).unwrap(), "");
        assert!(!canary.exists());
        // A link stays one, and nothing behind it was read.
        assert_eq!(fs::read_link(folder.join("opt/acme/link")).unwrap(), bench.path("canary.seen"));
        assert!(!folder.join("opt/acme/late").exists());
        let tried = fs::read_to_string(folder.join("opt/acme/tried")).unwrap();
        assert!(tried.contains("mount from") && tried.contains("unshare from"), "{tried}");
        assert!(processes_with("sleep\x0031337").is_empty(), "a daemon of an installer still runs");
    }
}

/// The processes whose command line holds this text.
fn processes_with(text: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text)).collect()
}

#[test]
fn an_archive_with_an_installer_among_its_members() {
    let (bench, _server) = Bench::ordinary().exact().with_mirror(&mirror());
    let script = b"#!/bin/sh\nset -e\nmkdir -p /opt/acme /tmp/x\ncp data/greeting /opt/acme/\ntouch here\n";
    let archive = hatchway_tests::tar::gzip(
        &hatchway_tests::tar::Tar::new()
            .folder("acme-1.0/")
            .file("acme-1.0/install.sh", 0o755, script)
            .folder("acme-1.0/data/")
            .file("acme-1.0/data/greeting", 0o644, b"hello\n")
            .finish(),
    );
    recipe(&bench, "acme.tar.gz", &archive, "run = [\"sh\", \"./install.sh\"]", "");
    let text = bench.read("recipes/acme/recipe.toml").replace("install = {", "strip = 1\ninstall = {");
    bench.put("recipes/acme/recipe.toml", text);
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert_eq!(fs::read_to_string(tree(&bench).1.join("opt/acme/greeting")).unwrap(), "hello\n");
}

#[test]
fn what_no_installer_is_is_refused() {
    let (bench, _server) = Bench::new().exact().with_mirror(&mirror());
    let deb = super::acme().deb();
    recipe(&bench, "acme.deb", &deb, "run = [\"./acme.deb\"]", "");
    let refused = bench.hatchway(&["lock", "acme"]);
    assert!(refused.stderr.contains("`acme.deb` is a package (deb), not an installer"), "{refused}");
    recipe(&bench, "setup.sh", b"#!/bin/sh\n", "run = []", "");
    let empty = bench.hatchway(&["recipe", "check", "acme"]);
    assert!(
        empty.stdout.contains("`install` has no command")
            || empty.stderr.contains("`install` has no command"),
        "{empty}"
    );
}

/// Root of the build sandbox must not be the host's: a program with the set-user-id bit that an installer leaves would be
/// a way to root as long as it lies there.
#[test]
fn an_installer_is_nobody_on_the_host() {
    let mirror = mirror();
    let (bench, _server) = Bench::new().exact().with_mirror(&mirror);
    let setup = "#!/bin/sh\nset -e\nmkdir -p /opt/acme\ncat /proc/self/uid_map /proc/self/gid_map > /opt/acme/ids\n\
                 id -G > /opt/acme/groups\n(cat /proc/kpagecount /proc/vmallocinfo > /dev/null) 2> /opt/acme/kernel || true\n\
                 cp bin/acme /opt/acme/acme\nchmod 4755 /opt/acme/acme\n";
    let bytes = makeself(&bench, setup, false);
    recipe(
        &bench,
        "acme.run",
        &bytes,
        "run = [\"./acme.run\"]",
        "[run]\nrung = \"fhs\"\nprogram = \"/opt/acme/acme\"\n",
    );
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let (_, tree) = tree(&bench);
    let ids = fs::read_to_string(tree.join("opt/acme/ids")).unwrap();
    let words: Vec<&str> = ids.split_whitespace().collect();
    if hatchway_tests::bench::is_root() {
        assert_eq!(words, ["0", "1879113728", "1", "0", "1879113728", "1"], "{ids}");
    }
    assert_ne!((words[1], words[4]), ("0", "0"), "root of the host: {ids}");
    assert_eq!(fs::read_to_string(tree.join("opt/acme/groups")).unwrap().trim(), "0");
    let kernel = fs::read_to_string(tree.join("opt/acme/kernel")).unwrap();
    assert!(kernel.contains("ermission denied") || kernel.contains("No such file"), "{kernel}");
    assert_eq!(bench.store().names("tmp"), [] as [&str; 0]);
}

/// What takes more than a build step may have: it is ended, with the reason and what to do about it.
#[test]
fn an_installer_without_measure_is_ended() {
    let forks = "#include <unistd.h>\nint main(void) { for (;;) { int p = fork(); if (p == 0) for (;;) pause(); \
                 if (p < 0) usleep(10000); } }\n";
    let memory = "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { for (;;) { char *volatile p = malloc(64 << 20); \
                  if (!p) { perror(\"hog\"); return 1; } } }\n";
    // A file of 100 GiB that takes no room.
    let huge = "#include <fcntl.h>\n#include <unistd.h>\nint main(void) { int f = open(\"/opt/huge\", O_CREAT | O_WRONLY, 0644); \
                return f < 0 || ftruncate64(f, 100LL << 30); }\n";
    let huge = format!("#define _GNU_SOURCE\n{huge}");
    for bench in [Bench::new().exact(), Bench::ordinary().exact()] {
        let (bench, _server) = bench.with_mirror(&mirror());
        for (source, says, hint) in [
            (
                huge.as_str(),
                "exit code 153 (file size limit exceeded)",
                "hint: one file of a build step has at most 64",
            ),
            (
                memory,
                "hog: Cannot allocate memory",
                "hint: each process of a build step has at most 8.0 GiB of memory",
            ),
            (
                forks,
                "takes more than it may: it had ",
                "hint: look for the option of what runs there for a part of fewer jobs",
            ),
        ] {
            recipe(&bench, "hog", &compile::program(source), "run = [\"./hog\"]", "");
            let outcome = bench.hatchway(&["lock", "acme"]);
            hinted(&outcome, says);
            assert!(
                outcome.stderr.contains("the installer `hog`") && outcome.stderr.contains(hint),
                "{outcome}"
            );
            assert_eq!(bench.store().names("tmp"), [""; 0]);
        }
    }
}

/// Locks in a store on a file system of 160 MiB.
fn lock_in_little_room(script: &str) -> Outcome {
    let (bench, _server) = Bench::new().exact().with_mirror(&mirror());
    recipe(&bench, "setup.sh", script.as_bytes(), "run = [\"./setup.sh\"]", "");
    let data = bench.path("data").display().to_string();
    bench.mounting_script(&format!(
        "mkdir -p {data} && mount -t tmpfs -o size=160m none {data} && \"$HATCHWAY\" lock acme; code=$?; ls {data}/store/tmp; exit $code"
    ))
}

#[test]
fn an_installer_does_not_fill_the_disk() {
    // Slowly, and without ever ending by itself.
    let slow = lock_in_little_room(
        "#!/bin/sh\nmkdir /opt/acme\nwhile :; do dd if=/dev/zero bs=64k count=8 2>/dev/null >>/opt/acme/fill; sleep 0.01; done\n",
    );
    hinted(&slow, "the installer `setup.sh` takes more than it may: it wrote ");
    assert!(slow.stderr.contains(", and 8.0 MiB stay free for others\n"), "{slow}");
    assert!(slow.stderr.contains("hint: free some space: `hatchway store du`"), "{slow}");
    assert_eq!(slow.stdout, "", "something is left");
    // To a file that has no name.
    let nameless = lock_in_little_room(
        "#!/bin/sh\nmkdir /opt/acme\nexec 3>/opt/acme/fill\nrm /opt/acme/fill\n\
         while :; do dd if=/dev/zero bs=64k count=8 2>/dev/null >&3; sleep 0.01; done\n",
    );
    hinted(&nameless, "the installer `setup.sh` takes more than it may: it wrote ");
    assert_eq!(nameless.stdout, "", "something is left");
    // At once, so that it ends before it is looked at.
    let fast = lock_in_little_room("#!/bin/sh\nmkdir /opt/acme\ndd if=/dev/zero of=/opt/acme/fill bs=1M\n");
    hinted(&fast, "the installer `setup.sh` takes more than it may: it wrote ");
    assert!(fast.stderr.contains("hint: free some space: `hatchway store du`"), "{fast}");
    assert_eq!(fast.stdout, "", "something is left");
}

/// Each archive fits by itself.
#[test]
fn many_archives_do_not_fill_the_disk_together() {
    let bench = Bench::new().exact();
    std::fs::create_dir_all(bench.path("work/recipes/acme")).unwrap();
    let mut text = "schema = 1\n[package]\nname = \"acme\"\n".to_owned();
    for (number, name) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
        let content = vec![number; 30 << 20];
        let archive = hatchway_tests::tar::gzip(
            &hatchway_tests::tar::Tar::new().file("content", 0o644, &content).finish(),
        );
        fs::write(bench.path("work/recipes/acme").join(format!("{name}.tar.gz")), &archive).unwrap();
        text += &format!(
            "[[artifact]]\nfile = \"{name}.tar.gz\"\nsha256 = \"{}\"\nunpack = \"/opt/{name}\"\n",
            sha256(&archive)
        );
    }
    bench.put("recipes/acme/recipe.toml", text + "[environment]\nbase = \"none\"\n");
    let data = bench.path("data").display().to_string();
    let outcome = bench.mounting_script(&format!(
        "mkdir -p {data} && mount -t tmpfs -o size=100m none {data} && \"$HATCHWAY\" lock acme >&2 && \"$HATCHWAY\" build acme
         code=$?; for f in tmp trees objects builds; do ls {data}/store/$f; done; exit $code"
    ));
    let line = outcome.stderr.lines().find(|line| line.starts_with("error: unpacking `"));
    let line = line.unwrap_or_else(|| panic!("{outcome}"));
    assert!(
        line.contains(".tar.gz` (") && line.contains(" packed) needs more room than there is: "),
        "{outcome}"
    );
    assert!(line.ends_with(" 5.0 MiB stay free for others"), "{outcome}");
    hinted(&outcome, "MiB are written, and of the ");
    assert_eq!(outcome.stdout, "", "something is left");
}
