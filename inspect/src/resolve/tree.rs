//! A closure as a tree of who needs what, and the story of one library.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Closure, Edge, Passed, Problem, Tried, Wish};

/// Lines of one tree.
const LINES: usize = 100_000;
/// Wanters listed for one library.
const WANTERS: usize = 4096;

/// Who needs what: the lines of a tree from the top, each as deep as what needs it and one more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The program, then what it needs, and below each library what that needs.
    pub lines: Vec<TreeLine>,
}

/// One line of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeLine {
    /// 0 for the program.
    pub depth: usize,
    /// The name that is wanted; for the program its path.
    pub name: String,
    /// Where it was found; `None` if it was not.
    pub path: Option<String>,
    /// By which rule it was loaded, as [`Rule`](super::Rule) is displayed; empty for the program.
    pub rule: String,
    /// By which rule this wish was met, where that differs: `already loaded`.
    pub met_by: Option<String>,
    /// `needed`, `preload`, `filter`, `auxiliary` or `versions`.
    pub wish: String,
    /// What it needs is shown at an earlier line.
    pub repeated: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files of the name that were not taken.
    pub passed: Vec<Passed>,
    /// Copies for newer processors.
    pub faster: Vec<String>,
}

/// All about one library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// The name.
    pub name: String,
    /// Every object that wants it, in the order of the programs.
    pub wanted_by: Vec<Wanter>,
    /// Every file that is loaded for it, sorted by path.
    pub provided_by: Vec<Provider>,
}

/// An object that wants a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanter {
    /// The way to the wanter from the program, both included.
    pub chain: Vec<String>,
    /// As in [`TreeLine`].
    pub wish: String,
    /// What it gets.
    pub found: Option<String>,
    /// By which rule.
    pub rule: Option<String>,
    /// Versions it wants.
    pub versions: Vec<String>,
    /// Places that were tried, if the closure was made with a trace; the last is where it was found.
    pub tried: Vec<Tried>,
    /// Files of the name that were not taken.
    pub passed: Vec<Passed>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// A file that is loaded for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The path the loader opens.
    pub path: String,
    /// The file behind it.
    pub file: String,
    /// Its own name.
    pub soname: Option<String>,
    /// Versions it offers; `None` if it says nothing about versions.
    pub versions: Option<Vec<String>>,
    /// Copies for newer processors.
    pub faster: Vec<String>,
}

impl Wish {
    /// The word for it in a [`TreeLine`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Needed => "needed",
            Self::Preload => "preload",
            Self::Filter => "filter",
            Self::Auxiliary => "auxiliary",
            Self::Versions => "versions",
        }
    }
}

/// The tree of a closure, at most a hundred thousand lines. What a library needs is shown where it is first met.
#[must_use]
pub fn tree(closure: &Closure) -> Tree {
    let mut tree = Tree::default();
    let Some(program) = closure.objects.first() else { return tree };
    let mut wishes: BTreeMap<usize, Vec<&Edge>> = BTreeMap::new();
    for edge in &closure.edges {
        wishes.entry(edge.wanted_by).or_default().push(edge);
    }
    tree.lines.push(TreeLine {
        depth: 0,
        name: program.path.clone(),
        path: Some(program.path.clone()),
        rule: String::new(),
        met_by: None,
        wish: Wish::Needed.as_str().to_owned(),
        repeated: false,
        problems: Vec::new(),
        passed: Vec::new(),
        faster: Vec::new(),
    });
    let mut shown = BTreeSet::from([0]);
    let children = |index: usize| wishes.get(&index).map(Vec::as_slice).unwrap_or_default();
    let mut pending: Vec<(usize, &Edge)> = children(0).iter().rev().map(|edge| (1, *edge)).collect();
    while let Some((depth, edge)) = pending.pop() {
        if tree.lines.len() >= LINES {
            break;
        }
        let below = edge.found.map(children).unwrap_or_default();
        let repeated = edge.found.is_some_and(|index| !shown.insert(index)) && !below.is_empty();
        tree.lines.push(line(closure, edge, depth, repeated));
        if !repeated {
            pending.extend(below.iter().rev().map(|edge| (depth + 1, *edge)));
        }
    }
    tree
}

fn line(closure: &Closure, edge: &Edge, depth: usize, repeated: bool) -> TreeLine {
    let found = edge.found.and_then(|index| closure.objects.get(index));
    let rule = found.map(|loaded| loaded.rule.to_string()).unwrap_or_default();
    let met_by = edge.rule.as_ref().map(ToString::to_string).filter(|met| *met != rule);
    TreeLine {
        depth,
        name: edge.name.clone(),
        path: found.map(|loaded| loaded.path.clone()),
        rule,
        met_by,
        wish: edge.wish.as_str().to_owned(),
        repeated,
        problems: edge.problems.clone(),
        passed: edge.passed.clone(),
        faster: found.map(|loaded| loaded.faster.clone()).unwrap_or_default(),
    }
}

/// All that the closures of some programs say about one library, by the name that is wanted or its `SONAME`.
#[must_use]
pub fn why(closures: &[Closure], name: &str) -> Why {
    let mut why = Why { name: name.to_owned(), ..Why::default() };
    let mut providers = BTreeSet::new();
    for closure in closures {
        for edge in &closure.edges {
            let found = edge.found.and_then(|index| closure.objects.get(index));
            let by_soname = found.is_some_and(|loaded| loaded.object.soname.as_deref() == Some(name));
            if edge.name != name && !by_soname {
                continue;
            }
            if let Some(loaded) = found {
                providers.insert(Provider {
                    path: loaded.path.clone(),
                    file: loaded.file.clone(),
                    soname: loaded.object.soname.clone(),
                    versions: loaded.object.versions_defined.clone(),
                    faster: loaded.faster.clone(),
                });
            }
            if why.wanted_by.len() < WANTERS {
                why.wanted_by.push(wanter(closure, edge));
            }
        }
    }
    why.provided_by = providers.into_iter().collect();
    why
}

fn wanter(closure: &Closure, edge: &Edge) -> Wanter {
    let versions = closure
        .objects
        .get(edge.wanted_by)
        .into_iter()
        .flat_map(|wanter| &wanter.object.versions_needed)
        .filter(|needed| needed.library == edge.name)
        .flat_map(|needed| needed.versions.iter().map(|version| version.name.clone()))
        .collect();
    Wanter {
        chain: chain(closure, edge.wanted_by),
        wish: edge.wish.as_str().to_owned(),
        found: edge.found.and_then(|index| closure.objects.get(index)).map(|loaded| loaded.path.clone()),
        rule: edge.rule.as_ref().map(ToString::to_string),
        versions,
        tried: edge.tried.clone(),
        passed: edge.passed.clone(),
        problems: edge.problems.clone(),
    }
}

/// The objects that led to one, from the program.
fn chain(closure: &Closure, index: usize) -> Vec<String> {
    let mut chain = Vec::new();
    let mut at = Some(index);
    while let Some((index, loaded)) = at.and_then(|index| Some((index, closure.objects.get(index)?))) {
        chain.push(loaded.path.clone());
        at = loaded.loader.filter(|&loader| loader < index);
    }
    chain.reverse();
    chain
}
