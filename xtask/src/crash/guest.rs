//! A QEMU guest that builds, and whose power goes at random moments.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::output;
use crate::{acme, sh};

/// The kernel that the guest runs, as Debian's archive names it.
const KERNEL: &str = "debian:bookworm/main/linux-image-cloud-amd64";
/// Programs of the guest beside Hatchway.
const BUSYBOX: &str = "debian:bookworm/main/busybox-static";
/// What the guest's disk hangs on, in the order of loading. The file system is part of that kernel.
const MODULES: [&str; 6] =
    ["virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"];
/// A boot and a build in software emulation take a minute; ten are a guest that hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// After so many cuts in a row one build may finish, and what it gives is compared.
const CUTS_IN_A_ROW: u32 = 5;
const TOOL: &str = "acme-gauss";

/// What the guest does: say how the store is, build, say what came of it, switch off.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin HATCHWAY_DATA_DIR=/disk/data HOME=/disk/home XDG_CACHE_HOME=/disk/cache LC_ALL=C.UTF-8
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
for module in MODULES; do busybox insmod /modules/$module.ko; done
busybox mount -t ext4 /dev/vda /disk || echo "guest: no disk"
cd /disk/work
busybox date -s 2025-01-01 > /dev/null
hatchway store verify --json > /tmp/verify; echo "guest: verify $?"
busybox sed 's/^/guest-verify: /' /tmp/verify
echo "guest: building"
hatchway build acme-gauss --offline --json > /tmp/built 2> /tmp/said; echo "guest: built $?"
busybox sed 's/^/guest-said: /' /tmp/said
echo "guest: $(busybox grep '"tree"' /tmp/built)"
hatchway store verify -q > /dev/null; echo "guest: verify-after $?"
busybox umount /disk
echo "guest: end"
busybox poweroff -f
"#;

/// A guest before it is switched on.
pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) disk: PathBuf,
}

struct Guest {
    scratch: sh::Scratch,
    kernel: PathBuf,
    tree: String,
}

