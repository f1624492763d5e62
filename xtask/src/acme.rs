//! `cargo xtask acme OUT_DIR`: compiles the stand-in vendor package of `tests/fixtures/acme-gauss` and packs it.
//!
//! The same sources and the same compiler give the same bytes: no debug information, no build path, fixed times,
//! fixed modes, owner root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// The name of the file that is made.
pub(crate) const FILE: &str = "acme-gauss_2.1.0_amd64.deb";

/// 2024-01-01 00:00:00 UTC, the time of every file in the package.
const EPOCH: &str = "1704067200";

const LIB_FOLDER: &str = "usr/local/lib/acme";

/// Where the fixture lies.
pub(crate) fn fixture() -> Result<PathBuf> {
    Ok(sh::workspace()?.join("tests/fixtures/acme-gauss"))
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let words = args.positional();
    args.finish()?;
    let [out] = words.as_slice() else {
        bail!("one folder is needed\nhint: cargo xtask acme OUT_DIR");
    };
    println!("{}", build(Path::new(out))?.display());
    Ok(())
}

/// Builds the package into `out` and returns its path.
pub(crate) fn build(out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))?;
    let scratch = sh::Scratch::new("acme-gauss")?;
    let root = scratch.path.join("root");
    compile(&fixture()?.join("src"), &scratch.path, &root)?;
    lay_out(&fixture()?, &root)?;
    let file = out.join(FILE);
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group", "-Zxz"]).arg(&root).arg(&file);
    sh::capture(pack.env("SOURCE_DATE_EPOCH", EPOCH))?;
    Ok(file)
}

fn compile(sources: &Path, objects: &Path, root: &Path) -> Result<()> {
    for folder in [LIB_FOLDER, "usr/local/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let source = |name: &str| sources.join(name);
    let target = |name: &str| root.join(name);

    let gauss = target(LIB_FOLDER).join("libgauss.so.2.1.0");
    let mut library = gcc();
    library.args(["-shared", "-fPIC", "-Wl,-soname,libgauss.so.2", "-o"]).arg(&gauss);
    sh::run(library.arg(source("gauss.c")).args(["-lm", "-lz", "-ldl"]))?;

    let probe = target(LIB_FOLDER).join("libacme-probe.so.1.0");
    let mut plugin = gcc();
    plugin.args(["-shared", "-fPIC", "-Wl,-soname,libacme-probe.so.1", "-o"]).arg(&probe);
    sh::run(plugin.arg(source("probe.c")))?;

    // For the link only: the package itself carries neither this name nor the SONAME's.
    fs::copy(&gauss, objects.join("libgauss.so"))?;
    for (name, libraries) in [("acme-gauss", ["-lgauss", "-lz"].as_slice()), ("acme-gaussd", &["-lgauss"])] {
        let mut program = gcc();
        program.arg("-o").arg(target("usr/local/bin").join(name)).arg(source(&format!("{name}.c")));
        sh::run(program.arg("-L").arg(objects).args(libraries))?;
    }
    Ok(())
}

fn gcc() -> Command {
    let mut command = Command::new("gcc");
    // `--as-needed` is the default on some distributions and not on others; the package must not depend on that.
    command.args(["-O2", "-g0", "-s", "-Wall", "-Wextra", "-Werror", "-Wl,--as-needed"]);
    command
}

fn lay_out(fixture: &Path, root: &Path) -> Result<()> {
    for folder in ["etc/ld.so.conf.d", "DEBIAN"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let copies = [
        ("acme-gauss.conf", "etc/ld.so.conf.d/acme-gauss.conf", 0o644),
        ("control/control", "DEBIAN/control", 0o644),
        ("control/postinst", "DEBIAN/postinst", 0o755),
        ("control/prerm", "DEBIAN/prerm", 0o755),
    ];
    for (from, to, mode) in copies {
        fs::copy(fixture.join(from), root.join(to)).with_context(|| format!("cannot copy `{from}`"))?;
        fs::set_permissions(root.join(to), fs::Permissions::from_mode(mode))?;
    }
    // The umask of whoever builds must not show.
    for folder in [LIB_FOLDER, "usr/local/bin"] {
        sh::run(Command::new("chmod").args(["-R", "0755", "--"]).arg(root.join(folder)))?;
    }
    sh::run(Command::new("find").arg(root).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    // dpkg-deb only lowers later times to its epoch; a source older than that would keep its own.
    sh::run(Command::new("find").arg(root).args(["-exec", "touch", "--no-dereference"]).args([
        &format!("--date=@{EPOCH}"),
        "{}",
        "+",
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(deb: &Path) -> String {
        sh::capture(Command::new("dpkg-deb").arg("--contents").arg(deb)).unwrap()
    }

    #[test]
    fn the_package_is_the_same_twice_and_has_the_meant_faults() {
        let scratch = sh::Scratch::new("acme-test").unwrap();
        let first = build(&scratch.path.join("one")).unwrap();
        let second = build(&scratch.path.join("two")).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());

        let names = listing(&first);
        assert!(names.contains("libgauss.so.2.1.0") && names.contains("libacme-probe.so.1.0"));
        assert!(!names.contains("->"), "there must be no SONAME links:\n{names}");
        assert!(
            names.lines().all(|line| line.contains("root/root") && line.contains("2024-01-01")),
            "{names}"
        );

        let unpacked = scratch.path.join("unpacked");
        sh::run(Command::new("dpkg-deb").arg("-x").arg(&first).arg(&unpacked)).unwrap();
        let dynamic = |name: &str| {
            sh::capture(Command::new("readelf").args(["-dW", "-V"]).arg(unpacked.join(name))).unwrap()
        };
        let program = dynamic("usr/local/bin/acme-gauss");
        assert!(program.contains("[libgauss.so.2]") && program.contains("[libz.so.1]"));
        assert!(!program.contains("libacme-probe"), "the probe is only opened by name");
        let library = dynamic(&format!("{LIB_FOLDER}/libgauss.so.2.1.0"));
        assert!(library.contains("Library soname: [libgauss.so.2]") && library.contains("ZLIB_1.2.9"));
    }

    #[test]
    fn the_programs_work_where_the_links_are_made() {
        let scratch = sh::Scratch::new("acme-test").unwrap();
        let deb = build(&scratch.path).unwrap();
        let root = scratch.path.join("root");
        sh::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root)).unwrap();
        let folder = root.join(LIB_FOLDER);
        let program = root.join("usr/local/bin/acme-gauss");
        let plain = Command::new(&program).arg("--version").output().unwrap();
        assert_eq!(plain.status.code(), Some(127), "without the SONAME link the loader must give up");

        std::os::unix::fs::symlink("libgauss.so.2.1.0", folder.join("libgauss.so.2")).unwrap();
        let version =
            sh::capture(Command::new(&program).arg("--version").env("LD_LIBRARY_PATH", &folder)).unwrap();
        assert!(version.starts_with("acme-gauss 2.1.0"), "{version}");
        let refused = Command::new(&program).env("LD_LIBRARY_PATH", &folder).output().unwrap();
        assert_eq!(refused.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("/etc/acme/license.dat"));
    }
}
