//! The indices of one suite: fetched, verified, parsed, cached in parsed form.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::contents::{self, Libraries};
use super::packages::{self, Package};
use super::relation;
use super::release::{self, Keyring, Policy, Release};
use super::sources::Mirror;
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::Client;
use crate::progress::Progress;

/// The layout of the cache files; another number means they are made anew.
const CACHE_FORMAT: u32 = 1;
/// How far a mirror's clock may be ahead of ours.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 3600);
/// Largest unpacked index: Contents of unstable has 170 MB.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Where an index came from: what the lock records of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `debian:bookworm/main`.
    pub id: String,
    /// `Origin` of the archive.
    pub origin: String,
    /// `Suite` of the archive.
    pub suite: String,
    /// `Codename` of the archive.
    pub codename: String,
    /// Digest of the `InRelease` file.
    pub inrelease_sha256: Sha256,
    /// `Date` of the `InRelease` file.
    pub date: String,
    /// `Valid-Until` of the `InRelease` file.
    pub valid_until: Option<String>,
}

/// The cached, parsed form of one component.
#[derive(Debug, Serialize, Deserialize)]
struct Component {
    format: u32,
    fetched_unix_s: u64,
    source: Source,
    packages: Vec<Package>,
    libraries: Libraries,
}

/// All that is known of one suite.
#[derive(Debug)]
pub struct SuiteIndex {
    /// As it was asked for ("bookworm").
    pub suite: String,
    /// One for each component.
    pub sources: Vec<Source>,
    /// Every package.
    pub packages: Vec<Package>,
    /// Every shared library.
    pub libraries: Libraries,
    by_name: HashMap<String, Vec<usize>>,
    provided: HashMap<String, Vec<(usize, Option<String>)>>,
}

impl SuiteIndex {
    fn new(suite: &str, components: Vec<Component>) -> Self {
        let mut index = Self {
            suite: suite.to_owned(),
            sources: Vec::new(),
            packages: Vec::new(),
            libraries: Libraries::new(),
            by_name: HashMap::new(),
            provided: HashMap::new(),
        };
        for component in components {
            let number = index.sources.len();
            index.sources.push(component.source);
            index.packages.extend(component.packages.into_iter().map(|p| Package { source: number, ..p }));
            for (name, providers) in component.libraries {
                index.libraries.entry(name).or_default().extend(providers);
            }
        }
        index.index();
        index
    }

    #[cfg(test)]
    pub(crate) fn of(packages: Vec<Package>) -> Self {
        let source = Source {
            id: "debian:test/main".into(),
            origin: "Debian".into(),
            suite: "test".into(),
            codename: "test".into(),
            inrelease_sha256: Sha256::of(b""),
            date: String::new(),
            valid_until: None,
        };
        let libraries = Libraries::new();
        Self::new(
            "test",
            vec![Component { format: CACHE_FORMAT, fetched_unix_s: 0, source, packages, libraries }],
        )
    }

    fn index(&mut self) {
        for (number, package) in self.packages.iter().enumerate() {
            self.by_name.entry(package.name.clone()).or_default().push(number);
            // A Provides that cannot be read provides nothing; apt does the same.
            for group in relation::parse(&package.provides, &package.architecture).unwrap_or_default() {
                for relation in group {
                    let version = relation.constraint.map(|(_, version)| version);
                    self.provided.entry(relation.name).or_default().push((number, version));
                }
            }
        }
    }

    /// The packages of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that provide a name, with the version they provide.
    #[must_use]
    pub fn providing(&self, name: &str) -> &[(usize, Option<String>)] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// The newest package of a name.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Package> {
        let packages = self.named(name).iter().map(|&i| &self.packages[i]);
        packages.max_by(|a, b| super::version::compare(&a.version, &b.version))
    }
}

/// Access to Debian's archive.
#[derive(Debug)]
pub struct Archive {
    /// Mirrors, best first.
    pub mirrors: Vec<Mirror>,
    /// Key rings that may sign.
    pub keyrings: Vec<PathBuf>,
    /// Folder of the parsed indices.
    pub cache: PathBuf,
    /// The client for what is not cached.
    pub client: Client,
    /// Cached indices older than this are fetched again; zero for all.
    pub max_age: Duration,
    /// `amd64`.
    pub architecture: String,
}

