//! What of a tree one of its own tools sees: the programs that it runs with the libraries that the loader maps for them,
//! and the files that it reads. Nothing else is there when it runs.
//!
//! So its result depends on nothing else, and is kept under a name made of what was there: another tree with the same
//! library, the same modules and the same descriptions of MIME types has the same caches, and does not make them again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hatchway_inspect::resolve::{self, Object, Refusal, Root, Search, closure_with, read_object};

use super::ldcache;
use super::merge::Merge;
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

/// What every program may look for besides: glibc's locale `C.UTF-8` and its look-up of users.
const ALWAYS: [&str; 4] =
    ["etc/nsswitch.conf", "usr/lib/locale/C.utf8", "usr/lib/locale/C.UTF-8", "usr/lib/locale/C.utf-8"];
/// glibc's module for users until 2.33, loaded when somebody asks.
const USERS_MODULE: &str = "libnss_files.so.2";
/// Folders that the sandbox mounts something at.
const MOUNTED_AT: &str = "var/tmp";

/// Makes excerpts of one tree.
pub(crate) struct Excerpts<'a> {
    tree: LoadersView<'a>,
    /// Folders of libraries that the loader looks into first.
    library_path: Vec<String>,
}

/// A part of a tree, and where in it the libraries are.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) tree: Manifest,
    /// For `LD_LIBRARY_PATH`: the loader's cache is not in the excerpt.
    pub(crate) library_path: Vec<String>,
}

impl<'a> Excerpts<'a> {
    /// `library_path` are folders of libraries that the loader looks into before all others.
    pub(crate) fn new(
        merge: &'a Merge,
        workspace: &'a Workspace<'a>,
        library_path: Vec<String>,
    ) -> Result<Self, Error> {
        let configured = ldcache::directories(merge, workspace)?;
        let configured = configured.into_iter().map(|(_, folder)| format!("/{folder}")).collect();
        let tree = LoadersView {
            merge,
            workspace,
            configured,
            objects: RefCell::default(),
            failure: RefCell::default(),
        };
        Ok(Self { tree, library_path })
    }

    /// What `programs` (also modules that they load) and `files` (also folders) of the tree take; where one of the programs is
    /// none that the loader starts, all that is no vendor's.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub(crate) fn of(&self, programs: &[String], files: &[String]) -> Result<Excerpt, Error> {
        let excerpt = self.found(programs, files);
        // What could not be read was taken for no program, so the excerpt lacks what it loads.
        self.tree.failure.take().map_or(Ok(excerpt), Err)
    }

    fn found(&self, programs: &[String], files: &[String]) -> Excerpt {
        let mut excerpt = Manifest::default();
        let nodes = &self.tree.merge.tree.nodes;
        excerpt.nodes.extend(nodes.iter().filter(|(path, _)| !path.contains('/')).filter_map(skeleton));
        excerpt.insert(MOUNTED_AT, Node::Directory);
        let mut folders: Vec<String> = self.library_path.clone();
        let search = Search { library_path: self.library_path.clone(), ..Search::default() };
        let mut wanted: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
        for program in programs {
            let Some(closure) = closure_with(&self.tree, &format!("/{}", trim(program)), &search) else {
                return self.archives(files);
            };
            wanted.insert(program.clone());
            for loaded in closure.objects {
                wanted.extend(loaded.object.interpreter.clone());
                let folder = loaded.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                if loaded.loader.is_some() && !folders.contains(&folder) {
                    folders.push(folder);
                }
                wanted.insert(loaded.path);
            }
        }
        wanted.extend(folders.iter().map(|folder| format!("{folder}/{USERS_MODULE}")));
        wanted.extend(files.iter().cloned());
        for path in wanted {
            self.add(&path, &mut excerpt);
        }
        Excerpt { tree: excerpt, library_path: folders }
    }

    /// Everything but a vendor's files, of which there are those among `files` alone.
    fn archives(&self, files: &[String]) -> Excerpt {
        let merge = self.tree.merge;
        let nodes = merge.tree.nodes.iter();
        let archives =
            nodes.filter(|(path, node)| matches!(node, Node::Directory) || !merge.is_of_vendor(path));
        let mut excerpt = Manifest::default();
        excerpt.nodes.extend(archives.map(|(path, node)| (path.clone(), node.clone())));
        for path in files {
            self.add(path, &mut excerpt);
        }
        Excerpt { tree: excerpt, library_path: self.library_path.clone() }
    }

    /// What is at a path, the links on the way, and of a folder all that is in it, where its links lead too.
    fn add(&self, path: &str, excerpt: &mut Manifest) {
        let tree = &self.tree.merge.tree;
        let Ok(way) = tree.way(path) else { return };
        for place in way {
            let Some(node) = tree.nodes.get(&place) else { continue };
            excerpt.insert(&place, node.clone());
            if matches!(node, Node::Directory) {
                self.add_below(&place, excerpt);
            }
        }
    }

    fn add_below(&self, folder: &str, excerpt: &mut Manifest) {
        let tree = &self.tree.merge.tree;
        for below in tree.below(folder) {
            let Some(node) = tree.nodes.get(&below) else { continue };
            // A link that is there has been followed, which ends circles. A vendor's is not: it could lead to its programs.
            let followed = !matches!(node, Node::Link { .. })
                || excerpt.nodes.contains_key(&below)
                || self.tree.merge.is_of_vendor(&below);
            excerpt.insert(&below, node.clone());
            if !followed {
                self.add(&below, excerpt);
            }
        }
    }
}

/// A folder or link of the root, so that the excerpt has the shape of the tree.
fn skeleton((path, node): (&String, &Node)) -> Option<(String, Node)> {
    (!matches!(node, Node::File { .. })).then(|| (path.clone(), node.clone()))
}

fn trim(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// The tree as the search of the loader asks for it.
struct LoadersView<'a> {
    merge: &'a Merge,
    workspace: &'a Workspace<'a>,
    configured: Vec<String>,
    objects: RefCell<HashMap<Sha256, Option<Arc<Object>>>>,
    /// The first object that could not be read.
    failure: RefCell<Option<Error>>,
}

impl LoadersView<'_> {
    /// What the loader sees in an object; `None` where that is none of its files.
    fn read(&self, sha256: Sha256, executable: bool) -> Result<Option<Arc<Object>>, Error> {
        match read_object(&self.workspace.open(sha256, executable)?) {
            Ok(object) => Ok(Some(Arc::new(object))),
            Err(Refusal::Unreadable(reason)) => {
                let path = self.workspace.locate(sha256, executable);
                Err(Error::io("read", path)(std::io::Error::other(reason)))
            }
            Err(_) => Ok(None),
        }
    }
}

impl Root for LoadersView<'_> {
    fn node(&self, path: &str) -> Option<resolve::Node> {
        Some(match self.merge.tree.nodes.get(trim(path))? {
            Node::Directory => resolve::Node::Directory,
            Node::Link { target } => resolve::Node::Symlink(target.clone()),
            Node::File { .. } => resolve::Node::File,
        })
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        let Some(Node::File { sha256, executable, .. }) = self.merge.tree.nodes.get(trim(path)) else {
            return None;
        };
        // What of the archive a vendor may have replaced is looked at before any tool is started.
        if self.merge.is_vendors(path) {
            return None;
        }
        let read = || {
            self.read(*sha256, *executable).unwrap_or_else(|error| {
                self.failure.borrow_mut().get_or_insert(error);
                None
            })
        };
        self.objects.borrow_mut().entry(*sha256).or_insert_with(read).clone()
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }
}
