//! What other packagers made: RPM packages by `rpmbuild`, AppImages by `mksquashfs`, self-unpacking scripts by `makeself`.

use std::fs;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::Package;

use super::{ACME, hinted};

/// An archive with a shell that runs, and a perl that somebody may ask for.
fn mirror() -> Mirror {
    let perl = Package::new("perl", "5.36-1").file("usr/bin/perl", "no perl");
    Mirror::new(vec![Suite::new("bookworm", Libc::Hosts).with(perl)], Key::new(1))
}

/// Runs a packager in a folder.
fn make(package: &str, command: &mut Command, folder: &Path) {
    let output = command.current_dir(folder).output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}: install the package `{package}`"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const SPEC: &str = r"
Name: acme
Version: 2.1
Release: 1
Summary: Acme
License: Proprietary
Vendor: Acme Instruments
Requires: /usr/bin/perl, shadow-utils
%description
Nothing more.
%install
mkdir -p %{buildroot}/opt/acme/bin %{buildroot}/usr/lib64 %{buildroot}/usr/bin %{buildroot}/etc/acme %{buildroot}/var/lib/acme
install -m 755 %{_topdir}/acme %{buildroot}/opt/acme/bin/acme
ln %{buildroot}/opt/acme/bin/acme %{buildroot}/opt/acme/bin/acme-too
ln -s ../../opt/acme/bin/acme %{buildroot}/usr/bin/acme
install -m 755 %{_topdir}/libacme.so.1.0 %{buildroot}/usr/lib64/libacme.so.1.0
echo key=value > %{buildroot}/etc/acme/acme.conf
touch %{buildroot}/var/lib/acme/ghost
%files
%attr(755,root,root) %caps(cap_sys_nice=ep) /opt/acme/bin/acme
/opt/acme/bin/acme-too
/usr/bin/acme
/usr/lib64/libacme.so.1.0
%config(noreplace) /etc/acme/acme.conf
%dir %attr(2755,root,root) /var/lib/acme
%ghost /var/lib/acme/ghost
%pre
getent passwd acme >/dev/null || useradd -r acme
%post -p /sbin/ldconfig
%postun
rm -rf /etc
";

/// An RPM package whose program needs a library that lies where only other distributions look.
fn rpm(bench: &Bench) {
    let folder = bench.path("rpm");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("acme"), compile::program_with(ACME, "libacme.so.1")).unwrap();
    fs::write(folder.join("libacme.so.1.0"), compile::library("libacme.so.1", &[])).unwrap();
    fs::write(folder.join("acme.spec"), SPEC).unwrap();
    let top = format!("_topdir {}", folder.display());
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", "x86_64-linux", "--define", &top]).args([
        "--define",
        "_build_id_links none",
        "--define",
        "__os_install_post %{nil}",
        "acme.spec",
    ]);
    make("rpm", &mut rpmbuild, &folder);
    bench.put("acme.rpm", fs::read(folder.join("RPMS/x86_64/acme-2.1-1.x86_64.rpm")).unwrap());
}

#[test]
fn an_rpm_package_runs_and_its_libraries_are_found() {
    let (bench, _server) = Bench::new().with_mirror(&mirror());
    rpm(&bench);
    let run = bench.hatchway(&[
        "run",
        "acme.rpm",
        "--keep",
        "--program",
        "acme",
        "--",
        "show",
        "/etc/acme/acme.conf",
    ]);
    assert_eq!(run.clone().ok().stdout, "key=value\n", "{run}");
    // Two names of one file, and a library that was linked by its name.
    let too = bench.hatchway(&["run", "acme", "--program", "/opt/acme/bin/acme-too", "--", "echo", "x"]).ok();
    assert_eq!(too.stdout, "<x>\n");

    let recipe = bench.read("recipes/acme/recipe.toml");
    assert!(!recipe.contains("unpack"), "{recipe}");
    assert!(recipe.contains("shadow-utils"), "{recipe}");
    let lock = bench.read("recipes/acme/recipe.lock");
    assert!(lock.contains("name = \"perl\"\n"), "{lock}");
    assert!(lock.contains("why = \"Depends of acme\""), "{lock}");
}