impl Archive {
    /// The indices of a suite, from the cache where it is young enough.
    ///
    /// # Errors
    /// No mirror or key ring; a download that fails; an index that is unsigned, expired, damaged or another
    /// suite's.
    pub fn suite(
        &self,
        suite: &str,
        components: &[String],
        progress: &dyn Progress,
    ) -> Result<SuiteIndex, Error> {
        let trust = self.trust(suite);
        let mut release = None;
        let mut parsed = Vec::new();
        for component in components {
            let path = self.cache.join(format!(
                "{suite}-{}-{}-{trust}.index",
                component.replace('/', "_"),
                self.architecture
            ));
            let component = match self.cached(&path, suite)? {
                Some(component) => component,
                None => {
                    if release.is_none() {
                        release = Some(self.release(suite, progress)?);
                    }
                    let release = release.as_ref().ok_or(Error::NoMirror)?;
                    let fetched = self.component(suite, component, release, progress)?;
                    store_cache(&path, &fetched)?;
                    fetched
                }
            };
            parsed.push(component);
        }
        Ok(SuiteIndex::new(suite, parsed))
    }

    /// The URLs of a file below the archive's root, best first.
    #[must_use]
    pub fn urls(&self, suite: &str, path: &str) -> Vec<String> {
        self.mirrors.iter().filter(|m| m.serves(suite)).map(|m| format!("{}/{path}", m.url)).collect()
    }

    /// Names the mirrors and the keys: what was read from one mirror under one key says nothing about another.
    fn trust(&self, suite: &str) -> String {
        let mut text = String::new();
        for mirror in self.mirrors.iter().filter(|mirror| mirror.serves(suite)) {
            text += &format!("{}\n", mirror.url);
        }
        for keyring in &self.keyrings {
            // One that cannot be read is an error as soon as something has to be verified.
            let digest = Sha256::of_file(keyring).map_or_else(|_| String::new(), |(digest, _)| digest.hex());
            text += &format!("{digest}\n");
        }
        Sha256::of(text.as_bytes()).short()
    }

    /// The policy for what is cached: as lenient as the most lenient mirror it may have come from.
    fn policy(&self, suite: &str) -> Policy {
        let mut serving = self.mirrors.iter().filter(|mirror| mirror.serves(suite));
        Policy { now: SystemTime::now(), check_valid_until: serving.all(|mirror| mirror.check_valid_until) }
    }

    fn cached(&self, path: &Path, suite: &str) -> Result<Option<Component>, Error> {
        let Ok(bytes) = std::fs::read(path) else { return Ok(None) };
        // A cache file of another format or a damaged one is simply made anew.
        let Some(component) = decode(&bytes) else { return Ok(None) };
        let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(component.fetched_unix_s);
        let young = SystemTime::now().duration_since(fetched).is_ok_and(|age| age < self.max_age);
        if !young {
            return Ok(None);
        }
        release::check_valid_until(
            &component.source.id,
            component.source.valid_until.as_deref(),
            self.policy(suite),
        )?;
        Ok(Some(component))
    }

