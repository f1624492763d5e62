//! The kernel of a guest: one package of the suite, by itself, since nothing in a guest is installed by it.

use super::{Attempt, Upgrade, keep};
use crate::debian::packages::Package;
use crate::debian::relation;
use crate::lock::LockedPackage;

/// What every image of a kernel is called like.
const IMAGE: &str = "linux-image-";

/// Which kernel a guest would have.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// The package, or one that depends on it.
    pub package: String,
    /// The tool runs in a guest, so there is no lock without it.
    pub required: bool,
}

impl Attempt<'_> {
    /// The package with the kernel; that of the lock before unless it is to move. The error is the reason against the suite.
    pub(super) fn kernel(&self) -> Result<Option<LockedPackage>, String> {
        let wish = &self.request.kernel;
        if wish.package.is_empty() {
            return Ok(None);
        }
        let kept = self.kept_kernel();
        let found = kept.or_else(|| self.followed(self.chosen(&wish.package)?));
        match found {
            Some(package) => Ok(Some(self.entry(package, wish.package.clone()))),
            None if wish.required => {
                Err(format!("it has no kernel for a guest: no package `{}`", wish.package))
            }
            None => Ok(None),
        }
    }

    /// The kernel of the lock before, while the suite has it and nobody wants another.
    fn kept_kernel(&self) -> Option<&Package> {
        let before = keep::lock_before(self.request)?.kernel.as_ref()?;
        let moves = match &self.request.upgrade {
            Upgrade::Only(names) => names.contains(&before.name) || names.contains(&before.why),
            Upgrade::Nothing => false,
            Upgrade::Everything => true,
        };
        if moves || before.why != self.request.kernel.package {
            return None;
        }
        let named = self.index.named(&before.name).iter().map(|&number| &self.index.packages[number]);
        { named }.find(|package| package.sha256 == before.sha256)
    }

    /// `linux-image-amd64` is empty and depends on the image of the day.
    fn followed(&self, number: usize) -> Option<&Package> {
        let package = &self.index.packages[number];
        let depends = relation::parse(&package.depends, &self.index.native).unwrap_or_default();
        let mut relations = depends.iter().flatten();
        match relations.find(|relation| relation.name.starts_with(IMAGE)) {
            Some(relation) => Some(&self.index.packages[self.chosen(&relation.name)?]),
            None => Some(package),
        }
    }
}