pub(super) fn cut(program: &Path, cuts: u32) -> Result<()> {
    qemu()?;
    let guest = Guest::prepare(program)?;
    let whole = guest.boot_to_the_end()?;
    println!("crash: a whole build in the guest takes {:.1} s", whole.as_secs_f64());
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    let (mut done, mut finished) = (0, 0);
    guest.fresh_disk()?;
    while done < cuts {
        // xorshift64*: the moments are the same in each run, as far as the guest's speed is.
        dice ^= dice >> 12;
        dice ^= dice << 25;
        dice ^= dice >> 27;
        let share = (dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f64 / (1_u64 << 24) as f64;
        if guest.boot_and_cut(whole.mul_f64(share))? {
            done += 1;
            println!(
                "crash: power cut {done} of {cuts}, {:.1} s into the build",
                whole.as_secs_f64() * share
            );
        } else {
            finished += 1;
            guest.fresh_disk()?;
        }
        if done % CUTS_IN_A_ROW == 0 && done > 0 {
            guest.boot_to_the_end()?;
            finished += 1;
            guest.fresh_disk()?;
        }
    }
    println!(
        "crash: {done} power cuts; no store was damaged by one; {finished} builds on what they left gave tree {}",
        &guest.tree[..12]
    );
    Ok(())
}

impl Machine {
    /// Switches it on; what it says on its first serial port comes line by line.
    pub(crate) fn start(&self) -> Result<(Child, Receiver<String>)> {
        let drive = format!("file={},format=raw,if=virtio,cache=writeback", self.disk.display());
        let mut child = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                "768",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args([
                "-nic",
                "none",
                "-monitor",
                "none",
                "-serial",
                "stdio",
                "-append",
                "console=ttyS0 quiet panic=-1",
            ])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-drive", &drive])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        let stdout = child.stdout.take().context("QEMU has no stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Ok((child, lines))
    }
}

impl Guest {
    /// Kernel, first file system and disk, and what a build gives.
    fn prepare(program: &Path) -> Result<Self> {
        let scratch = sh::Scratch::new("hatchway-crash")?;
        let folder = &scratch.path;
        let kernel_package = self::kernel(program, folder)?;
        let busybox = self::busybox(program, folder)?;
        let tree = make_disk(program, folder)?;
        let kernel = image(&kernel_package)?;
        make_initramfs(program, folder, (&kernel_package, &busybox), INIT, &[])?;
        Ok(Self { kernel, tree, scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path.join(name)
    }

    /// A disk on which nothing was built.
    fn fresh_disk(&self) -> Result<()> {
        sh::run(
            Command::new("cp").arg("--sparse=always").arg(self.path("base.img")).arg(self.path("disk.img")),
        )
    }

    fn start(&self) -> Result<(Child, Receiver<String>)> {
        let (kernel, initramfs) = (self.kernel.clone(), self.path("initramfs"));
        Machine { kernel, initramfs, disk: self.path("disk.img") }.start()
    }

    /// Lets a build finish; gives how long it took. What it gives has to be what it always gives.
    fn boot_to_the_end(&self) -> Result<Duration> {
        if !self.path("disk.img").exists() {
            self.fresh_disk()?;
        }
        let (mut child, lines) = self.start()?;
        let result = self.follow(&lines, Instant::now() + PATIENCE, None);
        child.kill().context("cannot end QEMU")?;
        child.wait().context("cannot wait for QEMU")?;
        match result? {
            Ended::Whole(took) => Ok(took),
            Ended::Cut => bail!("the guest ended before its build had"),
        }
    }

    /// Takes the power away so long after the build began; `false` where the build was quicker.
    fn boot_and_cut(&self, after: Duration) -> Result<bool> {
        let (mut child, lines) = self.start()?;
        let result = self.follow(&lines, Instant::now() + PATIENCE, Some(after));
        child.kill().context("cannot cut the power")?;
        child.wait().context("cannot wait for QEMU")?;
        Ok(matches!(result?, Ended::Cut))
    }

    fn follow(&self, lines: &Receiver<String>, patience: Instant, cut: Option<Duration>) -> Result<Ended> {
        let mut began: Option<Instant> = None;
        let mut took = Duration::ZERO;
        let mut tail: Vec<String> = Vec::new();
        loop {
            let until = match (began, cut) {
                (Some(began), Some(cut)) if took.is_zero() => began + cut,
                _ => patience,
            };
            let line = match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) if Instant::now() < patience => return Ok(Ended::Cut),
                Err(_) => bail!("the guest fell silent; its last lines:\n{}", last(&tail)),
            };
            tail.push(line.clone());
            let Some(said) = line.strip_prefix("guest: ") else { continue };
            match said.split_once(' ').unwrap_or((said, "")) {
                ("verify" | "verify-after" | "built", "0") => {}
                ("verify" | "verify-after" | "built" | "no", _) => {
                    bail!("after {} lines: `{line}`\n{}", tail.len(), last(&tail))
                }
                ("building", _) => began = Some(Instant::now()),
                ("end", _) => return Ok(Ended::Whole(took)),
                _ if said.contains("\"tree\"") => {
                    took = began.map_or(Duration::ZERO, |began| began.elapsed());
                    if !said.contains(&self.tree) {
                        bail!("another tree than {}: {said}", self.tree);
                    }
                }
                _ => {}
            }
        }
    }
}

enum Ended {
    /// The power was to go now.
    Cut,
    /// The build has finished, in this time.
    Whole(Duration),
}

fn last(tail: &[String]) -> String {
    tail[tail.len().saturating_sub(40)..].join("\n")
}

/// Whether there is something to run a guest with.
pub(crate) fn qemu() -> Result<()> {
    if output(Command::new("qemu-system-x86_64").arg("--version")).is_err() {
        bail!("QEMU is missing\nhint: run `apt-get install --no-install-recommends qemu-system-x86`");
    }
    Ok(())
}

/// The kernel's package, unpacked.
pub(crate) fn kernel(program: &Path, folder: &Path) -> Result<PathBuf> {
    unpack(program, folder, &real_name(program, folder, KERNEL)?)
}

/// The kernel itself in it.
pub(crate) fn image(kernel: &Path) -> Result<PathBuf> {
    find(&kernel.join("boot"), "vmlinuz")
}

/// The package of the guest's programs, unpacked.
pub(crate) fn busybox(program: &Path, folder: &Path) -> Result<PathBuf> {
    unpack(program, folder, BUSYBOX)
}

/// A metapackage's one dependency is what holds the files.
fn real_name(program: &Path, folder: &Path, spec: &str) -> Result<String> {
    let deb = fetch(program, folder, spec)?;
    let depends = output(Command::new("dpkg-deb").arg("-f").arg(&deb).arg("Depends"))?;
    let name = depends.split([' ', ',']).next().context("the kernel's package depends on nothing")?;
    let (rest, _) = spec.rsplit_once('/').context("a spec has slashes")?;
    Ok(format!("{rest}/{name}"))
}

fn hatchway(program: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    let work = folder.join("disk/work");
    fs::create_dir_all(&work)?;
    command.current_dir(work).env("HATCHWAY_DATA_DIR", folder.join("disk/data"));
    Ok(command)
}

fn fetch(program: &Path, folder: &Path, spec: &str) -> Result<PathBuf> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    // Into a store of its own: the guest's disk holds the tool's files only.
    let mut command = Command::new(program);
    command.env("HATCHWAY_DATA_DIR", folder.join("fetched")).args(["fetch", spec, "--to"]).arg(&packages);
    Ok(PathBuf::from(output(&mut command)?))
}

