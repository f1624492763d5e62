//! The four vendor files, one function each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Row;
use super::stage::Stage;
use crate::wheels::{self, Wheel};
use crate::{acme, sh};

/// Shows one artifact from file to running tool.
pub(super) type Story = fn(&Stage, &'static str) -> Result<Row>;

/// A proprietary program from the archive's `non-free` section: packs a file and unpacks it again.
pub(super) fn rar(stage: &Stage, artifact: &'static str) -> Result<Row> {
    const SPEC: &str = "debian:trixie/non-free/rar";
    let root = stage.unpack(&stage.fetch(SPEC)?, "rar-on-host")?;
    stage.on_host(&root.join("usr/bin/rar"), &["-?"])?;

    let row = stage.prepare(artifact, SPEC)?;
    let share = stage.shared("rar-share")?;
    let (plain, packed) = (share.join("sample.txt"), share.join("packed.rar"));
    let sample = "Hatchway packs and unpacks this line. ".repeat(2000);
    fs::write(&plain, &sample)?;
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644))?;
    run_sharing(stage, artifact, &share, &[], &["a", "-ep", path(&packed)?, path(&plain)?])?;
    let packed_size = fs::metadata(&packed).context("rar made no archive")?.len();

    fs::remove_file(&plain)?;
    let destination = format!("{}/", path(&share)?);
    run_sharing(stage, artifact, &share, &[], &["e", "-o+", path(&packed)?, &destination])?;
    let unpacked = fs::read_to_string(&plain).context("rar unpacked nothing")?;
    if unpacked != sample {
        bail!("what rar unpacked differs from what it packed");
    }
    Ok(stage.done(row, format!("{} bytes packed to {packed_size}, unpacked the same", sample.len())))
}

/// A wheel with a proprietary assembler in it: assembles a small PTX file.
pub(super) fn ptxas(stage: &Stage, artifact: &'static str) -> Result<Row> {
    const PROGRAM: &str = "nvidia/cuda_nvcc/bin/ptxas";
    let wheel = fetch_wheel(&stage.wheels())?;
    let on_host = stage.unzip(&wheel, "ptxas-on-host")?.join(PROGRAM);
    fs::set_permissions(&on_host, fs::Permissions::from_mode(0o755))?;
    stage.on_host(&on_host, &["--version"])?;

    let row = stage.prepare(artifact, path(&wheel)?)?;
    let share = stage.shared("ptxas-share")?;
    let (source, object) = (share.join("vecadd.ptx"), share.join("vecadd.cubin"));
    fs::copy(sh::workspace()?.join("tests/fixtures/vecadd.ptx"), &source)?;
    fs::set_permissions(&source, fs::Permissions::from_mode(0o644))?;
    let args = ["-arch=sm_80", path(&source)?, "-o", path(&object)?];
    run_sharing(stage, artifact, &share, &["--program", PROGRAM], &args)?;
    let bytes = fs::read(&object).context("ptxas wrote no object")?;
    // EM_CUDA, 190, is the machine number of NVIDIA's ELF files.
    if !bytes.starts_with(b"\x7fELF") || bytes.get(18..20) != Some(&[190, 0]) {
        bail!("`{}` is no ELF file for the GPU", object.display());
    }
    Ok(stage.done(row, format!("vecadd.cubin, ELF for sm_80, {} bytes", bytes.len())))
}

/// An old release's program as an unknown file: it needs libraries that newer releases no longer have.
pub(super) fn openssl(stage: &Stage, artifact: &'static str) -> Result<Row> {
    let deb = stage.fetch("debian:bullseye/main/openssl")?;
    let name = deb.file_name().and_then(|name| name.to_str()).context("the file has no name")?;
    let file = format!("./{name}");
    let root = stage.unpack(&deb, "openssl-on-host")?;
    stage.on_host(&root.join("usr/bin/openssl"), &["version"])?;

    let row = stage.prepare(artifact, &file)?;
    let steps = stage.hatchway(&["run", artifact, "--", "version"], &[0])?;
    let in_one_go = stage.hatchway(&["run", &file, "--", "version"], &[0])?;
    let version = first_line(&steps)?;
    if !version.starts_with("OpenSSL 1.1.1") {
        bail!("openssl printed `{version}`, not a version 1.1.1");
    }
    if first_line(&in_one_go)? != version {
        bail!("run in one go, openssl printed `{}`, not `{version}`", first_line(&in_one_go)?);
    }
    Ok(stage.done(row, version))
}

/// The stand-in vendor package: a plugin, a bound licence file, and state that survives.
pub(super) fn acme_gauss(stage: &Stage, artifact: &'static str) -> Result<Row> {
    let work = stage.work();
    let deb = acme::build(&work)?;
    fs::copy(acme::fixture()?.join("license.dat"), work.join("license.dat"))?;
    for file in [&deb, &work.join("license.dat")] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    }
    let root = stage.unpack(&deb, "acme-on-host")?;
    stage.on_host(&root.join("usr/local/bin/acme-gauss"), &[])?;

    stage.forget_state(artifact)?;
    let row = stage.prepare(artifact, &format!("./{}", acme::FILE))?;
    let run = ["run", artifact, "--bind", "license=./license.dat"];
    let self_test = stage.hatchway(&[&run[..], &["--", "--selftest"]].concat(), &[0])?;
    if first_line(&self_test)? != "self-test: probe 1.0 ready" {
        bail!("the plugin did not answer: `{}`", self_test.stdout.trim());
    }
    let first = stage.hatchway(&run, &[0])?;
    let second = stage.hatchway(&run, &[0])?;
    let counts = (run_count(&first)?, run_count(&second)?);
    if counts != (1, 2) {
        bail!("the run counter showed {} and {}, not 1 and 2", counts.0, counts.1);
    }
    let field = second.stdout.lines().find(|line| line.contains("+15 mm"));
    let field = field.context("acme-gauss printed no field at +15 mm")?;
    Ok(stage.done(row, format!("run 1 then run 2, plugin loaded, {field}")))
}

fn run_count(finished: &sh::Finished) -> Result<u64> {
    let count = finished.stdout.lines().find_map(|line| line.strip_prefix("run ")?.parse().ok());
    count.context("acme-gauss printed no run counter")
}

pub(super) fn run_sharing(
    stage: &Stage,
    tool: &str,
    share: &Path,
    options: &[&str],
    args: &[&str],
) -> Result<()> {
    let before = ["run", tool, "--share", path(share)?];
    stage.hatchway(&[&before[..], options, &["--"], args].concat(), &[0])?;
    Ok(())
}

fn first_line(finished: &sh::Finished) -> Result<String> {
    Ok(finished.stdout.lines().next().context("the tool printed nothing")?.to_owned())
}

pub(super) fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))
}

/// The wheel by name and hash.
fn fetch_wheel(folder: &Path) -> Result<PathBuf> {
    const PTXAS: Wheel = Wheel {
        file: "nvidia_cuda_nvcc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0",
    };
    wheels::fetch(folder, &PTXAS)
}
