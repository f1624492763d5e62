//! What dpkg's triggers make from the files of several packages: caches and databases, written by the tree's own tools.
//!
//! The formats belong to the libraries that read them, so the tools of the same version write them, offline in a build
//! sandbox over what of the tree it runs and reads ([`super::sandboxed`], [`super::excerpt`]); its result is kept for the
//! next tree that has the same. A tool runs only where the tree has files for it. Its input is handed over in the order of
//! names, in memory where it reads a folder by itself: the order in which a disk gives a folder's entries differs between
//! machines.
//!
//! No code of a vendor's file is meant to run in them. A tool that is a vendor's is not started, a vendor's module is left
//! out, the loader looks into the archive's folders first, and where a vendor's file replaced a program or library of the
//! archive, none is started at all; each is told.
//!
//! Caches of icons and fonts are compared with the times of folders, so these are the same in each tree, as those of files
//! are (`store/mod.rs`). Not made, since programs do without: `fonts.dir` of X servers' bitmap fonts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::excerpt::{Excerpt, Excerpts};
use super::merge::Merge;
use super::sandboxed::{Room, Root, Step};
use super::{BUILDER, capture, locales, sandboxed};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::parallel;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

/// Where a step finds the folder that its result goes to.
const OUT: &str = "/run/out";

/// How large a file may be whose lines are sorted, in bytes: it is read whole. Real ones have some kilobytes.
const SORTED_BYTES_MAX: u64 = 16 << 20;

/// What becomes of what a tool wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Standard output is this file.
    Stdout(String),
    /// What is in the folder for results goes to this folder.
    Folder(String),
    /// The same, and the lines of each file are sorted: the tool writes them as it finds them.
    SortedFolder(String),
}

/// One tool to run.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    step: Step,
    result: Outcome,
    /// Its failure is one of the build; otherwise it is told, as Debian's scripts go on, too.
    required: bool,
    /// Files that it reads from `/run/in`.
    inputs: BTreeMap<String, Vec<u8>>,
    /// Programs of the tree that it runs and modules that it loads.
    runs: Vec<String>,
    /// Files and folders of the tree that it reads.
    reads: Vec<String>,
    /// It is not run where a vendor's file is among what it sees: making its result would read that.
    archives_alone: bool,
}

impl Trigger {
    fn new(name: &str, program: &str, args: &[&str], result: Outcome) -> Self {
        let mut step = Step::new(name, &format!("/{program}"), args);
        step.cwd = "/".into();
        // Where the archive's programs are: what lies in `/usr/local` is nobody's or a vendor's.
        step.env.insert("PATH".into(), "/usr/sbin:/usr/bin".into());
        let runs = vec![step.program.clone()];
        let (inputs, reads) = (BTreeMap::new(), Vec::new());
        Self { step, result, required: false, inputs, runs, reads, archives_alone: false }
    }

    /// Runs `script` in the tree's shell, `$1` and so on being `arguments`; `programs` are those that it calls.
    fn script(name: &str, script: &str, programs: &[&str], arguments: &[&str], result: Outcome) -> Self {
        let args = [&["-ec", script, "sh"], arguments].concat();
        Self::new(name, "usr/bin/sh", &args, result).running(programs.iter().map(|p| format!("/usr/bin/{p}")))
    }

    fn running(mut self, programs: impl IntoIterator<Item = String>) -> Self {
        self.runs.extend(programs);
        self
    }

    fn reading(mut self, path: &str) -> Self {
        self.reads.push(path.to_owned());
        self
    }

    /// For a locale: its result was asked for by name.
    pub(crate) fn locale(
        step: Step,
        folder: String,
        inputs: BTreeMap<String, Vec<u8>>,
        reads: &[&str],
    ) -> Self {
        let runs = vec![step.program.clone()];
        let reads = reads.iter().map(|&path| path.to_owned()).collect();
        let result = Outcome::Folder(folder);
        Self { step, result, required: true, inputs, runs, reads, archives_alone: false }
    }

    /// What runs over an excerpt, but for the folders that are made for it.
    fn step(&self, excerpt: &Excerpt) -> Step {
        let mut step = self.step.clone();
        step.env.insert("LD_LIBRARY_PATH".into(), excerpt.library_path.join(":"));
        step
    }

