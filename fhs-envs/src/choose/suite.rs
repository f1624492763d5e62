//! Which sources belong to a base, and where their files are.

use std::collections::BTreeSet;

use super::Request;
use crate::debian::archive::{Archive, Scope, suite_of};
use crate::debian::index::SuiteIndex;
use crate::debian::sources;
use crate::error::Error;
use crate::lock::LockedPackage;
use crate::progress::Progress;

/// A source beside the base, such as a vendor's apt repository: an archive with its own mirrors and keys.
#[derive(Debug, Clone)]
pub struct Extra {
    /// The archive.
    pub archive: Archive,
    /// The suite, or with a slash at its end a folder that holds the index itself.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
}

/// The base's suite, its updates and security updates where a mirror has them, and the recipe's sources. `None` where no
/// mirror has the suite.
///
/// # Errors
/// Downloads, indices that cannot be believed or read.
pub fn index(
    request: &Request<'_>,
    suite: &str,
    progress: &dyn Progress,
) -> Result<Option<SuiteIndex>, Error> {
    let architectures = &request.architectures[..];
    let scope = Scope { suite, components: &request.components, architectures, required: true };
    let mut parts = match request.archive.parts(scope, progress) {
        Ok(parts) => parts,
        Err(Error::DownloadStatus { status: 404, .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    for companion in sources::companions(suite) {
        let scope = Scope { suite: &companion, required: false, ..scope };
        parts.extend(request.archive.parts_if_there(scope, progress)?.unwrap_or_default());
    }
    for extra in request.sources {
        let scope =
            Scope { suite: &extra.suite, components: &extra.components, architectures, required: true };
        parts.extend(extra.archive.parts(scope, progress)?);
    }
    Ok(Some(SuiteIndex::join(suite, request.native(), parts)))
}

/// URLs of a locked package at the mirrors.
#[must_use]
pub fn urls(archive: &Archive, extras: &[Extra], package: &LockedPackage) -> Vec<String> {
    if let Some(suite) = suite_of(&package.source) {
        // A package of the security archive moves into the main one with the next point release, to the same path.
        let others = sources::companions(suite.split(['-', '/']).next().unwrap_or(suite));
        let mut seen = BTreeSet::new();
        let all = std::iter::once(suite.to_owned()).chain(others).chain(main_of(suite));
        let urls = all.flat_map(|suite| archive.urls(&suite, &package.path));
        return urls.filter(|url| seen.insert(url.clone())).collect();
    }
    let own = |extra: &&Extra| {
        package.source == extra.archive.id || package.source.starts_with(&format!("{}/", extra.archive.id))
    };
    extras.iter().find(own).map_or_else(Vec::new, |e| e.archive.urls(&e.suite, &package.path))
}

/// The suite that updates belong to.
fn main_of(suite: &str) -> Option<String> {
    suite.split_once(['-', '/']).map(|(main, _)| main.to_owned())
}
