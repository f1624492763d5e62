//! `hatchway new`: a recipe from facts. Only what differs from the defaults, each line with its evidence.

use std::collections::BTreeSet;

use hatchway_inspect::{Facts, HardCodedPath, PackageKind, ProgramKind};

use super::Name;
use crate::plan::Services;
use crate::rpm;
use crate::suggest::Suggestion;

/// How an artifact was named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(String),
    /// A package of Debian's archive.
    Archive(String),
}

/// What a draft needs beside the facts.
#[allow(missing_debug_implementations, reason = "it holds a closure")]
pub struct Draft<'a> {
    /// The tool's name.
    pub name: &'a Name,
    /// Where the artifact came from.
    pub origin: &'a Origin,
    /// What inspection found.
    pub facts: &'a Facts,
    /// The program that runs by default, if there is no doubt.
    pub program: Option<&'a str>,
    /// Whether the artifact is a wheel that is installed into a Python.
    pub python: bool,
    /// That it is run as an installer, and why.
    pub install: Option<&'a Suggestion>,
    /// Services that start before it.
    pub services: Option<&'a Services>,
    /// Why Wine runs it, if it does.
    pub wine: Option<&'a str>,
    /// Whether the artifact brings a path.
    pub brings: &'a dyn Fn(&str) -> bool,
}

/// Writes the recipe's text.
#[must_use]
pub fn draft(draft: &Draft<'_>) -> String {
    let mut text = format!(
        "# Written by `hatchway new` from {}. What stands here differs from the defaults; comments give the evidence.\n\
         schema = 1\n",
        comment(&draft.facts.artifact.file)
    );
    package(draft, &mut text);
    artifact(draft, &mut text);
    environment(draft, &mut text);
    run(draft, &mut text);
    files(draft, &mut text);
    text
}

/// Where an archive without a layout of its own is unpacked. `python`: it is installed into one.
#[must_use]
pub fn unpack_folder(name: &Name, facts: &Facts, python: bool) -> Option<String> {
    let kind = facts.package.as_ref().map(|package| package.kind);
    let own_layout = matches!(kind, Some(PackageKind::Deb | PackageKind::Rpm)) || python;
    (!own_layout).then(|| format!("/opt/{name}"))
}

fn folder(draft: &Draft<'_>) -> Option<String> {
    if draft.install.is_some() {
        return None;
    }
    unpack_folder(draft.name, draft.facts, draft.python)
}

fn is_app_image(facts: &Facts) -> bool {
    facts.artifact.format == "appimage"
}

/// Foreign text for a comment: on one line, without control characters.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn package(draft: &Draft<'_>, text: &mut String) {
    let package = draft.facts.package.as_ref();
    text.push_str(&format!("\n[package]\nname = {}\n", quoted(draft.name.as_str())));
    if let Some(package) = package {
        text.push_str(&format!("version = {}\n", quoted(&package.version)));
        if let Some(vendor) = package.vendor.as_ref().or(package.maintainer.as_ref()) {
            text.push_str(&format!("vendor = {}\n", quoted(vendor)));
        }
    }
    match package.and_then(|p| p.license.as_ref()) {
        Some(license) => text.push_str(&format!("license = {}\n", quoted(license))),
        None => text.push_str("# license: the artifact does not say\n"),
    }
}

fn artifact(draft: &Draft<'_>, text: &mut String) {
    let (key, value) = match draft.origin {
        Origin::File(name) => ("file", name),
        Origin::Archive(spec) => ("archive", spec),
    };
    let sha256 = quoted(&draft.facts.artifact.sha256);
    text.push_str(&format!("\n[[artifact]]\n{key} = {}\nsha256 = {sha256}\n", quoted(value)));
    if let Some(suggestion) = draft.install {
        text.push_str(&install(suggestion));
    }
    if let Some(folder) = folder(draft) {
        let why = match draft.facts.artifact.format.as_str() {
            "appimage" => "its file system, which it would mount at each start",
            "wheel" => "its programs need no Python: no entry points, no modules in machine code",
            "makeself" => "what it carries; the script itself is not run",
            _ => "it has no layout of its own",
        };
        text.push_str(&format!("unpack = {}  # {why}\n", quoted(&folder)));
    }
}

/// Nobody accepts a licence for somebody else: that key is left to the person.
fn install(suggestion: &Suggestion) -> String {
    let licence = suggestion.licence.as_ref().map_or_else(String::new, |evidence| {
        let evidence = comment(evidence);
        format!("# it has a licence: {evidence}; once it is read and accepted, add `accept-licence = true`\n")
    });
    let run: Vec<String> = suggestion.run.iter().map(|word| quoted(word)).collect();
    format!("{licence}install = {{ run = [{}] }}  # {}\n", run.join(", "), comment(&suggestion.why))
}