    /// Names the result: all that it can depend on, and the builder's version for what is made of a tool's output.
    fn key(&self, excerpt: &Excerpt) -> Sha256 {
        let inputs: Vec<String> =
            self.inputs.iter().map(|(path, content)| format!("{path} {}", Sha256::of(content))).collect();
        let step = self.step(excerpt);
        let env = sandboxed::environment(&step);
        let Step { program, args, cwd, stdin, .. } = &step;
        let text = format!(
            "{BUILDER}\n{program}\n{args:?}\n{env:?}\n{cwd}\n{}\n{:?}\n{inputs:?}\n{}",
            Sha256::of(stdin),
            self.result,
            excerpt.tree.digest()
        );
        Sha256::of(text.as_bytes())
    }
}

/// What the names of icons end in.
const ICONS: [&str; 3] = [".png", ".svg", ".xpm"];
/// Folders whose files the archive's tools load or start.
const CODE: [&str; 5] = ["usr/bin/", "usr/sbin/", "usr/lib/", "usr/lib64/", "usr/libexec/"];
/// What the loader puts before everything.
const PRELOAD: &str = "etc/ld.so.preload";

/// The tools that this tree has files for. `wanted_locales` are those of the recipe.
///
/// # Errors
/// A locale that nobody knows.
pub(crate) fn wanted(
    merge: &Merge,
    workspace: &Workspace<'_>,
    wanted_locales: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<Trigger>, Error> {
    let mut triggers = Vec::new();
    let mut code = merge.replaced.iter().filter(|path| CODE.iter().any(|folder| path.starts_with(folder)));
    let preload = merge.is_vendors(PRELOAD).then_some(PRELOAD);
    if let Some(path) = code.next().map(String::as_str).or(preload) {
        notes.push(format!(
            "caches of the archive's packages (MIME types, schemas, modules, locales) were not made: `/{path}` is a \
             vendor's, and the tools that make them would run it"
        ));
        return Ok(triggers);
    }
    schemas(merge, &mut triggers);
    for triplet in merge.names("usr/lib").iter().filter(|name| name.ends_with("-linux-gnu")) {
        let lib = format!("usr/lib/{triplet}");
        pixbuf_loaders(merge, &lib, &mut triggers, notes);
        input_modules(merge, &lib, &mut triggers, notes);
        gio_modules(merge, &lib, &mut triggers, notes);
    }
    mime(merge, &mut triggers);
    desktop(merge, &mut triggers);
    fonts(merge, &mut triggers);
    icons(merge, &mut triggers);
    triggers.extend(locales::wanted(merge, workspace, wanted_locales)?);
    Ok(triggers)
}

/// The modules of a folder that a tool may load: those of the archive.
fn modules(merge: &Merge, folder: &str, notes: &mut Vec<String>) -> Vec<String> {
    let (vendors, archives): (Vec<String>, Vec<String>) =
        files(merge, folder, &[".so"]).into_iter().partition(|path| merge.is_vendors(path));
    notes.extend(vendors.into_iter().map(|path| {
        format!("`{path}` is in no cache of modules: it is a vendor's, and making one would run it")
    }));
    archives
}

/// The files of a folder with one of these endings, by name.
fn files(merge: &Merge, folder: &str, endings: &[&str]) -> Vec<String> {
    let Ok(folder) = merge.resolve(folder) else { return Vec::new() };
    let fitting = |name: &String| endings.iter().any(|ending| name.ends_with(ending));
    merge.names(&folder).into_iter().filter(fitting).map(|name| format!("/{folder}/{name}")).collect()
}

/// The first of these that is there and of the archive.
fn program(merge: &Merge, places: &[String]) -> Option<String> {
    let is_file = |place: &&String| matches!(merge.node(place), Some(Node::File { .. }));
    places.iter().filter(is_file).find(|place| !merge.is_vendors(place)).cloned()
}

/// The tool of a library, whatever folder beside `lib` its package is named after (`libgtk-3-0`, `libgtk-3-0t64`).
fn tool_below(merge: &Merge, lib: &str, prefix: &str, name: &str) -> Option<String> {
    let folders = merge.names(lib).into_iter().filter(|folder| folder.starts_with(prefix));
    program(merge, &folders.map(|folder| format!("{lib}/{folder}/{name}")).collect::<Vec<_>>())
}

fn schemas(merge: &Merge, triggers: &mut Vec<Trigger>) {
    const FOLDER: &str = "usr/share/glib-2.0/schemas";
    let mut places = vec!["usr/bin/glib-compile-schemas".to_owned()];
    places
        .extend(merge.names("usr/lib").iter().map(|t| format!("usr/lib/{t}/glib-2.0/glib-compile-schemas")));
    let sources = files(merge, FOLDER, &[".gschema.xml", ".gschema.override", ".enums.xml"]);
    if let Some(tool) = program(merge, &places).filter(|_| !sources.is_empty()) {
        let args = ["--targetdir=/run/out", "/usr/share/glib-2.0/schemas"];
        let trigger = Trigger::new("GSettings' schemas", &tool, &args, Outcome::Folder(FOLDER.into()));
        triggers.push(trigger.reading(FOLDER));
    }
}

fn pixbuf_loaders(merge: &Merge, lib: &str, triggers: &mut Vec<Trigger>, notes: &mut Vec<String>) {
    let folder = format!("{lib}/gdk-pixbuf-2.0/2.10.0");
    let loaders = modules(merge, &format!("{folder}/loaders"), notes);
    let tool = program(merge, &[format!("{lib}/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders")]);
    // Even without a loader: a missing cache is a warning at every start of a GTK program.
    if let Some(tool) = tool.filter(|_| merge.node(&folder).is_some()) {
        let args: Vec<&str> = loaders.iter().map(String::as_str).collect();
        let result = Outcome::Stdout(format!("{folder}/loaders.cache"));
        triggers.push(Trigger::new("GDK's image loaders", &tool, &args, result).running(loaders));
    }
}

fn input_modules(merge: &Merge, lib: &str, triggers: &mut Vec<Trigger>, notes: &mut Vec<String>) {
    for (prefix, tool, folder) in [
        ("libgtk-3-0", "gtk-query-immodules-3.0", "gtk-3.0/3.0.0"),
        ("libgtk2.0-0", "gtk-query-immodules-2.0", "gtk-2.0/2.10.0"),
    ] {
        let modules = modules(merge, &format!("{lib}/{folder}/immodules"), notes);
        if let Some(tool) = tool_below(merge, lib, prefix, tool).filter(|_| !modules.is_empty()) {
            let args: Vec<&str> = modules.iter().map(String::as_str).collect();
            let result = Outcome::Stdout(format!("{lib}/{folder}/immodules.cache"));
            triggers.push(Trigger::new("GTK's input modules", &tool, &args, result).running(modules));
        }
    }
}

/// `gio-querymodules` writes beside the modules, so it gets a folder of links to them.
fn gio_modules(merge: &Merge, lib: &str, triggers: &mut Vec<Trigger>, notes: &mut Vec<String>) {
    const SCRIPT: &str = "mkdir /run/modules; for f; do ln -s \"$f\" /run/modules/; done; \
                          \"$TOOL\" /run/modules; cp /run/modules/giomodule.cache /run/out/";
    let tool =
        program(merge, &[format!("{lib}/glib-2.0/gio-querymodules"), "usr/bin/gio-querymodules".into()]);
    let Some(tool) = tool else { return };
    for folder in
        ["gio/modules", "gtk-4.0/4.0.0/immodules", "gtk-4.0/4.0.0/printbackends", "gtk-4.0/4.0.0/media"]
    {
        let folder = format!("{lib}/{folder}");
        let modules = modules(merge, &folder, notes);
        if !modules.is_empty() {
            let result = Outcome::SortedFolder(folder.clone());
            let args: Vec<&str> = modules.iter().map(String::as_str).collect();
            let mut trigger = Trigger::script("GIO's modules", SCRIPT, &["mkdir", "ln", "cp"], &args, result);
            trigger.step.env.insert("TOOL".into(), format!("/{tool}"));
            triggers.push(trigger.running(modules).running([tool.clone()]));
        }
    }
}

fn mime(merge: &Merge, triggers: &mut Vec<Trigger>) {
    const SCRIPT: &str = "mkdir -p /run/mime/packages; for f in /$1/packages/*.xml; do ln -s \"$f\" \
                          /run/mime/packages/; done; update-mime-database /run/mime; rm -r /run/mime/packages; \
                          cp -r /run/mime/. /run/out/";
    let tool = program(merge, &["usr/bin/update-mime-database".into()]);
    if tool.is_some() && !files(merge, "usr/share/mime/packages", &[".xml"]).is_empty() {
        let mut trigger = Trigger::script(
            "the MIME database",
            SCRIPT,
            &["mkdir", "ln", "rm", "cp", "update-mime-database"],
            &["usr/share/mime"],
            Outcome::Folder("usr/share/mime".into()),
        )
        .reading("usr/share/mime/packages");
        // The result is in memory: there is nothing to wait for.
        trigger.step.env.insert("PKGSYSTEM_ENABLE_FSYNC".into(), "0".into());
        triggers.push(trigger);
    }
}

fn desktop(merge: &Merge, triggers: &mut Vec<Trigger>) {
    const SCRIPT: &str = "cp -r /$1 /run/applications; update-desktop-database -q /run/applications; \
                          cp /run/applications/mimeinfo.cache /run/out/";
    const FOLDER: &str = "usr/share/applications";
    let tool = program(merge, &["usr/bin/update-desktop-database".into()]);
    if tool.is_some() && !files(merge, FOLDER, &[".desktop"]).is_empty() {
        let result = Outcome::SortedFolder(FOLDER.into());
        let programs = ["cp", "update-desktop-database"];
        let trigger = Trigger::script("the programs for MIME types", SCRIPT, &programs, &[FOLDER], result);
        triggers.push(trigger.reading(FOLDER));
    }
}

/// fontconfig's cache, without which each start of a program reads every font. A folder with a cache is not read again,
/// so where a vendor's font or settings are, there is none: making it would read them.
fn fonts(merge: &Merge, triggers: &mut Vec<Trigger>) {
    const FOLDERS: [&str; 4] =
        ["usr/share/fonts", "usr/local/share/fonts", "etc/fonts", "usr/share/fontconfig"];
    const SETTINGS: &[u8] =
        b"<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"urn:fontconfig:fonts.dtd\"><fontconfig>\
        <cachedir>/run/out</cachedir><include>/etc/fonts/fonts.conf</include></fontconfig>\n";
    // Whatever looks for a font writes what is missing; `fc-cache` does no more, and then sleeps for two seconds.
    let tool = program(merge, &["usr/bin/fc-list".into()]);
    let has_fonts = below(merge, FOLDERS[0]).any(|(_, node)| !matches!(node, Node::Directory));
    if tool.is_none() || merge.node("etc/fonts/fonts.conf").is_none() || !has_fonts {
        return;
    }
    let script = "fc-list >/run/list; rm -f /run/out/CACHEDIR.TAG";
    let result = Outcome::Folder("var/cache/fontconfig".into());
    let mut trigger = Trigger::script("files of fontconfig's cache", script, &["fc-list", "rm"], &[], result);
    trigger.reads.extend(FOLDERS.map(str::to_owned));
    trigger.archives_alone = true;
    trigger.inputs.insert("fonts.conf".into(), SETTINGS.to_vec());
    trigger.step.env.insert("FONTCONFIG_FILE".into(), "/run/in/fonts.conf".into());
    triggers.push(trigger);
}

/// GTK's cache of each theme of icons. It holds names alone, a vendor's too, and no picture is read for it. The tool sorts
/// them, so the order in which a folder gives them does not matter.
fn icons(merge: &Merge, triggers: &mut Vec<Trigger>) {
    const FOLDER: &str = "usr/share/icons";
    const SCRIPT: &str = "cp -rs \"/$1\" /run/icons; $TOOL --quiet --force --index-only /run/icons; \
                          cp /run/icons/icon-theme.cache /run/out/";
    let tools = ["usr/bin/gtk-update-icon-cache".to_owned(), "usr/bin/gtk4-update-icon-cache".to_owned()];
    let Some(tool) = program(merge, &tools) else { return };
    for theme in merge.names(FOLDER) {
        let place = format!("{FOLDER}/{theme}");
        let is_theme = matches!(merge.node(&format!("{place}/index.theme")), Some(Node::File { .. }));
        // A theme of settings alone has nothing to look for.
        if !is_theme
            || !below(merge, &place).any(|(path, _)| ICONS.iter().any(|ending| path.ends_with(ending)))
        {
            continue;
        }
        let name = format!("the cached names of the icons `{theme}`");
        let mut trigger = Trigger::script(&name, SCRIPT, &["cp"], &[&place], Outcome::Folder(place.clone()));
        trigger.step.env.insert("TOOL".into(), format!("/{tool}"));
        triggers.push(trigger.running([tool.clone()]).reading(&place));
    }
}

/// What is below a folder.
fn below<'a>(merge: &'a Merge, folder: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    let prefix = format!("{folder}/");
    let start = merge.tree.nodes.range(prefix.clone()..);
    start.map(|(path, node)| (path.as_str(), node)).take_while(move |(path, _)| path.starts_with(&prefix))
}

