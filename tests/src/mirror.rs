//! A small Debian archive in memory: pool, `Packages`, `Contents`, and an `InRelease` that is really signed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::compile;
use crate::keys::Key;
use crate::package::{Package, Packing, sha256};
use crate::server::Server;
use crate::tar::gzip;

/// The packages that every base starts from, as `hatchway-envs` lists them. A lock fails when one is missing here.
const BASE: [&str; 15] = [
    "base-files",
    "ca-certificates",
    "tzdata",
    "netbase",
    "dash",
    "bash",
    "coreutils",
    "findutils",
    "grep",
    "sed",
    "mawk",
    "hostname",
    "libc-bin",
    "ncurses-base",
    "procps",
];
/// `Date` of every test archive: it is recorded in locks, and they are compared.
const DATE: &str = "Wed, 01 Jan 2025 00:00:00 UTC";
/// Where Debian keeps libraries.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The loader's folders as Debian configures them.
const LOADER_FOLDERS: &str = "# Multiarch support\n/usr/local/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n";

/// The glibc of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// A library that exports the symbol versions of its time and can do nothing else.
    Exports(&'static str),
    /// The host's own, and its bash: what programs compiled here run with.
    Hosts,
}

/// One suite of an archive.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Code name, as it is asked for.
    pub name: String,
    /// `Codename` and `Suite` as signed; the name otherwise.
    pub signed_as: Option<String>,
    /// `Valid-Until` in seconds from now.
    pub valid_for_s: i64,
    /// Its packages.
    pub packages: Vec<Package>,
}

impl Suite {
    /// A suite with a base.
    #[must_use]
    pub fn new(name: &str, libc: Libc) -> Self {
        Self { name: name.to_owned(), signed_as: None, valid_for_s: 7 * 86_400, packages: base(libc) }
    }

    /// A suite without a base: updates, or a vendor's.
    #[must_use]
    pub fn bare(name: &str) -> Self {
        Self { name: name.to_owned(), signed_as: None, valid_for_s: 7 * 86_400, packages: Vec::new() }
    }

    /// With one more package; one of the same name and architecture is replaced.
    #[must_use]
    pub fn with(mut self, package: Package) -> Self {
        self.packages
            .retain(|there| there.name != package.name || there.architecture != package.architecture);
        self.packages.push(package);
        self
    }

    /// The packages that count for an architecture.
    fn of<'a>(&'a self, architecture: &'a str) -> impl Iterator<Item = &'a Package> {
        self.packages.iter().filter(move |p| p.architecture == architecture || p.architecture == "all")
    }

    fn packages_index(&self, architecture: &str) -> String {
        let mut text = String::new();
        for package in self.of(architecture) {
            let deb = package.deb();
            text.push_str(&package.control());
            text.push_str(&format!(
                "Filename: {}\nSize: {}\nSHA256: {}\n\n",
                self.pool_path(package),
                deb.len(),
                sha256(&deb)
            ));
        }
        text
    }

    fn pool_path(&self, package: &Package) -> String {
        package.filename().replacen("pool/", &format!("pool/{}/", self.name), 1)
    }

    fn contents_index(&self, architecture: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for package in self.of(architecture) {
            lines.extend(package.paths().map(|path| format!("{path:<60} libs/{}\n", package.name)));
        }
        lines.sort();
        lines.concat()
    }
}

/// The suites that most tests use: bullseye, bookworm and trixie with the glibc of each.
#[must_use]
pub fn three_suites() -> Vec<Suite> {
    [("bookworm", "2.36"), ("trixie", "2.41"), ("bullseye", "2.31")]
        .map(|(name, glibc)| Suite::new(name, Libc::Exports(glibc)))
        .to_vec()
}

/// An archive before it is served.
#[derive(Debug)]
pub struct Mirror {
    /// Path → content.
    pub files: BTreeMap<String, Arc<Vec<u8>>>,
    /// Who signs.
    pub key: Key,
    suites: Vec<Suite>,
}

impl Mirror {
    /// An archive of some suites, signed by the key.
    #[must_use]
    pub fn new(suites: Vec<Suite>, key: Key) -> Self {
        let mut files = BTreeMap::new();
        for suite in &suites {
            for package in &suite.packages {
                files.insert(suite.pool_path(package), Arc::new(package.deb()));
            }
            for (path, bytes) in indices(suite) {
                files.insert(format!("dists/{}/{path}", suite.name), Arc::new(bytes));
            }
            let signed = key.clearsign(&release(suite));
            files.insert(format!("dists/{}/InRelease", suite.name), Arc::new(signed.into_bytes()));
        }
        Self { files, key, suites }
    }