fn environment(draft: &Draft<'_>, text: &mut String) {
    let facts = draft.facts;
    let outside: Vec<&hatchway_inspect::Need> =
        facts.needs.iter().filter(|need| need.found.is_none()).collect();
    let declared = facts.package.as_ref().and_then(|p| p.depends.as_ref());
    let foreign = facts.package.as_ref().map(rpm::foreign_names).unwrap_or_default();
    let links = links(draft);
    let python = python(draft);
    let i386 = of_i386(facts).or_else(|| draft.wine.and_then(|_| crate::wine::of_i386(facts)));
    let alone = stands_alone(draft);
    let evidence = !outside.is_empty() || alone || declared.is_some() || !foreign.is_empty();
    if !evidence && links.is_empty() && python.is_empty() && i386.is_none() {
        return;
    }
    text.push_str("\n[environment]\n");
    if alone {
        text.push_str("base = \"none\"  # statically linked, and it names no file that a base would bring\n");
    }
    if let Some(evidence) = i386 {
        text.push_str(&format!("architectures = [\"amd64\", \"i386\"]  # {}\n", comment(&evidence)));
    }
    text.push_str(&python);
    if let Some(depends) = declared {
        text.push_str(&format!("# the package declares: {}\n", comment(depends)));
    }
    if !foreign.is_empty() {
        let names = comment(&foreign.join(", "));
        text.push_str(&format!("# the package requires, by names of its own distribution: {names}\n"));
    }
    for need in outside {
        let newest = need.versions.last().map(|v| format!(" with {v}")).unwrap_or_default();
        let wanted_by = need.wanted_by.first().map_or("", String::as_str);
        let line = format!("# {wanted_by} is linked with {}{newest}", need.soname);
        text.push_str(&format!("{}\n", comment(&line)));
    }
    if !links.is_empty() {
        let why = if is_app_image(facts) {
            "for programs that start their AppImage again"
        } else {
            "the links that the package's ldconfig trigger would have made"
        };
        text.push_str(&format!("# {why}\n[environment.links]\n"));
        for (path, target) in links {
            text.push_str(&format!("{} = {}\n", quoted(&path), quoted(&target)));
        }
    }
}

/// Whether facts prove that nothing is missing without a base: nothing but programs that are linked with nothing, everything
/// read, and no path among their constants that a launch does not make.
fn stands_alone(draft: &Draft<'_>) -> bool {
    const FOLDERS: [&str; 6] = ["/dev/", "/proc/", "/sys/", "/tmp/", "/var/tmp/", "/run/"];
    const FILES: [&str; 7] = [
        "/etc/passwd",
        "/etc/group",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/machine-id",
        "/etc/nsswitch.conf",
    ];
    let facts = draft.facts;
    let package = facts.package.is_some() || draft.python || draft.install.is_some() || is_app_image(facts);
    let programs = facts.programs.iter().all(|program| program.kind == ProgramKind::Elf);
    let linked_with_nothing =
        facts.elf.iter().all(|elf| elf.static_linked && !elf.partial && elf.packer.is_none());
    let made = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        FOLDERS.iter().any(|made| folder.starts_with(made)) || FILES.contains(&path) || (draft.brings)(path)
    };
    !package
        && !facts.elf.is_empty()
        && !facts.programs.is_empty()
        && facts.omitted.is_empty()
        && facts.pe.is_empty()
        && facts.contains.is_empty()
        && programs
        && linked_with_nothing
        && facts.elf.iter().all(|elf| elf.machine == "x86-64")
        && facts.hard_coded_paths.iter().all(|constant| made(&constant.path))
}

/// The links that the tree should have, path and target.
fn links(draft: &Draft<'_>) -> Vec<(String, String)> {
    let at = folder(draft).unwrap_or_default();
    if is_app_image(draft.facts) {
        return vec![(format!("{at}.AppImage"), format!("{}/AppRun", draft.name))];
    }
    // A wheel's libraries lie where Python looks, and no loader; an installer's nobody knows yet.
    let placed = !draft.python && draft.install.is_none();
    let links = draft.facts.soname_links.iter().filter(|_| placed);
    links.map(|link| (format!("{at}{}", link.path), link.target.clone())).collect()
}

/// The Python that a wheel is for.
fn python(draft: &Draft<'_>) -> String {
    let facts = draft.facts;
    if !draft.python {
        return String::new();
    }
    let package = facts.package.as_ref();
    let wish = package.and_then(|package| package.requires_python.as_deref());
    let version = hatchway_envs::python::suitable(&facts.artifact.file, wish);
    let says = wish.map(|wish| format!(", which requires Python {wish}")).unwrap_or_default();
    let mut text = String::new();
    for requires in package.iter().flat_map(|package| &package.requires_dist) {
        text.push_str(&format!("# {}\n", comment(&format!("Requires-Dist: {requires}"))));
    }
    let evidence = comment(&format!("{}{says}", facts.artifact.file));
    text + &format!("python = {{ version = {} }}  # for {evidence}\n", quoted(&version))
}

/// Why libraries for i386 are needed beside those for amd64, if they are.
fn of_i386(facts: &Facts) -> Option<String> {
    if facts.package.as_ref().and_then(|p| p.architecture.as_deref()) == Some("i386") {
        return Some("the package is for i386".into());
    }
    // What is linked with nothing needs no libraries.
    let need = facts.needs.iter().find(|need| need.found.is_none() && need.machine == "i386")?;
    Some(format!("{} is a program or library for i386", need.wanted_by.first().map_or("", String::as_str)))
}