fn unpack(program: &Path, folder: &Path, spec: &str) -> Result<PathBuf> {
    let deb = fetch(program, folder, spec)?;
    let target = folder.join(spec.rsplit('/').next().unwrap_or("package"));
    sh::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&target))?;
    Ok(target)
}

/// The disk before the build: a locked recipe and its downloads. Gives the tree that the host makes of them.
fn make_disk(program: &Path, folder: &Path) -> Result<String> {
    let deb = acme::build(folder)?;
    sh::run(hatchway(program, folder)?.arg("new").arg(&deb).args(["--name", TOOL]))?;
    sh::run(hatchway(program, folder)?.args(["lock", TOOL]))?;
    let built = sh::capture(hatchway(program, folder)?.args(["build", TOOL, "--json"]))?;
    let built: serde_json::Value = serde_json::from_str(&built)?;
    let tree = built["tree"].as_str().context("the build names no tree")?.to_owned();
    let store = folder.join("disk/data/store");
    for part in ["objects", "trees", "manifests", "packages", "builds", "roots", "locks"] {
        sh::remove_folder(&store.join(part))?;
    }
    for empty in ["disk/home", "disk/cache"] {
        fs::create_dir_all(folder.join(empty))?;
    }
    let image = folder.join("base.img");
    sh::run(Command::new("truncate").args(["-s", "600M"]).arg(&image))?;
    sh::run(Command::new("/sbin/mkfs.ext4").args(["-q", "-d"]).arg(folder.join("disk")).arg(&image))?;
    Ok(tree)
}

/// The guest's first file system: both programs, busybox, an `/init` in which `MODULES` are the kernel's modules that are
/// loaded, `further` ones beside those of the disk.
pub(crate) fn make_initramfs(
    program: &Path,
    folder: &Path,
    (kernel, busybox): (&Path, &Path),
    script: &str,
    further: &[&str],
) -> Result<()> {
    let modules = [&MODULES[..], further].concat();
    let root = folder.join("root");
    for name in ["bin", "dev", "proc", "sys", "tmp", "disk", "modules", "lib64"] {
        fs::create_dir_all(root.join(name))?;
    }
    copy(&busybox.join("bin/busybox"), &root.join("bin/busybox"))?;
    copy(program, &root.join("bin/hatchway"))?;
    copy(&program.with_file_name("hatchway-shim"), &root.join("bin/hatchway-shim"))?;
    // The program is linked with the host's libraries; each goes where its loader looks for it.
    for line in output(Command::new("ldd").arg(program))?.lines() {
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path {
            let target = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(target.parent().context("a library has a folder")?)?;
            copy(Path::new(path), &target)?;
        }
    }
    for module in &modules {
        let file = format!("{module}.ko");
        let found = output(Command::new("find").arg(kernel).args(["-name", &file]))?;
        copy(Path::new(&found), &root.join("modules").join(&file))?;
    }
    let init = root.join("init");
    fs::write(&init, script.replace("MODULES", &modules.join(" ")))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let script = "cd \"$1\" && find . | cpio --quiet -o -H newc | gzip -1 > \"$2\"";
    sh::run(Command::new("sh").args(["-c", script, "sh"]).arg(&root).arg(folder.join("initramfs")))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy `{}`", from.display()))
}

fn find(folder: &Path, begins: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| format!("no `{}`", folder.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begins)) {
            return Ok(path);
        }
    }
    bail!("no `{begins}` in `{}`", folder.display())
}
