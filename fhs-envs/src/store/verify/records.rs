//! What the store has written down about itself, and what interrupted commands left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Check, Finding, Severity, Subject};
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::manifest::Manifest;
use crate::store::roots::{Tool, digest_of, is_half_written, read_record};
use crate::store::{Store, list, read_manifest};

/// What is said of a kind of record.
struct Words {
    changed: &'static str,
    is_none: &'static str,
    alone: &'static str,
    is_alone: &'static str,
}

const ARCHIVE: Words = Words {
    changed: "package-record-changed",
    is_none: "it is not the manifest of an unpacked archive",
    alone: "package-record-alone",
    is_alone: "objects of this archive are not here: it will be unpacked again",
};
const RESULT: Words = Words {
    changed: "result-record-changed",
    is_none: "it is not the manifest of what a tool made",
    alone: "result-record-alone",
    is_alone: "objects of this result are not here: it will be made again",
};

impl Check<'_> {
    pub(super) fn records(&mut self) -> Result<(), Error> {
        let root = self.store.root.clone();
        for path in list(&root.join("packages"))? {
            let manifest = Store::package_record(&path).map(|(_, manifest)| manifest);
            self.manifest_record(&path, manifest.as_ref(), &ARCHIVE);
        }
        for path in list(&root.join("results"))? {
            let manifest = digest_of(&path).and_then(|_| read_manifest(&path).ok());
            self.manifest_record(&path, manifest.as_ref(), &RESULT);
        }
        for path in list(&root.join("builds"))? {
            let named = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<Sha256>().ok());
            match named {
                Some(tree) if self.store.tree(tree).is_dir() && digest_of(&path).is_some() => {}
                Some(_) if digest_of(&path).is_some() => {
                    self.leftover(
                        "build-record-alone",
                        &path,
                        "the tree that this build gave is not here: it will be built again",
                    );
                }
                _ => {
                    let what = "it does not name a tree";
                    self.damage("build-record-changed", &path, what, Subject::Record(path.clone()));
                }
            }
        }
        for path in list(&root.join("roots"))? {
            if is_half_written(&path) {
                self.leftover(
                    "unfinished-work",
                    &path,
                    "a record that an interrupted command did not finish",
                );
            } else if read_record(&path).is_none() {
                let what = "it does not name a recipe";
                self.damage("tool-record-changed", &path, what, Subject::Record(path.clone()));
            }
        }
        self.work_in_progress()
    }

    fn manifest_record(&mut self, path: &Path, manifest: Option<&Manifest>, words: &Words) {
        let Some(manifest) = manifest else {
            self.damage(words.changed, path, words.is_none, Subject::Record(path.to_owned()));
            return;
        };
        let none = BTreeSet::new();
        // Each is looked at: what is damaged is told with whom it concerns.
        if manifest.nodes.values().filter(|node| !self.object_fits(node, &none)).count() > 0 {
            self.leftover(words.alone, path, words.is_alone);
        }
    }

    fn work_in_progress(&mut self) -> Result<(), Error> {
        for path in self.store.abandoned()? {
            self.leftover("unfinished-work", &path, "whoever worked here has ended without finishing");
        }
        for path in list(&self.store.root.join("artifacts/.partial"))? {
            let free = digest_of(&path).is_some_and(|sha256| {
                self.store.try_lock(&format!("fetch-{}", sha256.short())).is_ok_and(|lock| lock.is_some())
            });
            if free {
                self.leftover("unfinished-download", &path, "the next command that needs it continues it");
            }
        }
        for folder in ["trees", "manifests"] {
            for path in list(&self.store.root.join(folder))? {
                if digest_of(&path).is_none() {
                    self.leftover("unknown-file", &path, "this is not the store's");
                }
            }
        }
        Ok(())
    }

    /// Tools whose recipe is gone: their records are of no use. And of the others, what their tree was made of and is not
    /// there.
    pub(super) fn tools(&mut self, tools: &[Tool]) {
        for tool in tools {
            match &tool.record {
                Some(record) if !tool.alive => {
                    let what = format!(
                        "the recipe `{}` of `{}` is not there any more",
                        tool.recipe.display(),
                        tool.name
                    );
                    self.leftover("tool-gone", record, &what);
                }
                _ => self.inputs(tool),
            }
        }
    }

    fn inputs(&mut self, tool: &Tool) {
        let lost = self.store.lost_inputs(tool);
        let Some(first) = lost.first() else { return };
        let mut names = tool.lock.iter().flat_map(|lock| &lock.artifacts);
        let name = names.find(|artifact| artifact.sha256 == *first).map(|artifact| artifact.file.clone());
        let name = name.unwrap_or_else(|| first.short());
        let what = match lost.len() {
            1 => format!("`{name}`, which its lock names, is not in the store"),
            many => format!("{many} files that its lock names are not in the store, `{name}` among them"),
        };
        self.report.findings.push(Finding {
            severity: Severity::Missing,
            kind: "input-missing",
            path: tool.recipe.with_file_name("recipe.lock"),
            what,
            affects: vec![tool.name.clone()],
            next: "hatchway store repair",
            subject: Subject::Other,
        });
    }
}
