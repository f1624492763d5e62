//! Packages with the host's own programs, for what runs scripts inside a tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::mirror::{LIBRARIES, Libc, Suite};
use crate::package::{Package, Packing};

/// What scripts of installers and packages call, by the package of Debian's that has it.
const PROGRAMS: [(&str, &[&str]); 9] = [
    (
        "coreutils",
        &[
            "basename", "cat", "chmod", "chown", "cksum", "cp", "cut", "date", "dd", "df", "dirname", "du",
            "env", "expr", "head", "id", "ln", "ls", "md5sum", "mkdir", "mknod", "mktemp", "mv", "od", "pwd",
            "rm", "seq", "sleep", "sort", "stat", "stty", "tail", "test", "touch", "tr", "tty", "uname",
            "wc", "yes",
        ],
    ),
    ("dash", &["dash"]),
    ("grep", &["grep"]),
    ("sed", &["sed"]),
    ("mawk", &["mawk"]),
    ("tar", &["tar"]),
    ("gzip", &["gzip"]),
    ("bsdutils", &["script"]),
    ("util-linux", &["mount", "setsid", "unshare"]),
];

/// What dpkg and the scripts of packages call beside [`PROGRAMS`]; a path where it is not in `/usr/bin`.
const FOR_DPKG: [(&str, &[&str]); 9] = [
    ("base-passwd", &[]),
    ("debconf", &[]),
    ("debianutils", &["run-parts"]),
    ("diffutils", &["diff"]),
    ("dpkg", &["dpkg", "dpkg-deb", "dpkg-split", "update-alternatives", "/usr/sbin/start-stop-daemon"]),
    ("init-system-helpers", &[]),
    ("perl-base", &["perl"]),
    ("libc-bin", &["/usr/sbin/ldconfig", "locale", "localedef"]),
    ("findutils", &["find"]),
];
/// Sources of locales that German ones are made from.
const LOCALES: [&str; 4] = ["de_DE", "en_US", "en_GB", "i18n"];

/// A suite whose programs are the host's, and which can configure packages by their scripts.
#[must_use]
pub fn suite_with_dpkg(name: &str) -> Suite {
    let mut suite = suite(name);
    for (package, programs) in FOR_DPKG {
        let mut made = with_programs(package, programs);
        if package == "libc-bin" {
            made = made.file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
        }
        suite = suite.with(made);
    }
    suite
}

/// The package `locales` with what German ones are made from.
#[must_use]
pub fn locales() -> Package {
    let mut made = Package::new("locales", "1.0-1").of("all").packed(Packing::None);
    let folder = Path::new("/usr/share/i18n");
    let listed = std::fs::read_dir(folder.join("locales"))
        .unwrap_or_else(|error| panic!("{}: {error}: install the package `locales`", folder.display()));
    let mut names: Vec<String> =
        listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let parts = ["i18n", "iso14651", "translit_"];
    names.retain(|name| LOCALES.contains(&name.as_str()) || parts.iter().any(|part| name.starts_with(part)));
    let mut paths: Vec<String> = names.iter().map(|name| format!("locales/{name}")).collect();
    paths.extend(["SUPPORTED", "charmaps/UTF-8.gz", "charmaps/ISO-8859-1.gz"].map(str::to_owned));
    for path in paths {
        made = made.file(&format!("usr/share/i18n/{path}"), std::fs::read(folder.join(&path)).unwrap());
    }
    made
}

/// A suite whose programs are the host's.
#[must_use]
pub fn suite(name: &str) -> Suite {
    let mut suite = Suite::new(name, Libc::Hosts);
    for package in packages() {
        suite = suite.with(package.clone());
    }
    // Named by every recipe that runs an installer; what is in them no test needs.
    for name in ["bzip2", "xz-utils"] {
        suite = suite.with(Package::new(name, "1.0-1"));
    }
    suite
}

fn packages() -> &'static [Package] {
    static MADE: OnceLock<Vec<Package>> = OnceLock::new();
    MADE.get_or_init(|| PROGRAMS.iter().map(|(package, programs)| with_programs(package, programs)).collect())
}

/// systemd with its units, as the host has it; and `dbus`, in which there is nothing.
///
/// # Panics
/// Where the host has no systemd.
#[must_use]
pub fn systemd() -> [Package; 2] {
    let programs = [
        "/lib/systemd/systemd",
        "/lib/systemd/systemd-journald",
        "/lib/systemd/systemd-shutdown",
        "systemctl",
        "journalctl",
    ];
    let mut made = with_programs("systemd", &programs);
    let mut folders = vec![PathBuf::from("/lib/systemd/system")];
    while let Some(folder) = folders.pop() {
        let listed = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}: install the package `systemd`", folder.display()));
        let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.to_string_lossy().trim_start_matches('/').to_owned();
            match std::fs::read_link(&path) {
                Ok(target) => made = made.link(&name, &target.to_string_lossy()),
                Err(_) if path.is_dir() => folders.push(path),
                Err(_) => made = made.file(&name, std::fs::read(&path).unwrap()),
            }
        }
    }
    [made, Package::new("dbus", "1.0-1")]
}

/// A package with programs of the host and the libraries they are loaded with. glibc itself is the suite's.
#[must_use]
pub fn with_programs(package: &str, programs: &[&str]) -> Package {
    let mut made = Package::new(package, "1.0-1").packed(Packing::None);
    let mut libraries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for program in programs {
        let path =
            if program.starts_with('/') { (*program).to_owned() } else { format!("/usr/bin/{program}") };
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}: install the package `{package}`"));
        made = made.program(&path[1..], bytes);
        let ldd = Command::new("ldd").arg(&path).output().expect("ldd is missing: install `libc-bin`");
        for word in String::from_utf8(ldd.stdout).unwrap().split_whitespace() {
            let name = Path::new(word).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let glibc = name.starts_with("libc.") || name.starts_with("ld-");
            if word.starts_with('/') && !glibc {
                libraries.insert(name, std::fs::read(word).unwrap());
            }
        }
    }
    if programs.contains(&"mawk") {
        made = made.link("usr/bin/awk", "mawk");
    }
    for (name, bytes) in libraries {
        made = made.file(&format!("{LIBRARIES}/{name}"), bytes);
    }
    made
}
