//! An archive and its mirrors: indices fetched, verified, parsed, cached in parsed form.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::cache;
use super::contents::{self, Libraries};
use super::index::{CACHE_FORMAT, Part, Source, SuiteIndex};
use super::packages;
use super::release::{self, Keyring, Policy, Release};
use super::sources::{Holds, Mirror};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::Client;
use crate::progress::Progress;

/// How far a mirror's clock may be ahead of ours.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 3600);

/// Access to an archive: Debian's, or a vendor's. Its keys are believed for it alone.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The first part of its sources' ids: `debian`, or `source:<name>`.
    pub id: String,
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
}

/// What is read of an archive.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The suite: `bookworm`, or with a slash at its end a folder that holds the index itself.
    pub suite: &'a str,
    /// `main` …; none where the suite is such a folder.
    pub components: &'a [String],
    /// The native architecture first.
    pub architectures: &'a [String],
    /// Whether a component that the suite lacks is an error. Not so where another suite has it.
    pub required: bool,
}

impl Archive {
    /// The indices of one suite alone.
    ///
    /// # Errors
    /// See [`Self::parts`].
    pub fn suite(&self, scope: Scope<'_>, progress: &dyn Progress) -> Result<SuiteIndex, Error> {
        let native = scope.architectures.first().map_or("", String::as_str);
        Ok(SuiteIndex::join(scope.suite, native, self.parts(scope, progress)?))
    }

    /// The indices of a suite, from the cache where it is young enough.
    ///
    /// # Errors
    /// No mirror or key ring; a download that fails; an index that is unsigned, expired, damaged or another
    /// suite's.
    pub fn parts(&self, scope: Scope<'_>, progress: &dyn Progress) -> Result<Vec<Part>, Error> {
        let flat = [String::new()];
        let components = if is_flat(scope.suite) { &flat[..] } else { scope.components };
        let wanted: Vec<(&str, &str)> = components
            .iter()
            .flat_map(|component| scope.architectures.iter().map(|a| (component.as_str(), a.as_str())))
            .collect();
        let mut cached = self.cached(scope.suite, &wanted)?;
        let of_one = |parts: &[Option<Part>]| {
            let mut digests = parts.iter().map(|part| part.as_ref().map(|p| p.source.inrelease_sha256));
            let first = digests.next().flatten();
            first.is_some() && digests.all(|digest| digest == first)
        };
        if of_one(&cached) {
            return Ok(cached.into_iter().flatten().collect());
        }
        // Parts of two states of an archive do not fit together: what the cache has counts only if it is of this one.
        let release = self.release(scope.suite, progress)?;
        let mut parts = Vec::new();
        for (number, (component, architecture)) in wanted.into_iter().enumerate() {
            let kept = cached[number].take().filter(|p| p.source.inrelease_sha256 == release.sha256);
            let part = match kept {
                Some(part) => part,
                None => {
                    let native = scope.architectures.first().is_some_and(|a| a == architecture);
                    let place = Place {
                        suite: scope.suite,
                        component,
                        architecture,
                        required: native && scope.required,
                    };
                    let part = self.part(place, &release, progress)?;
                    cache::store(&self.cache_file(scope.suite, component, architecture), &part)?;
                    part
                }
            };
            parts.push(part);
        }
        Ok(parts)
    }