    /// The `InRelease` of the first mirror that has a good one, each judged by its own policy.
    fn release(&self, suite: &str, progress: &dyn Progress) -> Result<Release, Error> {
        if !self.mirrors.iter().any(|mirror| mirror.serves(suite)) {
            return Err(Error::NoMirror);
        }
        if self.keyrings.is_empty() {
            return Err(Error::NoKeyring);
        }
        progress.note(&format!("reading the indices of {suite}"));
        let keyring = Keyring::load(&self.keyrings)?;
        let mut first = None;
        for mirror in self.mirrors.iter().filter(|mirror| mirror.serves(suite)) {
            match self.release_of(mirror, suite, &keyring) {
                Ok(release) => return Ok(release),
                Err(error @ Error::Offline { .. }) => return Err(error),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.unwrap_or(Error::NoMirror))
    }

    fn release_of(&self, mirror: &Mirror, suite: &str, keyring: &Keyring) -> Result<Release, Error> {
        let id = format!("debian:{suite}");
        let url = format!("{}/dists/{suite}/InRelease", mirror.url);
        let bytes = self.client.get(&[url], &format!("`InRelease` of {id}"))?;
        let bad = |reason: String| Error::BadIndex { index: id.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| bad("it is not text".into()))?;
        let policy = Policy { now: SystemTime::now(), check_valid_until: mirror.check_valid_until };
        let release = release::verify(&id, &text, keyring, policy)?;
        // A signed index of another suite must not pass for this one.
        if release.codename != suite && release.suite != suite {
            let named = format!("`{}` ({})", release.codename, release.suite);
            return Err(bad(format!("it is signed for {named}, not for `{suite}`")));
        }
        if mirror.check_valid_until {
            self.refuse_older(suite, &release).map_err(bad)?;
        }
        Ok(release)
    }

    /// Debian's stable suites never expire, so an old index, validly signed, could be served for ever. One that is older
    /// than what was read before is refused; so is one from the future.
    fn refuse_older(&self, suite: &str, release: &Release) -> Result<(), String> {
        let time = |date: &str| httpdate::parse_http_date(&date.replace("UTC", "GMT")).ok();
        let Some(date) = time(&release.date) else {
            return Err(format!("its Date `{}` is no date", release.date));
        };
        if date > SystemTime::now() + CLOCK_SLACK {
            return Err(format!(
                "it is of {}, which is to come: is this computer's clock right?",
                release.date
            ));
        }
        let seen = self.cache.join(format!("{suite}-{}.newest", self.trust(suite)));
        let before = std::fs::read_to_string(&seen).unwrap_or_default();
        if time(&before).is_some_and(|before| before > date) {
            return Err(format!(
                "it is of {}, older than the one of {before} that was read before",
                release.date
            ));
        }
        let written = std::fs::create_dir_all(&self.cache)
            .map_err(Error::io("create", &self.cache))
            .and_then(|()| crate::lock::write_atomically(&seen, release.date.as_bytes()));
        written.map_err(|error| error.to_string())
    }

    fn component(
        &self,
        suite: &str,
        component: &str,
        release: &Release,
        progress: &dyn Progress,
    ) -> Result<Component, Error> {
        let id = format!("debian:{suite}/{component}");
        let packages_path = format!("{component}/binary-{}/Packages", self.architecture);
        let text =
            self.index(suite, &id, release, &packages_path, progress)?.ok_or_else(|| Error::BadIndex {
                index: id.clone(),
                reason: format!("it has no `{packages_path}`: is `{component}` a component of {suite}?"),
            })?;
        let mut libraries = Libraries::new();
        let contents_path = format!("{component}/Contents-{}", self.architecture);
        // Small archives have no Contents; sonames are then resolved by name through Depends alone.
        if let Some(text) = self.index(suite, &id, release, &contents_path, progress)? {
            contents::parse(&text, &mut libraries);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Component {
            format: CACHE_FORMAT,
            fetched_unix_s: now,
            source: Source {
                id,
                origin: release.origin.clone(),
                suite: release.suite.clone(),
                codename: release.codename.clone(),
                inrelease_sha256: release.sha256,
                date: release.date.clone(),
                valid_until: release.valid_until.clone(),
            },
            packages: packages::parse(&text, 0),
            libraries,
        })
    }

    /// Fetches, verifies and unpacks one index file in the best form the archive has.
    fn index(
        &self,
        suite: &str,
        id: &str,
        release: &Release,
        path: &str,
        progress: &dyn Progress,
    ) -> Result<Option<String>, Error> {
        let forms = [".xz", ".gz", ""];
        let Some((form, &(sha256, size))) =
            forms.iter().find_map(|form| Some((*form, release.indices.get(&format!("{path}{form}"))?)))
        else {
            return Ok(None);
        };
        let what = format!("`{path}{form}` of {id}");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let plain = format!("dists/{suite}/{path}{form}");
        let by_hash = format!("dists/{suite}/{folder}/by-hash/SHA256/{sha256}");
        let location = if release.by_hash { by_hash } else { plain };
        progress.begin(&what, size);
        let bytes = self.client.get(&self.urls(suite, &location), &what)?;
        progress.advance(bytes.len() as u64);
        progress.end();
        let found = Sha256::of(&bytes);
        if found != sha256 {
            return Err(Error::WrongHash { what, expected: sha256, found });
        }
        unpack(&bytes, form).map(Some).map_err(|e| Error::BadIndex { index: what, reason: e.to_string() })
    }
}

fn unpack(bytes: &[u8], form: &str) -> std::io::Result<String> {
    let reader: Box<dyn Read + '_> = match form {
        ".xz" => Box::new(liblzma::read::XzDecoder::new(bytes)),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        _ => Box::new(bytes),
    };
    let mut text = Vec::new();
    reader.take(UNPACKED_BYTES_MAX).read_to_end(&mut text)?;
    // File names in Contents are bytes; a name that is not UTF-8 cannot be a library that anybody links with.
    Ok(String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn decode(bytes: &[u8]) -> Option<Component> {
    let (digest, body) = bytes.split_at_checked(64)?;
    let digest: Sha256 = std::str::from_utf8(digest).ok()?.parse().ok()?;
    if digest != Sha256::of(body) {
        return None;
    }
    let component: Component = postcard::from_bytes(body).ok()?;
    (component.format == CACHE_FORMAT).then_some(component)
}

fn store_cache(path: &Path, component: &Component) -> Result<(), Error> {
    let body = postcard::to_stdvec(component).map_err(|e| Error::Io {
        action: "encode",
        path: path.to_owned(),
        source: std::io::Error::other(e),
    })?;
    let mut bytes = Sha256::of(&body).hex().into_bytes();
    bytes.extend(body);
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    crate::lock::write_atomically(path, &bytes)
}
