//! Symbol versions: what the chosen libraries export, held against what the vendor's files need.

use std::collections::BTreeMap;

use hatchway_inspect::archive::{self, EntryKind, Limits, Part};
use hatchway_inspect::elf;

use super::{Attempt, Need, Provided, Refusal, urls};
use crate::build;
use crate::debian::version;
use crate::digest::Sha256;
use crate::error::Error;
use crate::error::one_line;
use crate::lock::LockedPackage;
use crate::progress::Progress;

/// A library larger than this is not read for its symbol versions.
const LIBRARY_BYTES_MAX: u64 = 512 << 20;

impl Attempt<'_> {
    /// Reads the provider of each soname and compares its symbol versions with the needed ones.
    pub(super) fn check_versions(
        &self,
        sonames: &[Provided<'_>],
        locked: &[LockedPackage],
        progress: &dyn Progress,
    ) -> Result<Refusal, Error> {
        let with_versions = sonames.iter().filter(|(need, _)| !need.versions.is_empty());
        let checks: Vec<(&Need, &LockedPackage)> = with_versions
            .filter_map(|(need, providers)| {
                let brings = |l: &&LockedPackage| {
                    l.architecture == need.architecture && providers.iter().any(|p| p.package == l.name)
                };
                Some((*need, locked.iter().find(brings)?))
            })
            .collect();
        let places = |p: &LockedPackage| urls(self.request.archive, self.request.sources, p);
        let mut wanted: Vec<_> = checks.iter().map(|(_, package)| build::wanted(package, &places)).collect();
        wanted.sort_by_key(|w| w.sha256);
        wanted.dedup_by_key(|w| w.sha256);
        self.request.store.fetch(&self.request.archive.client, &wanted, progress)?;
        let mut reasons = Vec::new();
        for (need, package) in checks {
            let exports = self.exports(package.sha256)?;
            let defined = exports.get(&need.soname).cloned().unwrap_or_default();
            let missing: Vec<&String> = need.versions.iter().filter(|v| !defined.contains(v)).collect();
            if let Some(newest) = missing.last() {
                reasons.push(format!(
                    "`{}` is not in {}'s {} {} (needed by {})",
                    one_line(newest),
                    self.index.suite,
                    package.label(&self.index.native),
                    version::upstream(&package.version),
                    one_line(&need.wanted_by)
                ));
            }
        }
        Ok(reasons)
    }

    /// Soname → symbol versions, for every library of a package; cached by the package's digest.
    fn exports(&self, sha256: Sha256) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let folder = self.request.archive.cache.join("exports");
        let path = folder.join(sha256.hex());
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(exports) = serde_json::from_str(&text)
        {
            return Ok(exports);
        }
        let exports = read_exports(&self.request.store.artifact(sha256))?;
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        if let Ok(text) = serde_json::to_vec(&exports) {
            crate::lock::write_atomically(&path, &text)?;
        }
        Ok(exports)
    }
}

fn read_exports(deb: &std::path::Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut exports = BTreeMap::new();
    archive::walk::<Error>(deb, &Limits::default(), &mut |part, entry, content| {
        let path = entry.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        let library = name.contains(".so") && (name.starts_with("lib") || name.starts_with("ld"));
        let readable = matches!(entry.kind, EntryKind::File { size } if size <= LIBRARY_BYTES_MAX);
        if part != Part::Data || !library || !readable || path.contains("/gconv/") {
            return Ok(());
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(Error::io("read", deb))?;
        // A linker script is no library; what cannot be read exports nothing.
        if let Ok(facts) = elf::read(path, &bytes) {
            exports.insert(facts.soname.unwrap_or_else(|| name.to_owned()), facts.versions_defined);
        }
        Ok(())
    })?;
    Ok(exports)
}