    /// An archive with one suite, `bookworm`, whose glibc and bash are the host's.
    #[must_use]
    pub fn runnable() -> Self {
        Self::new(vec![Suite::new("bookworm", Libc::Hosts)], Key::new(1))
    }

    /// The `Release` text of a suite, unsigned.
    #[must_use]
    pub fn release(&self, suite: &str) -> String {
        release(self.suites.iter().find(|s| s.name == suite).unwrap())
    }

    /// Serves it.
    #[must_use]
    pub fn serve(&self) -> Server {
        Server::start(self.files.clone())
    }
}

/// Where the package's file lies on the mirror.
#[must_use]
pub fn pool_path(suite: &str, package: &str, version: &str) -> String {
    format!("pool/{suite}/{package}_{version}_amd64.deb")
}

/// Those of amd64, and of i386 where the suite has a package for it.
fn indices(suite: &Suite) -> Vec<(String, Vec<u8>)> {
    let foreign = suite.packages.iter().any(|package| package.architecture == "i386");
    let architectures = if foreign { &["amd64", "i386"][..] } else { &["amd64"] };
    let both = |architecture: &&str| {
        let packages = gzip(suite.packages_index(architecture).as_bytes());
        let contents = gzip(suite.contents_index(architecture).as_bytes());
        [
            (format!("main/binary-{architecture}/Packages.gz"), packages),
            (format!("main/Contents-{architecture}.gz"), contents),
        ]
    };
    architectures.iter().flat_map(both).collect()
}

fn release(suite: &Suite) -> String {
    let now = SystemTime::now();
    let offset = Duration::from_secs(suite.valid_for_s.unsigned_abs());
    let until = if suite.valid_for_s < 0 { now - offset } else { now + offset };
    let until = httpdate::fmt_http_date(until).replace("GMT", "UTC");
    let signed_as = suite.signed_as.as_deref().unwrap_or(&suite.name);
    let mut text = format!(
        "Origin: Test\nSuite: {signed_as}\nCodename: {signed_as}\nDate: {DATE}\nValid-Until: {until}\nSHA256:\n"
    );
    for (path, bytes) in indices(suite) {
        text.push_str(&format!(" {} {} {path}\n", sha256(&bytes), bytes.len()));
    }
    text
}

fn base(libc: Libc) -> Vec<Package> {
    let mut packages: Vec<Package> = BASE
        .iter()
        .map(|name| Package::new(name, "1.0-1").file(&format!("usr/share/doc/{name}/copyright"), "Free.\n"))
        .collect();
    for package in packages.iter_mut().filter(|package| package.name == "libc-bin") {
        *package = package.clone().file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    }
    let loader = "ld-linux-x86-64.so.2";
    let of_libc = |version: &str| {
        Package::new("libc6", version)
            .packed(Packing::None)
            .file("etc/ld.so.conf.d/x86_64-linux-gnu.conf", LOADER_FOLDERS)
            .link(&format!("lib64/{loader}"), &format!("/{LIBRARIES}/{loader}"))
    };
    match libc {
        Libc::Exports(version) => {
            let library = compile::library("libc.so.6", &glibc_versions(version));
            let loader_library = compile::library(loader, &["GLIBC_2.2.5"]);
            let package = of_libc(&format!("{version}-9"))
                .file(&format!("{LIBRARIES}/libc.so.6"), library)
                .file(&format!("{LIBRARIES}/{loader}"), loader_library);
            packages.push(package);
        }
        Libc::Hosts => {
            let (bash, libraries) = compile::hosts_bash();
            let mut package = of_libc("2.36-9");
            let mut shell = Package::new("bash", "5.2-1").packed(Packing::None).program("bin/bash", bash);
            for (name, bytes) in libraries {
                let path = format!("{LIBRARIES}/{name}");
                if name.starts_with("libc.") || name.starts_with("ld-") {
                    package = package.program(&path, bytes);
                } else {
                    shell = shell.file(&path, bytes);
                }
            }
            packages.retain(|package| package.name != "bash");
            packages.extend([package, shell]);
        }
    }
    packages
}

/// The symbol versions that a glibc exports, as far as the tests use them.
fn glibc_versions(newest: &str) -> Vec<&'static str> {
    let minor = |version: &str| -> u32 { version.split('.').nth(1).unwrap().parse().unwrap() };
    ["GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.28", "GLIBC_2.34", "GLIBC_2.36", "GLIBC_2.38", "GLIBC_2.41"]
        .into_iter()
        .filter(|version| minor(version.trim_start_matches("GLIBC_")) <= minor(newest))
        .collect()
}