    /// As [`Self::parts`], but nothing where no mirror has the suite, or no mirror is known that would.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub fn parts_if_there(
        &self,
        scope: Scope<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<Part>>, Error> {
        if !self.mirrors.iter().any(|mirror| mirror.serves(scope.suite)) {
            self.tell_absent(scope.suite, progress);
            return Ok(None);
        }
        let absent = self.cache.join(format!("{}.absent", self.cache_name(scope.suite)));
        if cache::age(&absent).is_some_and(|age| age < self.max_age) {
            self.tell_absent(scope.suite, progress);
            return Ok(None);
        }
        match self.parts(scope, progress) {
            Err(Error::DownloadStatus { status: 404, .. }) => {
                std::fs::create_dir_all(&self.cache).map_err(Error::io("create", &self.cache))?;
                crate::lock::write_atomically(&absent, b"no mirror has this suite\n")?;
                self.tell_absent(scope.suite, progress);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Whoever lists a suite of updates, or names a mirror of the security archive, believes to get what is there.
    fn tell_absent(&self, suite: &str, progress: &dyn Progress) {
        let names = |mirror: &&Mirror| mirror.named.iter().any(|named| named == suite);
        let promises = |mirror: &&Mirror| mirror.holds == Holds::Security && mirror.serves(suite);
        let by = match (self.mirrors.iter().find(names), self.mirrors.iter().find(promises)) {
            (Some(mirror), _) => format!("{} names {suite}", mirror.origin),
            (None, Some(mirror)) => format!("{} names a mirror for {suite}", mirror.origin),
            (None, None) => return,
        };
        progress.warn(&format!("{by}, and no mirror has it: its packages are not in the lock"));
    }

    /// The URLs of a file below the archive's root, best first.
    #[must_use]
    pub fn urls(&self, suite: &str, path: &str) -> Vec<String> {
        let path = path.strip_prefix("./").unwrap_or(path);
        self.mirrors.iter().filter(|m| m.serves(suite)).map(|m| format!("{}/{path}", m.url)).collect()
    }

    /// The id of a source, as locks name it.
    #[must_use]
    pub fn source_id(&self, suite: &str, component: &str) -> String {
        match (self.id.as_str(), component) {
            ("debian", _) => format!("debian:{suite}/{component}"),
            (id, "") => id.to_owned(),
            (id, _) => format!("{id}/{component}"),
        }
    }

    fn cache_name(&self, suite: &str) -> String {
        let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        let name = if self.id == "debian" { plain(suite) } else { plain(&format!("{}-{suite}", self.id)) };
        format!("{name}-{}", self.trust(suite))
    }

    fn cache_file(&self, suite: &str, component: &str, architecture: &str) -> PathBuf {
        let component = component.replace('/', "_");
        self.cache.join(format!("{}-{component}-{architecture}.index", self.cache_name(suite)))
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

    /// What the cache has of the wanted components and architectures, read on all cores.
    fn cached(&self, suite: &str, wanted: &[(&str, &str)]) -> Result<Vec<Option<Part>>, Error> {
        let paths: Vec<PathBuf> = wanted.iter().map(|(c, a)| self.cache_file(suite, c, a)).collect();
        let parts: Vec<Option<Part>> = std::thread::scope(|scope| {
            let readers: Vec<_> =
                paths.iter().map(|path| scope.spawn(|| cache::load(path, self.max_age))).collect();
            // A reader that panicked has read nothing.
            readers.into_iter().map(|reader| reader.join().ok().flatten()).collect()
        });
        for source in parts.iter().flatten().map(|part| &part.source) {
            release::check_valid_until(&source.id, source.valid_until.as_deref(), self.policy(suite))?;
        }
        Ok(parts)
    }

    /// The `InRelease` of the first mirror that has a good one, each judged by its own policy.
    fn release(&self, suite: &str, progress: &dyn Progress) -> Result<Release, Error> {
        if !self.mirrors.iter().any(|mirror| mirror.serves(suite)) {
            return Err(Error::NoMirror);
        }
        if self.keyrings.is_empty() {
            return Err(Error::NoKeyring);
        }
        let keyring = Keyring::load(&self.keyrings)?;
        let mut first = None;
        progress.note(&format!("reading the indices of {}", self.title(suite)));
        for mirror in self.mirrors.iter().filter(|mirror| mirror.serves(suite)) {
            match self.release_of(mirror, suite, &keyring) {
                Ok(release) => return Ok(release),
                Err(error @ Error::Offline { .. }) => return Err(error),
                // That one mirror lacks a suite says less than why another cannot be used.
                Err(error) if matches!(first, None | Some(Error::DownloadStatus { status: 404, .. })) => {
                    first = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(first.unwrap_or(Error::NoMirror))
    }

    /// What messages call a suite.
    fn title(&self, suite: &str) -> String {
        if self.id == "debian" { suite.to_owned() } else { self.id.clone() }
    }

    fn release_of(&self, mirror: &Mirror, suite: &str, keyring: &Keyring) -> Result<Release, Error> {
        let id = if self.id == "debian" { format!("debian:{suite}") } else { self.id.clone() };
        let url = format!("{}/{}InRelease", mirror.url, folder_of(suite));
        let bytes = self.client.get(&[url], &format!("`InRelease` of {id}"))?;
        let bad = |reason: String| Error::BadIndex { index: id.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| bad("it is not text".into()))?;
        let policy = Policy { now: SystemTime::now(), check_valid_until: mirror.check_valid_until };
        let release = release::verify(&id, &text, keyring, policy)?;
        // A signed index of another suite must not pass for this one. A folder has no name to be signed for.
        if !is_flat(suite) && release.codename != suite && release.suite != suite {
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
        let seen = self.cache.join(format!("{}.newest", self.cache_name(suite)));
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

    fn part(&self, place: Place<'_>, release: &Release, progress: &dyn Progress) -> Result<Part, Error> {
        let Place { suite, component, architecture, required } = place;
        let id = self.source_id(suite, component);
        let (packages_path, contents_path) = if is_flat(suite) {
            ("Packages".to_owned(), format!("Contents-{architecture}"))
        } else {
            (
                format!("{component}/binary-{architecture}/Packages"),
                format!("{component}/Contents-{architecture}"),
            )
        };
        let text = self.index(suite, &id, release, &packages_path, progress)?;
        if text.is_none() && required {
            let reason = format!("it has no `{packages_path}`: is `{component}` a component of {suite}?");
            return Err(Error::BadIndex { index: id, reason });
        }
        let mut libraries = Libraries::new();
        // Small archives have no Contents; sonames are then resolved by name through Depends alone.
        if text.is_some()
            && let Some(text) = self.index(suite, &id, release, &contents_path, progress)?
        {
            contents::parse(&text, &mut libraries);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut packages = packages::parse(&text.unwrap_or_default(), 0);
        // A folder without components has the packages of all architectures in one file.
        packages.retain(|package| package.architecture == architecture || package.architecture == "all");
        Ok(Part {
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
            architecture: architecture.to_owned(),
            packages,
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
        let listed =
            |path: &str| release.indices.get(path).or_else(|| release.indices.get(&format!("./{path}")));
        let Some((form, &(sha256, size))) =
            forms.iter().find_map(|form| Some((*form, listed(&format!("{path}{form}"))?)))
        else {
            return Ok(None);
        };
        let what = format!("`{path}{form}` of {id}");
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let plain = format!("{}{path}{form}", folder_of(suite));
        let by_hash = format!("{}{folder}by-hash/SHA256/{sha256}", folder_of(suite));
        // As apt does it: by its name where the mirror has none by its hash.
        let locations = if release.by_hash { vec![by_hash, plain] } else { vec![plain] };
        progress.begin(&what, size);
        let bytes = self.index_file(suite, &locations, sha256, &what)?;
        progress.advance(bytes.len() as u64);
        progress.end();
        cache::unpack(&bytes, form)
            .map(Some)
            .map_err(|e| Error::BadIndex { index: what, reason: e.to_string() })
    }
}

impl Archive {
    /// An index file from the first place that has it with this digest. That it is nowhere says nothing about the suite: the
    /// signed list that names it was there.
    fn index_file(
        &self,
        suite: &str,
        locations: &[String],
        sha256: Sha256,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let out_of_step = |has| Error::OutOfStep { what: what.to_owned(), expected: sha256, has };
        let mut missing = None;
        for location in locations {
            match self.client.get(&self.urls(suite, location), what) {
                Ok(bytes) => match Sha256::of(&bytes) {
                    found if found == sha256 => return Ok(bytes),
                    _ if missing.is_some() => return Err(out_of_step("another one")),
                    found => {
                        return Err(Error::WrongHash { what: what.to_owned(), expected: sha256, found });
                    }
                },
                Err(Error::DownloadStatus { status: 404 | 410, .. }) => missing = Some(out_of_step("none")),
                Err(other) => return Err(other),
            }
        }
        Err(missing.unwrap_or(Error::NoMirror))
    }
}

/// One index of an archive.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    suite: &'a str,
    component: &'a str,
    architecture: &'a str,
    /// Whether it is an error that the archive has nothing for the architecture.
    required: bool,
}

/// A suite that is a folder with the index in it, as apt's `deb URL folder/`.
fn is_flat(suite: &str) -> bool {
    suite.ends_with('/')
}

/// Where a suite's index is below the archive's root, with a slash at its end.
fn folder_of(suite: &str) -> String {
    if !is_flat(suite) {
        return format!("dists/{suite}/");
    }
    let folder = suite.trim_start_matches("./").trim_matches('/');
    if folder.is_empty() { String::new() } else { format!("{folder}/") }
}

/// The suite in the id of a source of Debian's archive: `debian:bookworm/main`, `debian:buster/updates/main`.
#[must_use]
pub fn suite_of(id: &str) -> Option<&str> {
    Some(id.strip_prefix("debian:")?.rsplit_once('/')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_ids() {
        assert_eq!(folder_of("bookworm"), "dists/bookworm/");
        assert_eq!(folder_of("./"), "");
        assert_eq!(folder_of("/"), "");
        assert_eq!(folder_of("debian12/"), "debian12/");
        assert_eq!(suite_of("debian:buster/updates/main"), Some("buster/updates"));
        assert_eq!(suite_of("source:acme/main"), None);
    }
}
