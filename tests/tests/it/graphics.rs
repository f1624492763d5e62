//! The host's graphics driver, on made-up hosts: folders that look like an installed driver of NVIDIA's, with real libraries
//! from gcc in them. No GPU is needed, and none was there: what is tried is which files a tool gets to see.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};

use super::machine::Machine;
use super::sources::with_i386;

/// Loads each library that it is given and says where its function is.
const PROBE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        Dl_info info;
        void *library = dlopen(words[i], RTLD_NOW), *function = library ? dlsym(library, "plain") : 0;
        if (function && dladdr(function, &info)) printf("%s\n", info.dli_fname);
        else printf("%s is not there\n", words[i]);
    }
    return 0;
}
"#;
const VERSION: &str = "550.54.14";
const OLD: &str = "535.183.01";
const AMD64: &str = "usr/lib/x86_64-linux-gnu";
const INSIDE: &str = "/usr/lib/hatchway/driver/x86-64";

/// A made-up host.
struct Host(PathBuf);

impl Host {
    fn new(machine: &Machine) -> Self {
        let root = machine.bench.path("host");
        fs::create_dir_all(&root).unwrap();
        machine.bench.configure(&format!("driver-root = \"{}\"\n", root.display()));
        Self(root)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    fn library(&self, folder: &str, soname: &str, version: &str) -> &Self {
        let stem = soname.split(".so").next().unwrap();
        self.put(&format!("{folder}/{stem}.so.{version}"), compile::library(soname, &[]))
    }

    fn module(&self, version: &str) -> &Self {
        self.put("sys/module/nvidia/version", format!("{version}\n"))
    }

    fn cache(&self) {
        let output = Command::new("unshare").args(["-r", "ldconfig", "-r"]).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The one second cache of a bench, as the host's `ldconfig` reads it: an oracle for what we write.
fn printed_cache(bench: &Bench) -> String {
    let folder = bench.path("cache/hatchway/driver-caches");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let output = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(&files[0]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn for_both(test: impl Fn(&Machine)) {
    for bench in [Bench::new(), Bench::ordinary()] {
        let machine = Machine::of(bench, &Mirror::runnable(), compile::program(PROBE));
        machine.asks("gpu = true", "");
        test(&machine);
    }
}

/// A driver as Debian installs it, beside the remains of an older one.
fn debians(host: &Host) {
    let current = format!("{AMD64}/nvidia/current");
    host.module(VERSION);
    host.library(&current, "libcuda.so.1", VERSION).library(&current, "libcuda.so.1", OLD);
    host.link(&format!("{current}/libcuda.so.1"), &format!("libcuda.so.{VERSION}"));
    host.link(&format!("{AMD64}/libcuda.so.1"), "/etc/alternatives/nvidia--libcuda.so.1");
    host.link("etc/alternatives/nvidia--libcuda.so.1", &format!("/{current}/libcuda.so.1"));
    host.link(&format!("{AMD64}/libcuda.so"), "libcuda.so.1");
    host.library(AMD64, "libGLX_nvidia.so.0", VERSION).library(AMD64, "libGLX_nvidia.so.0", OLD);
    host.library(AMD64, "libnvidia-allocator.so.1", VERSION);
    let glcore = format!("libnvidia-glcore.so.{VERSION}");
    host.library(AMD64, &glcore, VERSION).library(AMD64, "libnvidia-egl-wayland.so.1", "1.1.13");
    host.link(&format!("{AMD64}/gbm/nvidia-drm_gbm.so"), &format!("../libnvidia-allocator.so.{VERSION}"));
    // Not the driver's: dispatchers, the container toolkit, Mesa's.
    host.library(AMD64, "libGL.so.1", VERSION).library(AMD64, "libnvidia-container.so.1", "1.14.0");
    host.library(AMD64, "libGLX_mesa.so.0", "0.0.0");
    host.put(
        "etc/vulkan/icd.d/nvidia_icd.json",
        r#"{"ICD": {"library_path": "/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0"}}"#,
    );
    host.put(
        "usr/share/vulkan/icd.d/radeon_icd.json",
        r#"{"ICD": {"library_path": "/usr/lib/x86_64-linux-gnu/libvulkan_radeon.so"}}"#,
    );
    host.put(&format!("usr/share/nvidia/nvidia-application-profiles-{VERSION}-rc"), "profiles");
    host.put(&format!("usr/share/nvidia/nvidia-application-profiles-{OLD}-rc"), "old");
}

#[test]
fn the_drivers_libraries_of_the_modules_version_are_there_by_soname() {
    for_both(|machine| {
        let host = Host::new(machine);
        debians(&host);
        let glcore = format!("libnvidia-glcore.so.{VERSION}");
        let names = ["--", "libcuda.so.1", "libcuda.so", "libGLX_nvidia.so.0", &glcore, "libGL.so.1"];
        let outcome = machine.run(&names).ok();
        // One file by two names is loaded once, under the first.
        let cuda = format!("{INSIDE}/libcuda.so.1");
        let expected = format!(
            "{cuda}\n{cuda}\n{INSIDE}/libGLX_nvidia.so.0\n{INSIDE}/{glcore}\nlibGL.so.1 is not there\n"
        );
        assert_eq!(outcome.stdout, expected, "{outcome}");
        let script = format!(
            "cd {INSIDE}; echo *; cd /usr/share/nvidia; echo *; echo /usr/share/vulkan/icd.d/*; \
             while read -r line; do echo \"$line\"; done </etc/vulkan/icd.d/nvidia_icd.json; \
             test -e /usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so && echo gbm; \
             echo >{INSIDE}/libcuda.so.1; mv /usr/lib/hatchway /usr/lib/other"
        );
        let shown = machine.shell(&[], &script);
        let listed = format!(
            "libGLX_nvidia.so.0 libGLX_nvidia.so.{VERSION} libcuda.so libcuda.so.1 libcuda.so.{VERSION} \
             libnvidia-allocator.so.1 libnvidia-allocator.so.{VERSION} libnvidia-egl-wayland.so.1 \
             libnvidia-egl-wayland.so.1.1.13 {glcore}\nnvidia-application-profiles-{VERSION}-rc\n\
             /usr/share/vulkan/icd.d/*\n{{\n\"ICD\": {{\n\"library_path\": \"libGLX_nvidia.so.0\"\n}}\n}}\ngbm\n"
        );
        assert_eq!(shown.stdout, listed, "{shown}");
        assert!(shown.stderr.contains("Read-only file system"), "{shown}");
        let cache = printed_cache(&machine.bench);
        assert!(
            cache.contains(&format!("libcuda.so.1 (libc6,x86-64) => {INSIDE}/libcuda.so.1\n")),
            "{cache}"
        );
        assert!(cache.contains("libc.so.6 (libc6,x86-64) => /"), "the tree's own stay: {cache}");
        assert!(!cache.contains(OLD) && !cache.contains("libGL.so.1"), "{cache}");
    });
}

#[test]
fn each_driver_has_a_cache_of_its_own() {
    let machine = Machine::of(Bench::new(), &Mirror::runnable(), compile::program(PROBE));
    machine.asks("gpu = true", "");
    let host = Host::new(&machine);
    debians(&host);
    let folder = machine.bench.path("cache/hatchway/driver-caches");
    let count = || fs::read_dir(&folder).unwrap().count();
    for _ in 0..2 {
        drop(machine.run(&["--", "libcuda.so.1"]).ok());
        assert_eq!(count(), 1);
    }
    host.module(OLD);
    let outcome = machine.run(&["--", &format!("libnvidia-glcore.so.{VERSION}"), "libcuda.so.1"]).ok();
    let expected = format!("libnvidia-glcore.so.{VERSION} is not there\n{INSIDE}/libcuda.so.1\n");
    assert_eq!((outcome.stdout.as_str(), count()), (expected.as_str(), 2), "{outcome}");
    assert!(outcome.stderr.is_empty(), "quiet, and its note is in exit.json: {outcome}");
}

#[test]
fn libraries_in_odd_places_are_found_by_the_hosts_cache() {
    for_both(|machine| {
        let host = Host::new(machine);
        host.put(
            "proc/driver/nvidia/version",
            format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  x\n"),
        );
        host.library("opt/nv/lib", "libcuda.so.1", VERSION).put("etc/ld.so.conf", "/opt/nv/lib\n");
        host.cache();
        // Links of the host lead nowhere else than into its driver's root, and what is no library is left out.
        host.link(&format!("{AMD64}/libnvidia-ml.so.{VERSION}"), "../../../../../../../../etc/passwd");
        host.put("etc/passwd", "not a library");
        host.put(&format!("{AMD64}/libnvidia-ptxjitcompiler.so.{VERSION}"), "\x7fELF not a library");
        let outcome =
            machine.bench.hatchway(&["run", "acme", "--", "libcuda.so.1", "libnvidia-ml.so.1"]).ok();
        assert_eq!(outcome.stdout, format!("{INSIDE}/libcuda.so.1\nlibnvidia-ml.so.1 is not there\n"));
        assert!(
            outcome.stderr.contains(&format!("libnvidia-ptxjitcompiler.so.{VERSION}` is left out")),
            "{outcome}"
        );
        assert!(!outcome.stderr.contains("passwd"), "{outcome}");
    });
}

#[test]
fn another_version_than_the_modules_is_an_error_with_both() {
    for_both(|machine| {
        let host = Host::new(machine);
        debians(&host);
        host.module("560.28.03");
        let outcome = machine.run(&["--", "libcuda.so.1"]);
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stderr.contains("560.28.03"), "{outcome}");
        assert!(outcome.stderr.contains(&format!("installed: {OLD}, {VERSION}")), "{outcome}");
        assert!(outcome.stderr.contains("hint: after an update of the driver, restart"), "{outcome}");
        let told = machine.bench.hatchway(&["doctor"]);
        assert!(told.stdout.contains("✗ GPU: NVIDIA's kernel module 560.28.03"), "{told}");
    });
}

#[test]
fn without_a_gpu_the_tool_runs_and_it_is_said() {
    for_both(|machine| {
        let host = Host::new(machine);
        host.library(AMD64, "libcuda.so.1", VERSION);
        let outcome = machine.bench.hatchway(&["run", "acme", "--", "libcuda.so.1"]).ok();
        assert_eq!(outcome.stdout, "libcuda.so.1 is not there\n", "{outcome}");
        // A machine with a GPU of another maker has something to draw with.
        if !Path::new("/dev/dri").exists() {
            let why = "NVIDIA's libraries 550.54.14 are installed and its kernel module is not loaded";
            assert!(outcome.stderr.contains(why), "{outcome}");
            assert!(machine.run(&["--explain"]).ok().stdout.contains("note: no GPU on this host"));
        }
    });
}

#[test]
fn a_program_for_i386_gets_the_drivers_libraries_for_i386() {
    let mirror = Mirror::new(vec![with_i386(Suite::new("bookworm", Libc::Hosts))], Key::new(1));
    let machine = Machine::of(Bench::new(), &mirror, compile::program(PROBE));
    let host = Host::new(&machine);
    debians(&host);
    let i386 = |soname: &str| compile::library_for_i386(soname);
    host.put(&format!("usr/lib/i386-linux-gnu/libcuda.so.{VERSION}"), i386("libcuda.so.1"));
    host.put(&format!("usr/lib/i386-linux-gnu/libGLX_nvidia.so.{OLD}"), i386("libGLX_nvidia.so.0"));
    machine.asks("gpu = true", "");
    let one = machine.run(&["--explain"]).ok().stdout;
    assert!(!one.contains("driver/i386"), "{one}");
    let recipe = machine.bench.read("recipes/acme/recipe.toml");
    let recipe =
        if recipe.contains("[environment]\n") { recipe } else { format!("{recipe}\n[environment]\n") };
    let both = recipe.replace(
        "[environment]\n",
        "[environment]\narchitectures = [\"amd64\", \"i386\"]\npackages = [\"libold1:i386\"]\n",
    );
    machine.bench.put("recipes/acme/recipe.toml", both);
    let caches = machine.bench.path("cache/hatchway/driver-caches");
    fs::read_dir(&caches).unwrap().flatten().for_each(|entry| fs::remove_file(entry.path()).unwrap());
    for step in ["lock", "build"] {
        drop(machine.bench.hatchway(&[step, "acme"]).ok());
    }
    let explained = machine.run(&["--explain"]).ok().stdout;
    let bound = format!(
        "usr/lib/i386-linux-gnu/libcuda.so.{VERSION}` at `/usr/lib/hatchway/driver/i386/libcuda.so.1`"
    );
    assert!(explained.contains(&bound), "{explained}");
    assert!(!explained.contains(OLD), "{explained}");
    let cache = printed_cache(&machine.bench);
    for line in [
        "libcuda.so.1 (libc6,x86-64) => /usr/lib/hatchway/driver/x86-64/libcuda.so.1\n",
        "libcuda.so.1 (libc6) => /usr/lib/hatchway/driver/i386/libcuda.so.1\n",
    ] {
        assert!(cache.contains(line), "{line}{cache}");
    }
}

#[test]
fn nodes_of_a_gpu_are_shown_and_their_group_is_given() {
    assert!(is_root(), "run this test as root: it makes device nodes of its own");
    let machine = Machine::of(Bench::new(), &Mirror::runnable(), compile::program(PROBE));
    machine.asks("gpu = true", "");
    let host = Host::new(&machine);
    debians(&host);
    // A `/dev` of this test alone, in which `/dev/zero` plays the GPU.
    let script = "cd \"$TMPDIR\" && mkdir dev && mount -t tmpfs -o mode=755 dev dev && mkdir dev/dri dev/nvidia-caps dev/shm
        mkdir dev/pts && ln -s /proc/self/fd dev/fd
        for n in null zero full random urandom tty; do : >dev/$n; mount --bind /dev/$n dev/$n; done
        mknod -m 666 dev/nvidia0 c 1 5; mknod -m 666 dev/nvidiactl c 1 5; mknod -m 444 dev/nvidia-caps/nvidia-cap2 c 1 5
        mknod -m 660 dev/dri/renderD128 c 1 5; chown 0:4711 dev/dri/renderD128; : >dev/nvidia-file; ln -s zero dev/nvidia9
        mount --rbind dev /dev && cd \"$OLDPWD\" && \"$HATCHWAY\" shell acme -- -c '
        echo /dev/nvidia* /dev/nvidia-caps/* /dev/dri/*; { : </dev/dri/renderD128; } && echo readable
        test -d /sys/dev/char && echo sys'";
    let outcome = machine.bench.mounting_script(script).ok();
    let expected = "/dev/nvidia-caps /dev/nvidia0 /dev/nvidiactl /dev/nvidia-caps/nvidia-cap2 /dev/dri/renderD128\n\
                    readable\nsys\n";
    assert_eq!(outcome.stdout, expected, "{outcome}");
    let without = machine.bench.hatchway(&["run", "acme", "--", "libcuda.so.1"]).ok();
    assert!(without.stderr.contains("`nvidia-modprobe -c 0 -u`"), "{without}");
}