#[test]
fn what_an_rpm_package_loses_and_asks_for_is_said() {
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror());
    rpm(&bench);
    drop(bench.hatchway(&["new", "acme.rpm"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let said = bench.hatchway(&["build", "acme"]).ok().stderr;
    for line in [
        "`acme.rpm`: dropped file capabilities cap_sys_nice=ep of opt/acme/bin/acme",
        "`acme.rpm`: dropped setid bits of var/lib/acme",
        "`acme.rpm`: the vendor's %pre was read but not run",
    ] {
        assert!(said.contains(line), "not said: {line}\n{said}");
    }
    // What the builder does by itself, and what never runs at a first installation.
    for word in ["%post ", "%postun"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_library_that_an_rpm_package_requires_by_name_decides() {
    let (bench, _server) = Bench::new().with_mirror(&mirror());
    let folder = bench.path("rpm");
    fs::create_dir_all(&folder).unwrap();
    let spec = "Name: acme\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\n\
                Requires: libnowhere.so.7()(64bit)\n%description\nx\n%files\n";
    fs::write(folder.join("acme.spec"), spec).unwrap();
    let top = format!("_topdir {}", folder.display());
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", "x86_64-linux", "--define", &top, "acme.spec"]);
    make("rpm", &mut rpmbuild, &folder);
    bench.put("acme.rpm", fs::read(folder.join("RPMS/x86_64/acme-1-1.x86_64.rpm")).unwrap());
    drop(bench.hatchway(&["new", "acme.rpm"]).ok());
    let refused = bench.hatchway(&["lock", "acme", "--suite", "bookworm"]);
    hinted(&refused, "`libnowhere.so.7` (needed by the package acme) is in no package of bookworm");
}

/// An AppImage of type 2: a program as its runtime, marked as the specification says, and a file system behind it.
fn app_image(bench: &Bench) {
    use std::os::unix::fs::PermissionsExt;
    let folder = bench.path("app");
    let app = folder.join("AppDir");
    for below in ["usr/bin", "usr/lib"] {
        fs::create_dir_all(app.join(below)).unwrap();
    }
    let executable = |path: &str, bytes: &[u8]| {
        fs::write(app.join(path), bytes).unwrap();
        fs::set_permissions(app.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let start =
        "#!/bin/bash\nexport LD_LIBRARY_PATH=\"$APPDIR/usr/lib\"\nexec \"$APPDIR/usr/bin/acme\" \"$@\"\n";
    executable("AppRun", start.as_bytes());
    executable("usr/bin/acme", &compile::program_with(ACME, "libacme.so.1"));
    fs::write(app.join("usr/lib/libacme.so.1"), compile::library("libacme.so.1", &[])).unwrap();
    fs::write(app.join("acme.desktop"), "[Desktop Entry]\nName=Acme\nExec=acme\n").unwrap();
    let mut squash = Command::new("mksquashfs");
    squash.args(["AppDir", "image", "-root-owned", "-noappend", "-quiet", "-no-progress"]);
    make("squashfs-tools", &mut squash, &folder);
    let mut bytes = compile::program("int main(void) { return 3; }");
    bytes[8..11].copy_from_slice(b"AI\x02");
    bytes.extend(fs::read(folder.join("image")).unwrap());
    bench.put("Acme_Scope-3.AppImage", bytes);
}

#[test]
fn an_app_image_runs_from_its_file_system() {
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror());
    app_image(&bench);
    let run = bench.hatchway(&["run", "Acme_Scope-3.AppImage", "--", "echo", "a b"]);
    assert_eq!(run.clone().ok().stdout, "<a b>\n", "{run}");
    let mut new = vec!["new", "Acme_Scope-3.AppImage"];
    drop(bench.hatchway(&new).ok());
    let recipe = bench.read("recipes/acme-scope-3/recipe.toml");
    for line in [
        "unpack = \"/opt/acme-scope-3\"",
        "program = \"/opt/acme-scope-3/AppRun\"",
        "env = { APPDIR = \"/opt/acme-scope-3\", APPIMAGE = \"/opt/acme-scope-3.AppImage\" }",
        "# /usr/bin/acme is linked with libc.so.6",
    ] {
        assert!(recipe.contains(line), "not there: {line}\n{recipe}");
    }
    // Programs that update or restart themselves start `$APPIMAGE`.
    new = vec!["run", "Acme_Scope-3.AppImage", "--program", "/opt/acme-scope-3.AppImage", "--", "version"];
    assert_eq!(bench.hatchway(&new).ok().stdout, "acme 1.0\n");
}

#[test]
fn an_app_image_without_a_file_system_is_refused() {
    let (bench, _server) = Bench::new().with_mirror(&mirror());
    let mut bytes = compile::program("int main(void) { return 3; }");
    bytes[8..11].copy_from_slice(b"AI\x02");
    bench.put("broken.AppImage", bytes);
    let refused = bench.hatchway(&["new", "broken.AppImage"]);
    hinted(&refused, "it carries no archive that can be unpacked without running it");
}

#[test]
fn a_makeself_script_is_unpacked_without_running_it() {
    let (bench, _server) = Bench::new().with_mirror(&mirror());
    let folder = bench.path("self");
    fs::create_dir_all(folder.join("content/bin")).unwrap();
    let acme = folder.join("content/bin/acme");
    fs::write(&acme, compile::program(ACME)).unwrap();
    fs::set_permissions(&acme, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(folder.join("content/setup.sh"), "#!/bin/sh\ntouch /tmp/setup-was-run\n").unwrap();
    let mut makeself = Command::new("makeself");
    makeself.args(["--nox11", "--quiet", "content", "acme.run", "Acme", "./setup.sh"]);
    make("makeself", &mut makeself, &folder);
    bench.put("acme.run", fs::read(folder.join("acme.run")).unwrap());
    let recipe = |sha256: &str| {
        format!(
            "schema = 1\n[package]\nname = \"acme\"\n[[artifact]]\nfile = \"acme.run\"\nsha256 = \"{sha256}\"\n\
             unpack = \"/opt/acme\"\n[run]\nprogram = \"/opt/acme/bin/acme\"\n"
        )
    };
    let sha256 = hatchway_tests::package::sha256(&fs::read(bench.path("work/acme.run")).unwrap());
    fs::create_dir_all(bench.path("work/recipes/acme")).unwrap();
    fs::copy(bench.path("work/acme.run"), bench.path("work/recipes/acme/acme.run")).unwrap();
    bench.put("recipes/acme/recipe.toml", recipe(&sha256));
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert_eq!(bench.hatchway(&["run", "acme", "--", "version"]).ok().stdout, "acme 1.0\n");
}
