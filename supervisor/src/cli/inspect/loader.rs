//! `hatchway inspect --tree`, `--why` and `--root`: what the loader finds, over the artifact's own files and any root.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hatchway_inspect::archive::Limits;
use hatchway_inspect::resolve::{
    self, Closure, DirectoryRoot, Layered, Listing, Root, Search, Tree, Why, render_tree, render_why,
};
use hatchway_inspect::{ElfKind, Facts};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Args, SCHEMA};
use crate::artifact;
use crate::context::Context;
use crate::error::Error;
use crate::plan::Host;

/// Trees that are printed when no program is named; `--json` has all.
const TREES: usize = 6;

/// What `inspect --tree --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("$id" = "urn:hatchway:inspect-tree:1"))]
pub(in crate::cli) struct TreeReport {
    /// The version of this form.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// One for each program, or for each library where there is no program.
    trees: Vec<Tree>,
}

/// What `inspect --why SONAME --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("$id" = "urn:hatchway:inspect-why:1"))]
pub(in crate::cli) struct WhyReport {
    /// The version of this form.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// Who wants the library, what was tried, what is found.
    why: Why,
}

/// Exit 0 when everything that is wanted is found in every version that is wanted, 1 when not.
pub(super) fn main(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let place = Place::open(context, args)?;
    let named = args.tree.as_ref().and_then(Option::as_deref);
    let closures = place.closures(named, args.why.is_some())?;
    let failed = closures.iter().any(|closure| closure.failures().next().is_some());
    match (&args.why, args.json) {
        (Some(name), json) => {
            let why = resolve::why(&closures, name);
            // A library that nothing wants is no failure of anything, but the answer is no.
            let found = why.wanted_by.iter().all(|wanter| wanter.problems.iter().all(|p| !p.is_fatal()));
            let answer = found && !why.wanted_by.is_empty();
            if json {
                context.printer.data(crate::cli::json(&WhyReport { schema: SCHEMA, why })?);
            } else {
                context.printer.raw(&render_why(&why));
            }
            return Ok(if answer { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        (None, true) => {
            let trees = closures.iter().map(resolve::tree).collect();
            context.printer.data(crate::cli::json(&TreeReport { schema: SCHEMA, trees })?);
        }
        (None, false) => context.printer.raw(&trees_page(&closures)),
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn trees_page(closures: &[Closure]) -> String {
    if closures.is_empty() {
        return "There is nothing in it that the loader of Linux would load.".to_owned();
    }
    let shown = closures.iter().take(TREES).map(|closure| render_tree(&resolve::tree(closure)));
    let mut text = shown.collect::<Vec<_>>().join("\n");
    if closures.len() > TREES {
        let more = closures.len() - TREES;
        text.push_str(&format!("\n… and {more} more: name one with --tree=PROGRAM (--json has all)\n"));
    }
    text
}

/// What does not load over a root, each with the file that wants it; empty if everything does.
pub(super) fn failures(context: &Context, args: &Args) -> Result<Vec<String>, Error> {
    let closures = Place::open(context, args)?.closures(None, false)?;
    let mut all: Vec<String> = Vec::new();
    for closure in &closures {
        for edge in &closure.edges {
            let wanter = closure.objects.get(edge.wanted_by).map_or("", |object| object.file.as_str());
            all.extend(edge.failures().map(|problem| format!("{}: {problem} (for {wanter})", edge.name)));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Where libraries are looked for, and the programs that look.
struct Place {
    listing: Option<Listing>,
    root: Option<DirectoryRoot>,
    programs: Vec<String>,
    /// The level of the processor whose copies are looked for: this host's for this host, of another tree nobody knows.
    level: u8,
}

impl Place {
    fn open(context: &Context, args: &Args) -> Result<Self, Error> {
        let root = args.root.as_deref().map(DirectoryRoot::open).transpose()?;
        let path = if Path::new(&args.file).exists() {
            PathBuf::from(&args.file)
        } else {
            artifact::acquire(context, &args.file)?.path
        };
        let is_host = args.root.as_deref() == Some(Path::new("/"));
        let level = if is_host { Host::detect().isa_level } else { 0 };
        let (facts, listing) = hatchway_inspect::inspect_listed(&path, &Limits::default())?;
        if facts.artifact.format != "elf" {
            return Ok(Self { listing: Some(listing), root, programs: programs(&facts), level });
        }
        // A lone file keeps the company of the folder it lies in, or of the root that it is a part of.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (root, listing) = match root {
            Some(root) if root.inside(&path).is_some() => (root, None),
            Some(root) => (root, Some(listing)),
            None => (DirectoryRoot::open(folder)?, None),
        };
        let inside = root.inside(&path).unwrap_or_else(|| format!("/{}", facts.artifact.file));
        Ok(Self { listing, root: Some(root), programs: vec![inside], level })
    }

    fn closures(&self, named: Option<&str>, trace: bool) -> Result<Vec<Closure>, Error> {
        let search = Search { trace, level: self.level, ..Search::default() };
        let roots: Vec<&dyn Root> = [
            self.listing.as_ref().map(|listing| listing as &dyn Root),
            self.root.as_ref().map(|root| root as &dyn Root),
        ]
        .into_iter()
        .flatten()
        .collect();
        let root = Layered::new(roots);
        let programs: Vec<&str> = match named {
            Some(name) => vec![name],
            None => self.programs.iter().map(String::as_str).collect(),
        };
        let closures: Vec<Closure> =
            programs.iter().filter_map(|program| resolve::closure_with(&root, program, &search)).collect();
        if let (Some(name), true) = (named, closures.is_empty()) {
            let have = self.programs.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("there is no ELF file `{name}`; there are {have}")));
        }
        Ok(closures)
    }
}

/// The dynamic programs of an artifact; where it has none, its libraries.
fn programs(facts: &Facts) -> Vec<String> {
    let of = |kinds: &[ElfKind]| -> Vec<String> {
        let elf = facts.elf.iter().filter(|elf| kinds.contains(&elf.kind) && !elf.needed.is_empty());
        elf.map(|elf| elf.path.clone()).collect()
    };
    let programs = of(&[ElfKind::Executable, ElfKind::Pie]);
    if programs.is_empty() { of(&[ElfKind::Shared]) } else { programs }
}
