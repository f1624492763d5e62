//! Loading a program and all it is linked with.

use std::collections::HashMap;
use std::sync::Arc;

use super::path::{Layout, Tokens, canonical, parent};
use super::search::{Outcome, Places};
use super::{Closure, Edge, Loaded, Object, Problem, Root, Rule, Search, Wish, musl, versions};

/// Objects one program may load.
const OBJECTS: usize = 4096;
/// Files looked for to resolve one program: thousands of libraries in dozens of directories each.
const LOOKUPS: u64 = 2_000_000;
/// Dependencies between the objects of one program.
const EDGES: usize = 100_000;
/// Libraries of an `LD_PRELOAD`.
const PRELOADS: usize = 256;

/// Loads `program` and all it is linked with; `None` if it is no ELF file of the root.
///
/// The search is bounded: beyond four thousand objects or two million lookups, which no program needs, what is left
/// counts as not found; dependencies beyond a hundred thousand are left out.
#[must_use]
pub fn closure(root: &dyn Root, program: &str) -> Option<Closure> {
    closure_with(root, program, &Search::default())
}

/// The same, with what a launch adds.
#[must_use]
pub fn closure_with(root: &dyn Root, program: &str, search: &Search) -> Option<Closure> {
    let mut lookups = LOOKUPS;
    load(root, program, search, &mut lookups)
}

/// The same, with a number of lookups that several programs share.
pub(crate) fn closure_within(root: &dyn Root, program: &str, lookups: &mut u64) -> Option<Closure> {
    load(root, program, &Search::default(), lookups)
}

fn load(root: &dyn Root, program: &str, search: &Search, lookups: &mut u64) -> Option<Closure> {
    let file = canonical(root, program)?;
    let object = root.object(&file)?;
    let layout = root.layout(&object);
    let musl = object.interpreter.as_deref().filter(|path| musl::is_loader(path)).map(str::to_owned);
    let mut loader = Loader {
        places: Places::new(root, search, &object, layout, lookups),
        layout,
        closure: Closure::default(),
        by_name: HashMap::new(),
        by_file: HashMap::new(),
        interpreter: interpreter(root, &object),
        musl,
    };
    if loader.musl.is_none() {
        loader.by_name.extend(object.soname.clone().map(|soname| (soname, 0)));
    }
    loader.by_file.insert(root.identity(&file), 0);
    // The kernel resolves the program's own path before the loader sees it.
    let path = file.clone();
    loader.closure.objects.push(Loaded {
        path,
        file,
        rule: Rule::Path,
        object,
        loader: None,
        faster: Vec::new(),
    });
    loader.run();
    if loader.musl.is_none() {
        versions::check(&mut loader.closure, &loader.by_name);
    }
    Some(loader.closure)
}

/// The program's loader is there before anything is looked for.
fn interpreter(root: &dyn Root, program: &Object) -> Option<Loaded> {
    let path = program.interpreter.clone()?;
    let file = canonical(root, &path)?;
    let object = root.object(&file)?;
    Some(Loaded { path, file, rule: Rule::Interpreter, object, loader: Some(0), faster: Vec::new() })
}

struct Loader<'l> {
    places: Places<'l>,
    layout: Layout,
    closure: Closure,
    /// By name asked for and by soname: what is loaded once satisfies every later wish of that name.
    by_name: HashMap<String, usize>,
    /// By identity of the file.
    by_file: HashMap<String, usize>,
    /// The loader, until something is linked with it.
    interpreter: Option<Loaded>,
    /// The path of musl's loader, if the program has it.
    musl: Option<String>,
}

