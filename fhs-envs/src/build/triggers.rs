//! What dpkg's triggers make from the files of several packages: caches and databases, written by the tree's own tools.
//!
//! The formats belong to the libraries that read them, so the tools of the same version write them, offline in a build
//! sandbox over the finished tree ([`super::sandboxed`]). A tool runs only where the tree has files for it. Its input
//! is handed over in the order of names, in memory where it reads a folder by itself: the order in which a disk gives
//! a folder's entries differs between machines.
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

use super::merge::Merge;
use super::sandboxed::{Room, Root, Step};
use super::{capture, locales};
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
}

impl Trigger {
    fn new(name: &str, program: &str, args: &[&str], result: Outcome) -> Self {
        let mut step = Step::new(name, &format!("/{program}"), args);
        step.cwd = "/".into();
        Self { step, result, required: false, inputs: BTreeMap::new() }
    }

    /// Runs `script` in the tree's shell, `$1` and so on being `arguments`.
    fn script(name: &str, script: &str, arguments: &[&str], result: Outcome) -> Self {
        Self::new(name, "usr/bin/sh", &[&["-ec", script, "sh"], arguments].concat(), result)
    }

    /// For a locale: its result was asked for by name.
    pub(crate) fn locale(step: Step, folder: String, inputs: BTreeMap<String, Vec<u8>>) -> Self {
        Self { step, result: Outcome::Folder(folder), required: true, inputs }
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
    fonts(merge, &mut triggers, notes);
    icons(merge, &mut triggers);
    triggers.extend(locales::wanted(merge, workspace, wanted_locales)?);
    // A library in a folder of a vendor's, named by a file in `ld.so.conf.d`, does not come before the archive's.
    let folders: Vec<String> =
        merge.names("usr/lib").into_iter().filter(|name| name.ends_with("-linux-gnu")).collect();
    let folders: Vec<String> = folders.iter().map(|triplet| format!("/usr/lib/{triplet}")).collect();
    for trigger in &mut triggers {
        trigger.step.env.insert("LD_LIBRARY_PATH".into(), format!("{}:/usr/lib", folders.join(":")));
    }
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
        triggers.push(Trigger::new("GSettings' schemas", &tool, &args, Outcome::Folder(FOLDER.into())));
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
        triggers.push(Trigger::new("GDK's image loaders", &tool, &args, result));
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
            triggers.push(Trigger::new("GTK's input modules", &tool, &args, result));
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
            let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
            let mut trigger = Trigger::script("GIO's modules", SCRIPT, &modules, result);
            trigger.step.env.insert("TOOL".into(), format!("/{tool}"));
            triggers.push(trigger);
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
            &["usr/share/mime"],
            Outcome::Folder("usr/share/mime".into()),
        );
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
        triggers.push(Trigger::script("the programs for MIME types", SCRIPT, &[FOLDER], result));
    }
}

/// fontconfig's cache, without which each start of a program reads every font. A folder with a cache is not read again,
/// so where a vendor's font or settings are, there is none: making it would read them.
fn fonts(merge: &Merge, triggers: &mut Vec<Trigger>, notes: &mut Vec<String>) {
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
    let files = FOLDERS.iter().flat_map(|folder| below(merge, folder));
    let mut files = files.filter(|(_, node)| !matches!(node, Node::Directory)).map(|(path, _)| path);
    if let Some(path) = files.find(|path| merge.is_vendors(path)) {
        notes.push(format!("fonts are in no cache: `/{path}` is a vendor's, and making one would read it"));
        return;
    }
    let script = "fc-list >/run/list; rm -f /run/out/CACHEDIR.TAG";
    let result = Outcome::Folder("var/cache/fontconfig".into());
    let mut trigger = Trigger::script("files of fontconfig's cache", script, &[], result);
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
        let mut trigger = Trigger::script(&name, SCRIPT, &[&place], Outcome::Folder(place.clone()));
        trigger.step.env.insert("TOOL".into(), format!("/{tool}"));
        triggers.push(trigger);
    }
}

/// What is below a folder.
fn below<'a>(merge: &'a Merge, folder: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    let prefix = format!("{folder}/");
    let start = merge.tree.nodes.range(prefix.clone()..);
    start.map(|(path, node)| (path.as_str(), node)).take_while(move |(path, _)| path.starts_with(&prefix))
}

/// Runs the tools over the tree in `folder` and adds what they made; gives what is worth telling.
///
/// # Errors
/// No sandbox can be made; a required tool fails; a result that a tree cannot hold.
pub(crate) fn run(
    room: &Room<'_>,
    workspace: &Workspace<'_>,
    folder: &Path,
    triggers: &[Trigger],
    merge: &mut Merge,
) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    for (trigger, nodes) in triggers.iter().zip(all_made(room, workspace, folder, triggers)) {
        match nodes {
            Ok(nodes) => {
                for (path, node) in nodes {
                    add(merge, &path, node)?;
                }
            }
            Err(Error::BuildStep { step, reason }) if !trigger.required => {
                notes.push(format!("{step} were not made: {reason}"));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(notes)
}

type Made = Result<BTreeMap<String, Node>, Error>;

/// Each tool's result, in their order. They run on all cores: none sees what another one makes.
fn all_made(room: &Room<'_>, workspace: &Workspace<'_>, folder: &Path, triggers: &[Trigger]) -> Vec<Made> {
    let results: Mutex<BTreeMap<usize, Made>> = Mutex::default();
    let numbered: Vec<(usize, &Trigger)> = triggers.iter().enumerate().collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcome = parallel(&numbered, threads, |(number, trigger)| {
        let nodes = made(room, workspace, folder, trigger, *number);
        results.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, nodes);
        Ok(())
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values();
    results.chain(outcome.err().map(Err)).collect()
}

fn add(merge: &mut Merge, path: &str, node: Node) -> Result<(), Error> {
    let bad = |reason| Error::BadLayout { package: "what a tool of the tree made".into(), reason };
    match node {
        Node::Directory => merge.put_if_missing(path, node),
        other => merge.put(path, other),
    }
    .map_err(bad)
}

/// One tool's result by path.
fn made(room: &Room<'_>, workspace: &Workspace<'_>, folder: &Path, trigger: &Trigger, number: usize) -> Made {
    let out = workspace.scratch(&format!("trigger-{number}-out"))?;
    let input = workspace.scratch(&format!("trigger-{number}-in"))?;
    for (path, content) in &trigger.inputs {
        put(&input.join(path), content)?;
    }
    let mut step = trigger.step.clone();
    step.binds.push((out.clone(), OUT.into(), false));
    step.binds.push((input, "/run/in".into(), true));
    let stdout = room.run(Root::ReadOnly(folder), &step)?.success(&step.name)?;
    let (place, sorted) = match &trigger.result {
        Outcome::Stdout(path) => {
            let label = format!("trigger-{number}");
            let (sha256, size) = workspace.add(&mut &stdout[..], false, &label)?;
            return Ok(BTreeMap::from([(path.clone(), Node::File { sha256, size, executable: false })]));
        }
        Outcome::Folder(place) => (place, false),
        Outcome::SortedFolder(place) => (place, true),
    };
    if sorted {
        sort_lines(&out)?;
    }
    let captured = capture::capture(workspace, &out, &Manifest::default())?;
    let whole = |(path, node)| (format!("{place}/{path}"), node);
    Ok(captured
        .written
        .into_iter()
        .filter(|(_, node)| !matches!(node, Node::Link { .. }))
        .map(whole)
        .collect())
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
