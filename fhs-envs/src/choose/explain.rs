//! What a person is told about a closure: why there is none, and what in the recipe had no effect.

use super::Attempt;
use crate::base::BASE;
use crate::lock::LockedPackage;
use crate::progress::Progress;

impl Attempt<'_> {
    /// The solver's explanation, and whose wish each package in it was.
    pub(super) fn explained(&self, why: &str) -> String {
        let mut text = format!("the packages cannot be installed together:\n{why}");
        let mut wishes: Vec<String> = Vec::new();
        // A package's name stands at the beginning of what the tree says of it.
        let speaks_of = |name: &str| {
            why.lines().any(|line| {
                let said = line.trim_start_matches(['│', '├', '└', '─', ' ']);
                said.split([' ', ':', ',']).next() == Some(name)
            })
        };
        for asked in &self.request.depends {
            let names: Vec<&str> = asked
                .group
                .alternatives
                .iter()
                .map(|r| r.name.as_str())
                .filter(|name| speaks_of(name))
                .collect();
            wishes.extend(names.iter().map(|name| format!("`{name}` is asked for by {}", asked.whose)));
        }
        for name in self.request.packages.iter().flatten().map(|r| &r.name).filter(|name| speaks_of(name)) {
            wishes.push(format!("`{name}` is in the recipe's `packages`"));
        }
        for name in BASE.iter().map(|base| base.name).filter(|name| speaks_of(name)) {
            wishes.push(format!("`{name}` belongs to every Debian base"));
        }
        let mut pins: Vec<_> = self.request.pins.iter().filter(|(name, _)| speaks_of(name)).collect();
        pins.sort();
        wishes.extend(pins.iter().map(|(name, pin)| format!("`{name}` is pinned to {pin} by the recipe")));
        wishes.dedup();
        for wish in wishes {
            text.push_str(&format!("\n{wish}"));
        }
        text
    }

    /// Pins and exclusions without effect, and packages that a source beside Debian's replaces.
    pub(super) fn tell(&self, locked: &[LockedPackage], progress: &dyn Progress) {
        let there = |name: &str| locked.iter().any(|package| package.name == name);
        let mut idle: Vec<&String> = self.request.pins.keys().filter(|name| !there(name)).collect();
        idle.sort();
        for name in idle {
            progress.note(&format!("`{name}` is pinned, but nothing asks for it"));
        }
        for name in &self.request.exclude {
            if self.index.named(name).is_empty() {
                progress.note(&format!(
                    "`{name}` is excluded, but {} has no package of that name",
                    self.index.suite
                ));
            }
        }
        for package in locked.iter().filter(|package| package.source.starts_with("source:")) {
            let debians = self.index.named(&package.name).iter().any(|&number| {
                self.index.sources[self.index.packages[number].source].id.starts_with("debian:")
            });
            if debians {
                let (name, version, source) = (&package.name, &package.version, &package.source);
                progress.note(&format!("`{name}` {version} of {source} is taken before Debian's"));
            }
        }
    }
}