impl Loader<'_> {
    fn run(&mut self) {
        let is_static = self
            .closure
            .objects
            .iter()
            .all(|program| program.object.interpreter.is_none() && program.object.needed.is_empty());
        if !is_static {
            for name in self.places.search.preload.iter().take(PRELOADS) {
                self.wish(0, name, Wish::Preload);
            }
        }
        let mut current = 0;
        while let Some(object) = self.closure.objects.get(current).map(|loaded| Arc::clone(&loaded.object)) {
            for name in &object.needed {
                self.wish(current, name, Wish::Needed);
            }
            // glibc puts these before the object in its order; musl does not know them.
            for filter in object.filters.iter().filter(|_| self.musl.is_none()).collect::<Vec<_>>() {
                let wish = if filter.optional { Wish::Auxiliary } else { Wish::Filter };
                self.wish(current, &filter.name, wish);
            }
            current += 1;
        }
    }

    fn wish(&mut self, wanted_by: usize, name: &str, wish: Wish) {
        if self.closure.edges.len() >= EDGES {
            return;
        }
        let mut edge = Edge {
            wanted_by,
            name: name.to_owned(),
            wish,
            found: None,
            rule: None,
            problems: Vec::new(),
            passed: Vec::new(),
            tried: Vec::new(),
        };
        match self.expanded(wanted_by, name) {
            Some(expanded) => self.fulfil(&mut edge, &expanded),
            None => edge.problems.push(Problem::NotFound),
        }
        if let Some(index) = edge.found {
            self.by_name.entry(name.to_owned()).or_insert(index);
        }
        self.closure.edges.push(edge);
    }

    /// glibc replaces tokens in `DT_NEEDED`, too.
    fn expanded(&self, wanted_by: usize, name: &str) -> Option<String> {
        if !name.contains('$') || self.musl.is_some() {
            return Some(name.to_owned());
        }
        let wanter = self.closure.objects.get(wanted_by)?;
        let lib = self.layout.lib(wanter.object.class, &wanter.object.machine);
        let tokens = Tokens { origin: parent(&wanter.path), lib: &lib, platform: &self.places.platform };
        tokens.expand(name)
    }

    fn fulfil(&mut self, edge: &mut Edge, name: &str) {
        if let Some(index) = self.loaded(name) {
            edge.found = Some(index);
            edge.rule = Some(match self.closure.objects.get(index).map(|loaded| &loaded.rule) {
                Some(Rule::Interpreter) => Rule::Interpreter,
                _ => Rule::Loaded,
            });
            return;
        }
        let outcome = match &self.musl {
            Some(interpreter) => {
                let interpreter = interpreter.clone();
                musl::find(&mut self.places, &self.closure.objects, edge, name, &interpreter)
            }
            None => self.places.find(&self.closure.objects, edge, name),
        };
        match outcome {
            Outcome::Found(loaded) => {
                edge.rule = Some(loaded.rule.clone());
                edge.found = self.enter(loaded, name);
                if edge.found.is_none() {
                    edge.rule = None;
                    edge.problems.push(Problem::NotFound);
                }
            }
            Outcome::Refused(path, refusal) => edge.problems.push(Problem::Refused { path, refusal }),
            Outcome::Absent => edge.problems.push(Problem::NotFound),
        }
    }

    fn loaded(&mut self, name: &str) -> Option<usize> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        let interpreter = self.interpreter.as_ref()?;
        let own = interpreter.path == name
            || if self.musl.is_some() {
                musl::is_own_name(name)
            } else {
                interpreter.object.soname.as_deref() == Some(name)
            };
        if !own {
            return None;
        }
        if let Some(&index) = self.by_file.get(&self.places.root.identity(&interpreter.file)) {
            return Some(index);
        }
        let interpreter = interpreter.clone();
        self.enter(interpreter, name)
    }

    /// Enters one library; the same file under another name is not entered twice.
    fn enter(&mut self, loaded: Loaded, name: &str) -> Option<usize> {
        let identity = self.places.root.identity(&loaded.file);
        let index = match self.by_file.get(&identity) {
            Some(&index) => index,
            None if self.closure.objects.len() >= OBJECTS => return None,
            None => {
                self.closure.objects.push(loaded);
                self.closure.objects.len() - 1
            }
        };
        self.by_file.insert(identity, index);
        self.by_name.insert(name.to_owned(), index);
        let object = self.closure.objects.get(index)?;
        // A path that was opened is a name, too; musl does not know sonames.
        self.by_name.entry(object.path.clone()).or_insert(index);
        if let (None, Some(soname)) = (&self.musl, &object.object.soname) {
            self.by_name.entry(soname.clone()).or_insert(index);
        }
        Some(index)
    }
}