/// Runs the tools whose results are not known, and adds what they make; gives what is worth telling. `room` makes the place
/// to run in, where one is needed.
///
/// # Errors
/// No sandbox can be made; a required tool fails; a result that a tree cannot hold.
pub(crate) fn run<'a>(
    room: &dyn Fn() -> Result<Room<'a>, Error>,
    workspace: &Workspace<'_>,
    triggers: &[Trigger],
    merge: &mut Merge,
) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    let excerpts = Excerpts::new(merge, workspace, library_path(merge))?;
    let vendors = |trigger: &Trigger| trigger.runs.iter().find(|path| merge.is_vendors(path)).cloned();
    let mut ours = Vec::new();
    for trigger in triggers {
        match vendors(trigger) {
            // A locale was asked for by name; what it takes is the archive's or an error.
            Some(path) if trigger.required => {
                let reason = format!("`{path}` is a vendor's, and making it would run that");
                return Err(Error::BuildStep { step: trigger.step.name.clone(), reason });
            }
            Some(path) => {
                let name = &trigger.step.name;
                notes.push(format!(
                    "{name} were not made: `{path}` is a vendor's, and making them would run it"
                ));
            }
            None => ours.push(trigger),
        }
    }
    let runs = ours.into_iter().map(|trigger| Run::new(trigger, &excerpts, workspace));
    let mut runs = runs.collect::<Result<Vec<Run<'_>>, Error>>()?;
    drop(excerpts);
    runs.retain(|run| match run.vendors_file(merge) {
        Some(path) => {
            let name = &run.trigger.step.name;
            notes.push(format!(
                "{name} were not made: `/{path}` is a vendor's, and making them would read it"
            ));
            false
        }
        None => true,
    });
    let unknown: Vec<(usize, &Run<'_>)> =
        runs.iter().enumerate().filter(|(_, run)| run.known.is_none()).collect();
    let mut made =
        if unknown.is_empty() { BTreeMap::new() } else { all_made(&room()?, workspace, &unknown)? };
    for (number, run) in runs.into_iter().enumerate() {
        let result = run.known.map(Ok).or_else(|| made.remove(&number));
        match result.unwrap_or_else(|| Ok(Manifest::default())) {
            Ok(result) => match merge.fits(&result) {
                Ok(()) => result.nodes.into_iter().try_for_each(|(path, node)| add(merge, &path, node))?,
                // Of what only saves time, a vendor's file in its place decides.
                Err(reason) if !run.trigger.required => {
                    notes.push(format!("{} were not made: {reason}", run.trigger.step.name));
                }
                Err(reason) => return Err(bad(reason)),
            },
            Err(Error::BuildStep { step, reason }) if !run.trigger.required => {
                notes.push(format!("{step} were not made: {reason}"));
            }
            Err(Error::StepLimit { step, limit }) if !run.trigger.required => {
                notes.push(format!("{step} were not made: {limit}"));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(notes)
}

/// A library in a folder of a vendor's, named by a file in `ld.so.conf.d`, does not come before the archive's.
fn library_path(merge: &Merge) -> Vec<String> {
    let triplets = merge.names("usr/lib").into_iter().filter(|name| name.ends_with("-linux-gnu"));
    let folders = triplets.map(|triplet| format!("/usr/lib/{triplet}"));
    folders.chain(["/usr/lib".to_owned()]).collect()
}

/// A tool with what it sees, and its result where a tree before had the same.
struct Run<'a> {
    trigger: &'a Trigger,
    excerpt: Excerpt,
    key: Sha256,
    known: Option<Manifest>,
}

impl<'a> Run<'a> {
    fn new(trigger: &'a Trigger, excerpts: &Excerpts<'_>, workspace: &Workspace<'_>) -> Result<Self, Error> {
        let excerpt = excerpts.of(&trigger.runs, &trigger.reads)?;
        let key = trigger.key(&excerpt);
        Ok(Self { trigger, excerpt, key, known: workspace.result(key) })
    }

    /// The first file of a vendor's that keeps it from running.
    fn vendors_file(&self, merge: &Merge) -> Option<String> {
        let mut seen = self.excerpt.tree.nodes.iter().filter(|_| self.trigger.archives_alone);
        let vendors = seen.find(|(path, node)| !matches!(node, Node::Directory) && merge.is_of_vendor(path));
        vendors.map(|(path, _)| path.clone())
    }
}

type Made = Result<Manifest, Error>;

/// Each tool's result, by its number. They run on all cores: none sees what another one makes.
fn all_made(
    room: &Room<'_>,
    workspace: &Workspace<'_>,
    runs: &[(usize, &Run<'_>)],
) -> Result<BTreeMap<usize, Made>, Error> {
    let results: Mutex<BTreeMap<usize, Made>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        // The tools keep the processors busy, so it is the time for the disk to take what was unpacked.
        let disk = scope.spawn(|| workspace.sync());
        parallel(runs, threads, |(number, run)| {
            let made = made(room, workspace, run, *number);
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, made);
            Ok(())
        })?;
        disk.join().unwrap_or(Ok(()))
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn bad(reason: String) -> Error {
    Error::BadLayout { package: "what a tool of the tree made".into(), reason }
}

fn add(merge: &mut Merge, path: &str, node: Node) -> Result<(), Error> {
    match node {
        Node::Directory => merge.put_if_missing(path, node),
        other => merge.put(path, other),
    }
    .map_err(bad)
}

/// One tool's result by path, kept for the next tree.
fn made(room: &Room<'_>, workspace: &Workspace<'_>, run: &Run<'_>, number: usize) -> Made {
    let Run { trigger, excerpt, .. } = run;
    let out = workspace.scratch(&format!("trigger-{number}-out"))?;
    let input = workspace.scratch(&format!("trigger-{number}-in"))?;
    for (path, content) in &trigger.inputs {
        put(&input.join(path), content)?;
    }
    let root = workspace.scratch(&format!("trigger-{number}-tree"))?.join("root");
    workspace.link_tree(&root, &excerpt.tree)?;
    let mut step = trigger.step(excerpt);
    step.binds.push((out.clone(), OUT.into(), false));
    step.binds.push((input, "/run/in".into(), true));
    let stdout = room.run(Root::ReadOnly(&root), &step)?.success(&step.name)?;
    let mut result = Manifest::default();
    match &trigger.result {
        Outcome::Stdout(path) => {
            let label = format!("trigger-{number}");
            let (sha256, size) = workspace.add(&mut &stdout[..], false, &label)?;
            result.nodes.insert(path.clone(), Node::File { sha256, size, executable: false });
        }
        Outcome::Folder(place) => collect(workspace, &out, place, &mut result)?,
        Outcome::SortedFolder(place) => {
            sort_lines(&out)?;
            collect(workspace, &out, place, &mut result)?;
        }
    }
    // Nothing is what no tool is run for: the next tree tries again.
    if !result.nodes.values().any(|node| matches!(node, Node::File { size: 1.., .. })) {
        let reason = "it ended without an error and wrote nothing".to_owned();
        return Err(Error::BuildStep { step: step.name, reason });
    }
    workspace.add_result(run.key, &result)?;
    Ok(result)
}

/// What a tool left in its folder, as it will lie in the tree. A link of a tool's is none of a tree's.
fn collect(workspace: &Workspace<'_>, out: &Path, place: &str, result: &mut Manifest) -> Result<(), Error> {
    let captured = capture::capture(workspace, out, &Manifest::default())?;
    let kept = captured.written.into_iter().filter(|(_, node)| !matches!(node, Node::Link { .. }));
    result.nodes.extend(kept.map(|(path, node)| (format!("{place}/{path}"), node)));
    Ok(())
}

fn put(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    std::fs::write(path, content).map_err(Error::io("write", path))
}

/// A heading in brackets stays first.
fn sort_lines(folder: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path: PathBuf = entry.map_err(Error::io("read", folder))?.path();
        let metadata = std::fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        if !metadata.is_file() {
            continue;
        }
        if metadata.len() > SORTED_BYTES_MAX {
            let reason = format!("it wrote more than {SORTED_BYTES_MAX} bytes");
            return Err(Error::BuildStep { step: path.display().to_string(), reason });
        }
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_by_key(|line| (!line.starts_with('['), *line));
        std::fs::write(&path, lines.join("\n") + "\n").map_err(Error::io("write", &path))?;
    }
    Ok(())
}