fn run(draft: &Draft<'_>, text: &mut String) {
    let states = state(draft);
    let plain = draft.wine.is_none() && draft.services.is_none() && !is_app_image(draft.facts);
    if draft.program.is_none() && states.is_empty() && plain {
        return;
    }
    text.push_str("\n[run]\n");
    text.push_str(&draft.services.map(services).unwrap_or_default());
    if let Some(why) = draft.wine {
        text.push_str(&format!("runner = \"wine\"  # {}\n", comment(why)));
    }
    match (draft.program, draft.services) {
        (Some(program), _) => text.push_str(&format!("program = {}\n", quoted(program))),
        (None, Some(_)) => text.push_str(
            "# nothing but services is known to run; put the vendor's program here if there is one\n\
             program = \"/usr/bin/sleep\"\nargs = [\"infinity\"]\n",
        ),
        (None, None) => {}
    }
    if is_app_image(draft.facts) {
        // What the runtime of an AppImage sets (AppImage documentation, "Environment variables").
        let at = folder(draft).unwrap_or_default();
        let (folder, image) = (quoted(&at), quoted(&format!("{at}.AppImage")));
        text.push_str(&format!("env = {{ APPDIR = {folder}, APPIMAGE = {image} }}\n"));
    }
    if !states.is_empty() {
        let folders: Vec<String> = states.iter().map(|(folder, _)| quoted(folder)).collect();
        for (folder, evidence) in &states {
            text.push_str(&format!("# {folder}: {evidence}\n"));
        }
        text.push_str(&format!("state = [{}]\n", folders.join(", ")));
    }
}

fn services(services: &Services) -> String {
    let names: Vec<String> = services.names.iter().map(|name| quoted(name)).collect();
    let why = comment(&services.why);
    format!(
        "# {why}: they start in a guest before the program\nrung = \"vm\"\nservices = [{}]\n",
        names.join(", ")
    )
}

/// Folders below `/var/lib` and `/var/opt` that programs name: what they keep there survives.
fn state(draft: &Draft<'_>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for constant in &draft.facts.hard_coded_paths {
        for prefix in ["/var/lib/", "/var/opt/"] {
            let Some(rest) = constant.path.strip_prefix(prefix) else { continue };
            let Some(first) = rest.split('/').next().filter(|part| is_plain(part)) else { continue };
            let folder = format!("{prefix}{first}");
            // A file directly in /var/lib is not a folder of the tool's own; dpkg's folder is nobody's state.
            let own = !matches!(first, "dpkg" | "apt" | "systemd" | "dbus" | "misc");
            if own && !found.iter().any(|(known, _)| *known == folder) {
                found.push((folder, evidence(constant)));
            }
        }
    }
    found
}

fn files(draft: &Draft<'_>, text: &mut String) {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for constant in &draft.facts.hard_coded_paths {
        let path = &constant.path;
        if !is_licence(path) || (draft.brings)(path) || !seen.insert(path.clone()) {
            continue;
        }
        let mut name = "license".to_owned();
        let mut number = 2;
        while !names.insert(name.clone()) {
            name = format!("license-{number}");
            number += 1;
        }
        let evidence = evidence(constant);
        text.push_str(&format!(
            "\n# {evidence}; the package does not bring it. Bind it with `--bind {name}=FILE`\n\
             [[file]]\nname = {}\nat = {}\n",
            quoted(&name),
            quoted(path)
        ));
    }
}

/// A file in `/etc` or `/opt` whose name speaks of a licence.
pub(crate) fn is_licence(path: &str) -> bool {
    let inside = path.starts_with("/etc/") || path.starts_with("/opt/") || path.starts_with("/usr/local/");
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let speaks = name.contains("licen") || name.ends_with(".lic");
    inside && speaks && path.split('/').skip(1).all(is_plain)
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != ".." && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
}

fn evidence(constant: &HardCodedPath) -> String {
    comment(&format!("{} names `{}` at offset {:#x}", constant.file, constant.path, constant.offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_in_its_comment() {
        let hostile = "libc6\n[run]\nprogram = \"/bin/rm\"\u{1b}[2J";
        assert!(!comment(hostile).contains(['\n', '\u{1b}']));
        let value: toml::Value = toml::from_str(&format!("x = {}", quoted(hostile))).unwrap();
        assert_eq!(value["x"].as_str(), Some(hostile));
    }

    #[test]
    fn only_licences_become_file_slots() {
        for path in ["/etc/acme/license.dat", "/opt/acme/etc/key.lic", "/etc/LICENSE"] {
            assert!(is_licence(path), "{path}");
        }
        for path in ["/etc/acme.conf", "/usr/share/licenses/x", "/etc/%s/license.dat", "/etc/../license.dat"]
        {
            assert!(!is_licence(path), "{path}");
        }
    }
}
