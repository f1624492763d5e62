//! The report for a terminal: what the file is, what it needs, what it would do, how it would run.

use std::collections::BTreeSet;
use std::path::Path;

use hatchway_inspect::elf::version_family;
use hatchway_inspect::{
    Appended, Contained, EffectKind, ElfFacts, ElfKind, Facts, Need, PeFacts, Program, ProgramKind,
    ScriptEffect, ScriptFacts, SystemFacts, TechnologyKind, UdevRules,
};

use super::layout::{Page, counted, size};
use crate::plan::{Cost, Move, Plan, Suspicion};
use crate::recipe::{Rung, Runner};

/// Archives inside whose contents are described in full.
const DESCRIBED: usize = 3;

/// `over` is a root, and what would not load over it.
pub(super) fn text(facts: &Facts, plan: &Plan, over: Option<(&Path, &[String])>) -> String {
    let mut page = Page::default();
    head(facts, &mut page);
    body(facts, &mut page);
    let inside: Vec<(String, &Facts)> = facts.all().into_iter().skip(1).collect();
    for (path, facts) in inside.iter().take(DESCRIBED) {
        page.heading(&format!("== Inside {path} =="));
        identity(facts, &mut page);
        body(facts, &mut page);
    }
    if inside.len() > DESCRIBED {
        let more = counted((inside.len() - DESCRIBED) as u64, "more archive");
        page.heading(&format!("{more} inside (--json has all)"));
    }
    if let Some((root, fails)) = over {
        over_root(root, fails, &mut page);
    }
    verdict(plan, &mut page);
    page.text
}

fn over_root(root: &Path, fails: &[String], page: &mut Page) {
    let root = root.display();
    if fails.is_empty() {
        page.heading(&format!("Over {root} every library is found, in every version that is wanted."));
    } else {
        page.section(&format!("What does not load over {root}"), fails);
    }
}

fn head(facts: &Facts, page: &mut Page) {
    let artifact = &facts.artifact;
    page.line(&artifact.file);
    let files = counted(facts.files.files, "file");
    page.line(&format!("  {}, {}, {files}", artifact.format, size(artifact.size)));
    page.line(&format!("  sha256 {}", artifact.sha256));
    identity(facts, page);
}

/// What the package, or the program, calls itself.
fn identity(facts: &Facts, page: &mut Page) {
    if let Some(package) = &facts.package {
        let architecture = package.architecture.as_ref().map(|a| format!(" ({a})")).unwrap_or_default();
        page.wrapped(&format!("{} {}{architecture}", package.name, package.version), 2);
        let mut wheel: Vec<String> = Vec::new();
        wheel.extend((!package.tags.is_empty()).then(|| format!("for {}", package.tags.join(" "))));
        wheel.extend(package.requires_python.as_ref().map(|python| format!("Python {python}")));
        if !wheel.is_empty() {
            page.wrapped(&wheel.join("; "), 2);
        }
        let by = package.vendor.as_ref().or(package.maintainer.as_ref());
        for (label, value) in
            [("", package.description.as_ref()), ("by ", by), ("licence ", package.license.as_ref())]
        {
            if let Some(value) = value {
                page.wrapped(&format!("{label}{value}"), 2);
            }
        }
    } else if let [pe] = &facts.pe[..]
        && let Some(product) = &pe.product
    {
        let version = pe.version.as_deref().unwrap_or_default();
        let company = pe.company.as_ref().map(|company| format!(" by {company}")).unwrap_or_default();
        page.wrapped(&format!("{product} {version}{company}"), 2);
    }
}

/// What is in one artifact, or in an archive inside.
fn body(facts: &Facts, page: &mut Page) {
    programs(facts, page);
    libraries(facts, page);
    windows(facts, page);
    technologies(facts, page);
    kernel_modules(facts, page);
    scripts(facts, page);
    page.rows("For the system", system(&facts.system));
    dropped(facts, page);
    constants(facts, page);
    page.rows("Behind the end of its programs", appended(facts));
    // What was not opened must not be behind the end of a long list, and what matters comes before what does not.
    let mut archives: Vec<&Contained> = facts.contains.iter().collect();
    archives.sort_by_key(|one| (one.unopened.is_none(), one.facts.is_none()));
    page.rows("Archives inside", archives.into_iter().map(contained).collect());
}

/// What is appended and is not listed as an archive.
fn appended(facts: &Facts) -> Vec<Vec<String>> {
    let elf = facts.elf.iter().map(|elf| (&elf.path, &elf.appended));
    let pe = facts.pe.iter().map(|pe| (&pe.path, &pe.appended));
    let listed = |path: &String| facts.contains.iter().any(|contained| contained.path == *path);
    let row = |(path, appended): (&String, &Option<Appended>)| {
        let appended = appended.as_ref().filter(|one| one.what != "module-signature" && !listed(path))?;
        let at = format!("at {:#x}", appended.offset);
        Some(vec![path.clone(), at, size(appended.size), appended.what.clone()])
    };
    elf.chain(pe).filter_map(row).collect()
}

fn programs(facts: &Facts, page: &mut Page) {
    let elf = |path: &str| facts.elf.iter().find(|elf| elf.path == path);
    let is_efi = |path: &str| facts.pe.iter().any(|pe| pe.path == path && pe.subsystem.starts_with("efi-"));
    let row = |program: &Program| {
        let kind = match &program.kind {
            ProgramKind::Elf => elf(&program.path).map_or_else(|| "ELF".to_owned(), elf_kind),
            ProgramKind::Pe if is_efi(&program.path) => "EFI program, started by the firmware".to_owned(),
            ProgramKind::Pe => "Windows program".to_owned(),
            ProgramKind::Script { interpreter } => interpreter.clone(),
        };
        vec![program.path.clone(), kind]
    };
    // What a shell would find comes first.
    let mut programs: Vec<&Program> = facts.programs.iter().collect();
    programs.sort_by_key(|program| !program.on_path);
    page.rows("Programs", programs.into_iter().map(row).collect());
}

fn elf_kind(elf: &ElfFacts) -> String {
    let mut words = vec![elf.machine.clone()];
    words.extend(
        elf.static_linked
            .then(|| if elf.kind == ElfKind::Pie { "static PIE".to_owned() } else { "static".to_owned() }),
    );
    words.extend(elf.libc.clone().filter(|libc| libc != "glibc"));
    words.extend(
        elf.made_with.iter().find(|made| made.starts_with("Go ") || made.starts_with("Rust")).cloned(),
    );
    words.extend(elf.isa_level.as_ref().map(|level| format!("needs {level}")));
    words.extend(elf.packer.as_ref().map(|packer| format!("packed by {packer}")));
    words.extend(linking(elf));
    words.join(", ")
}

/// What every glibc since 2.26 writes into the programs it is linked into: it says nothing about one of them.
const USUAL_KERNEL: &str = "3.2.0";

/// What is unusual in how a file is linked and loaded.
fn linking(elf: &ElfFacts) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    words.extend(elf.executable_stack.then(|| "executable stack".to_owned()));
    // That it is bound when it starts, and that its `$ORIGIN` is replaced, is so of most files.
    let flags: Vec<&str> =
        elf.flags.iter().map(String::as_str).filter(|flag| !["now", "origin"].contains(flag)).collect();
    words.extend((!flags.is_empty()).then(|| format!("flags {}", flags.join(" "))));
    words.extend(elf.tls_bytes.map(|bytes| storage(bytes, &elf.tls_models)));
    let kernel = elf.minimum_kernel.as_ref().filter(|kernel| kernel.as_str() != USUAL_KERNEL);
    words.extend(kernel.map(|kernel| format!("from Linux {kernel}")));
    words
}

/// `TLS 128 bytes (general-dynamic)`.
fn storage(bytes: u64, models: &[String]) -> String {
    let models = if models.is_empty() { String::new() } else { format!(" ({})", models.join(", ")) };
    format!("TLS {bytes} bytes{models}")
}

/// Libraries with a demand of their own on the loader or the kernel. That one has thread-local storage is none.
fn demands(facts: &Facts) -> Vec<Vec<String>> {
    let libraries = facts.elf.iter().filter(|elf| elf.kind == ElfKind::Shared);
    let unusual = |elf: &&ElfFacts| {
        let words = linking(elf).len() - usize::from(elf.tls_bytes.is_some());
        words > 0 || elf.isa_level.is_some()
    };
    let row = |elf: &ElfFacts| {
        let mut words = linking(elf);
        words.extend(elf.isa_level.as_ref().map(|level| format!("needs {level}")));
        vec![elf.path.clone(), words.join(", ")]
    };
    libraries.filter(unusual).map(row).collect()
}

fn libraries(facts: &Facts, page: &mut Page) {
    let (inside, outside): (Vec<&Need>, Vec<&Need>) =
        facts.needs.iter().partition(|need| need.found.is_some());
    // The newest is what decides about the system it runs on; one without a number is neither new nor old.
    let versions = |need: &Need| {
        let mut numbered = need.versions.iter().filter(|version| version_family(version) != version.as_str());
        match (need.versions.len(), numbered.next_back().or(need.versions.last())) {
            (_, None) => String::new(),
            (1, Some(only)) => only.clone(),
            (_, Some(newest)) => format!("up to {newest}"),
        }
    };
    let by = |need: &Need| {
        let more = need.wanted_by.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("by {}{more}", need.wanted_by.first().map_or("", |path| base(path)))
    };
    let name = |need: &Need| {
        let small = if need.class == 32 { format!(" ({})", need.machine) } else { String::new() };
        format!("{}{small}", need.soname)
    };
    let rows = outside.iter().map(|need| vec![name(need), versions(need), by(need)]).collect();
    page.rows("Libraries it needs from outside", rows);
    let rows = inside
        .iter()
        .map(|need| {
            let found = need.found.as_ref();
            // Where it lies says its path; the name repeats what stands before it.
            let folder =
                |path: &str| path.strip_suffix(&format!("/{}", need.soname)).map(|at| format!("{at}/"));
            let found = found.map(|f| format!("{} ({})", folder(&f.path).unwrap_or(f.path.clone()), f.rule));
            let mut found = found.unwrap_or_default();
            if !need.missing_versions.is_empty() {
                found.push_str(&format!(", which lacks {}", need.missing_versions.join(" ")));
            }
            vec![name(need), found]
        })
        .collect();
    page.rows("Libraries it brings for itself", rows);
    page.rows("Of its libraries, these demand more than most", demands(facts));
    if let Some(package) = &facts.package {
        let before =
            package.pre_depends.iter().map(|relations| format!("before it is unpacked: {relations}"));
        let mut declared: Vec<String> = before.chain(package.depends.iter().cloned()).collect();
        declared.extend(package.requires_dist.iter().cloned());
        declared.extend((!package.requires.is_empty()).then(|| package.requires.join(", ")));
        page.section("Packages it declares", &declared);
    }
    let links = facts.soname_links.iter().map(|link| vec![link.path.clone(), format!("-> {}", link.target)]);
    page.rows("Links that its ldconfig trigger would have made", links.collect());
}

fn windows(facts: &Facts, page: &mut Page) {
    let (libraries, others): (Vec<&PeFacts>, Vec<&PeFacts>) =
        facts.pe.iter().partition(|pe| pe.library && !pe.driver && !pe.service);
    let mut rows: Vec<Vec<String>> = others.into_iter().map(windows_row).collect();
    let managed = libraries.iter().filter(|pe| pe.dotnet).count();
    let counts = [(libraries.len() - managed, "native"), (managed, ".NET")];
    for (number, kind) in counts.into_iter().filter(|(number, _)| *number > 0) {
        let libraries = if number == 1 { "library" } else { "libraries" };
        rows.push(vec![format!("{number} {kind} {libraries}"), machines(&libraries_of(&facts.pe))]);
    }
    page.rows("Windows files", rows);
    let needs = hatchway_inspect::windows_needs(facts).into_iter().map(|need| {
        let more = need.wanted_by.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let when = if need.delayed { ", at the first call" } else { "" };
        vec![need.name, format!("by {}{more}{when}", need.wanted_by.first().map_or("", |path| base(path)))]
    });
    page.rows("Windows libraries it needs from outside", needs.collect());
    page.section("Windows runtime it needs", &windows_runtime(&facts.pe));
    let drivers = facts.system.windows_drivers.iter().map(|inf| {
        let words = [&inf.class, &inf.provider, &inf.version];
        let words: Vec<&str> = words.iter().filter_map(|word| word.as_deref()).collect();
        let mut parts = vec![words.join(", ")];
        parts.extend((!inf.services.is_empty()).then(|| format!("service {}", inf.services.join(" "))));
        parts.extend((!inf.hardware_ids.is_empty()).then(|| inf.hardware_ids.join(" ")));
        vec![inf.path.clone(), parts.join("; ")]
    });
    page.rows("Windows drivers", drivers.collect());
}

fn windows_row(pe: &PeFacts) -> Vec<String> {
    let kind = match (pe.driver, pe.service, pe.subsystem.as_str()) {
        (true, ..) => "driver",
        (_, true, _) => "service",
        (_, _, "gui") => "program with windows",
        (_, _, "console") => "console program",
        (_, _, subsystem) if subsystem.starts_with("efi-") => "EFI program",
        _ => "program",
    };
    let mut words = vec![format!("{} {kind}", pe.machine)];
    words.extend(pe.dotnet.then(|| match &pe.dotnet_framework {
        Some(framework) => framework.clone(),
        None => format!(".NET {}", pe.dotnet_runtime.as_deref().unwrap_or_default()),
    }));
    let delayed = pe.delay_imports.iter().filter(|name| !name.starts_with("api-ms-"));
    let delayed: Vec<&str> = delayed.map(String::as_str).collect();
    words.extend((!delayed.is_empty()).then(|| format!("loads {} at the first call", delayed.join(" "))));
    words.extend(pe.installer.as_ref().map(|by| format!("installer by {by}")));
    words.extend(pe.packer.as_ref().map(|packer| format!("packed by {packer}")));
    words.extend(pe.execution_level.clone().filter(|level| level != "asInvoker"));
    vec![pe.path.clone(), words.join(", ")]
}

fn libraries_of(pe: &[PeFacts]) -> Vec<&PeFacts> {
    pe.iter().filter(|pe| pe.library).collect()
}

fn machines(pe: &[&PeFacts]) -> String {
    let machines: BTreeSet<&str> = pe.iter().map(|pe| pe.machine.as_str()).collect();
    machines.into_iter().collect::<Vec<_>>().join(", ")
}

/// The C and C++ runtime libraries of all files together; the many parts of the universal one count as one.
fn windows_runtime(pe: &[PeFacts]) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for name in pe.iter().flat_map(|pe| &pe.runtime_libraries) {
        let universal = name.starts_with("api-ms-win-crt-");
        names.insert(if universal { "ucrt (api-ms-win-crt-*)".to_owned() } else { name.clone() });
    }
    let frameworks = pe.iter().filter_map(|pe| pe.dotnet_framework.clone());
    names.extend(frameworks);
    if names.is_empty() { Vec::new() } else { vec![names.into_iter().collect::<Vec<_>>().join(", ")] }
}

fn technologies(facts: &Facts, page: &mut Page) {
    let kind = |kind| match kind {
        TechnologyKind::Licence => "licence",
        TechnologyKind::HostIdentity => "host identity",
        TechnologyKind::Gui => "display",
        TechnologyKind::Gpu => "GPU",
        TechnologyKind::Device => "device",
        TechnologyKind::Audio => "audio",
        TechnologyKind::Runtime => "runtime",
        TechnologyKind::Installer => "installer",
        TechnologyKind::Packer => "packer",
    };
    let rows = facts.technologies.iter().map(|one| {
        let sign = one.evidence.first().map(|e| format!("{} {}", base(&e.file), e.what)).unwrap_or_default();
        vec![kind(one.kind).to_owned(), one.name.clone(), sign]
    });
    page.rows("Recognised", rows.collect());
}

fn kernel_modules(facts: &Facts, page: &mut Page) {
    let rows = facts.kernel_modules.iter().map(|module| {
        let signed = match (&module.signer, module.signed) {
            (Some(signer), _) => format!("signed by {signer}"),
            (None, true) => "signed".to_owned(),
            (None, false) => "not signed".to_owned(),
        };
        let kernel = module.vermagic.as_deref().and_then(|magic| magic.split(' ').next()).unwrap_or("?");
        vec![module.path.clone(), format!("for Linux {kernel}"), signed]
    });
    page.rows("Kernel modules", rows.collect());
}

fn scripts(facts: &Facts, page: &mut Page) {
    let rows = facts.scripts.iter().map(|script| {
        let calls =
            if script.calls.is_empty() { "nothing of note".to_owned() } else { script.calls.join(", ") };
        let files = |verb: &str, files: &[String]| {
            if files.is_empty() { String::new() } else { format!("; {verb} {}", files.join(", ")) }
        };
        let writes = files("writes", &script.writes) + &files("removes", &script.removes);
        if let Some(row) = windows_action(script) {
            return row;
        }
        let lines = counted(script.lines as u64, "line");
        vec![script.name.clone(), lines, format!("calls {calls}{writes}")]
    });
    page.rows("Scripts of the package (read, never run)", rows.collect());
}

/// A service or custom action of a Windows installer: columns of a table, not a script (`ServiceInstall`, `CustomAction`).
fn windows_action(script: &ScriptFacts) -> Option<Vec<String>> {
    let service = script.name.starts_with("service ");
    if !(service || script.name.starts_with("custom-action ")) || !script.calls.is_empty() {
        return None;
    }
    let column = |name: &str| {
        let mut lines = script.text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    };
    let start = match column("StartType") {
        "2" => "starts by itself",
        "3" => "starts on demand",
        "4" => "does not start",
        _ => "",
    };
    let words = if service {
        let user = column("StartName");
        let user = if user.is_empty() { String::new() } else { format!("as {user}") };
        let runs = format!("{} {}", column("File"), column("Arguments"));
        vec![start.to_owned(), column("DisplayName").to_owned(), user, runs.trim().to_owned()]
    } else {
        let source = if column("File").is_empty() { column("Source") } else { column("File") };
        let command = format!("{source} {}", column("Target"));
        vec![custom_action(column("Type").parse().unwrap_or_default()), command.trim().to_owned()]
    };
    let said: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    Some(vec![script.name.clone(), said.join(", ")])
}

/// What a custom action of a type does, when, and as whom (Windows Installer, "Summary List of All Custom Action Types",
/// "Custom Action In-Script Execution Options").
fn custom_action(kind: u32) -> String {
    const DEFERRED: u32 = 0x400;
    const AS_SYSTEM: u32 = 0x800;
    let what = match kind & 0x3f {
        1 | 17 => "calls a library".to_owned(),
        2 | 18 | 34 | 50 => "runs".to_owned(),
        5 | 6 | 21 | 22 | 37 | 38 | 53 | 54 => "runs a script".to_owned(),
        19 => "stops with a message".to_owned(),
        35 | 51 => "sets".to_owned(),
        _ => format!("type {kind}"),
    };
    let system = if kind & (DEFERRED | AS_SYSTEM) == DEFERRED | AS_SYSTEM { " as the system" } else { "" };
    format!("{what}{system}")
}

fn system(system: &SystemFacts) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for unit in &system.systemd_units {
        let mut words: Vec<String> = unit.exec.first().cloned().into_iter().collect();
        words.extend(unit.user.as_ref().map(|user| format!("as {user}")));
        words.extend((!unit.listens.is_empty()).then(|| format!("listens on {}", unit.listens.join(" "))));
        words.extend(unit.link.as_ref().map(|link| format!("-> {link}")));
        rows.push(vec!["systemd unit".into(), unit.path.clone(), words.join(", ")]);
    }
    rows.extend(system.udev_rules.iter().map(udev));
    let groups: [(&str, &Vec<String>); 10] = [
        ("init script", &system.init_scripts),
        ("DKMS", &system.dkms),
        ("modules", &system.module_configuration),
        ("cron", &system.cron),
        ("D-Bus", &system.dbus_services),
        ("rights", &system.privileges),
        ("account", &system.accounts),
        ("alternative", &system.alternatives),
        ("diversion", &system.diversions),
        ("configuration", &system.conffiles),
    ];
    rows.extend(system.effects.iter().map(effect));
    for (kind, list) in groups {
        rows.extend(list.iter().map(|path| vec![kind.to_owned(), path.clone()]));
    }
    // Folders that only the loaders of old glibc look into are no choice between copies.
    rows.extend(system.hwcaps.iter().map(|path| {
        let (kind, when) = if path.contains("glibc-hwcaps/") {
            ("faster copies", "")
        } else {
            ("folder", "searched by glibc before 2.37")
        };
        vec![kind.into(), path.clone(), when.into()]
    }));
    rows.extend(
        system
            .ld_so_conf
            .iter()
            .map(|conf| vec!["loader folders".into(), conf.path.clone(), conf.directories.join(", ")]),
    );
    rows
}

/// What a script does at installation.
fn effect(effect: &ScriptEffect) -> Vec<String> {
    let kind = match effect.kind {
        EffectKind::Setuid => "sets the user id",
        EffectKind::Setgid => "sets the group id",
        EffectKind::Capabilities => "gives rights",
        EffectKind::LoadsModule | EffectKind::RequestsModule => "loads a module",
        EffectKind::BuildsModule => "builds a module",
    };
    let detail = if effect.detail.is_empty() { String::new() } else { format!("{}, ", effect.detail) };
    vec![kind.to_owned(), effect.what.clone(), format!("{detail}by {}", effect.script)]
}

/// A file of udev rules by what matters to a sandbox: which devices, and who may open them.
fn udev(rules: &UdevRules) -> Vec<String> {
    let mut ids: Vec<String> = rules
        .rules
        .iter()
        .filter_map(|rule| {
            let vendor = rule.vendor_id.as_ref()?;
            Some(format!("{vendor}:{}", rule.product_id.as_deref().unwrap_or("*")))
        })
        .collect();
    ids.sort();
    ids.dedup();
    let mut access: Vec<String> = rules
        .rules
        .iter()
        .filter_map(|rule| {
            let mode = rule.mode.as_ref().map(|mode| format!("mode {mode}"));
            let group = rule.group.as_ref().map(|group| format!("group {group}"));
            let words: Vec<String> = mode.into_iter().chain(group).collect();
            (!words.is_empty()).then(|| words.join(" "))
        })
        .collect();
    access.sort();
    access.dedup();
    // A rule for devices without USB ids is about their names in the kernel.
    let nameless = rules.rules.iter().filter(|rule| rule.vendor_id.is_none());
    let kernel = nameless.filter_map(|rule| rule.kernel.clone());
    let links = rules.rules.iter().flat_map(|rule| &rule.symlinks).map(|name| format!("link {name}"));
    let runs = rules.rules.iter().flat_map(|rule| &rule.runs).map(|command| format!("runs {command}"));
    ids.extend(kernel.collect::<BTreeSet<_>>());
    access.extend(links.chain(runs).collect::<BTreeSet<_>>());
    let shown = ids.len().min(4);
    let more = if ids.len() > shown { format!(" and {} more", ids.len() - shown) } else { String::new() };
    let devices = format!("{}{more}", ids[..shown].join(" "));
    vec!["udev rules".into(), rules.path.clone(), [devices, access.join(", ")].join(" ").trim().to_owned()]
}

fn dropped(facts: &Facts, page: &mut Page) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for dropped in &facts.dropped {
        let what = serde_json::to_value(dropped.what).ok().and_then(|v| v.as_str().map(str::to_owned));
        let what = what.unwrap_or_default().replace('-', " ");
        match rows.last_mut().map(Vec::as_mut_slice) {
            // One mode may say both.
            Some([path, before, detail]) if *path == dropped.path && *detail == dropped.detail => {
                before.push_str(&format!(", {what}"));
            }
            _ => rows.push(vec![dropped.path.clone(), what, dropped.detail.clone()]),
        }
    }
    page.rows("Dropped when it is unpacked", rows);
}

fn constants(facts: &Facts, page: &mut Page) {
    let place = |file: &str, offset: u64| format!("in {} at {offset:#x}", base(file));
    let mut seen = BTreeSet::new();
    let paths = facts.hard_coded_paths.iter().filter(|constant| seen.insert(constant.path.clone()));
    // Devices and what it expects to find come before files that every system has.
    let rank = |path: &str| {
        let order = ["/dev/", "/opt/", "/etc/", "/var/", "/sys/", "/proc/"];
        order.iter().position(|folder| path.starts_with(folder)).unwrap_or(order.len())
    };
    let mut paths: Vec<_> = paths.collect();
    paths.sort_by_key(|constant| rank(&constant.path));
    let paths = paths.into_iter().map(|one| vec![one.path.clone(), place(&one.file, one.offset)]).collect();
    page.rows("Paths in its programs", paths);
    let mut seen = BTreeSet::new();
    let endpoints = facts.endpoints.iter().filter(|constant| seen.insert(constant.text.clone()));
    let rows = endpoints.map(|one| vec![one.text.clone(), place(&one.file, one.offset)]).collect();
    page.rows("Addresses in its programs", rows);
}

fn contained(contained: &Contained) -> Vec<String> {
    let at = if contained.offset > 0 { format!(" at {:#x}", contained.offset) } else { String::new() };
    let what = match (&contained.unopened, &contained.facts) {
        (Some(reason), _) => format!("not opened: {reason}"),
        (None, Some(_)) => counted(contained.files, "file"),
        (None, None) => format!("{}, nothing of note", counted(contained.files, "file")),
    };
    vec![format!("{}{at}", contained.path), contained.format.clone(), size(contained.size), what]
}

fn verdict(plan: &Plan, page: &mut Page) {
    page.heading("Verdict");
    outcome(plan, page);
    moves(plan, page);
    let coverage = &plan.coverage;
    page.wrapped(&format!("sureness {}: {}", coverage.sureness, coverage.because), 2);
    let proof = if coverage.outside > 0 { " (`hatchway lock` proves them)" } else { "" };
    let inside = libraries_counted(coverage.inside);
    page.wrapped(&format!("{inside} found inside, {} to come from outside{proof}", coverage.outside), 2);
    let wants =
        plan.wants.iter().map(|want| vec![want.key.clone(), want.because.clone(), want.evidence.clone()]);
    page.rows("What a recipe will have to give it", wants.collect());
    page.section("Hatchway will not", &plan.refused);
    let doubts: Vec<String> = coverage.suspected.iter().map(|Suspicion { text, .. }| text.clone()).collect();
    page.section("Suspected, not proven", &doubts);
}

/// The rung and the runner, the rules that decided, and what stands in the way.
fn outcome(plan: &Plan, page: &mut Page) {
    let runner =
        if plan.runner == Runner::None { String::new() } else { format!(", runner {}", plan.runner) };
    // A rule of that name asks for a word of the recipe's; everything else is the machine's, the program's, or this version's.
    let asked = plan.rung != Rung::Native && plan.obstacles.iter().all(|obstacle| obstacle.rule == "version");
    let can = match (plan.can_run(), asked) {
        (true, _) => "",
        (false, true) => ", once the recipe says how",
        (false, false) => ", which is not possible here",
    };
    page.wrapped(&format!("rung {}{runner}{can}", plan.rung), 2);
    for reason in &plan.reasons {
        page.wrapped(&format!("because {} [{}]", reason.text, reason.rule), 2);
    }
    for obstacle in &plan.obstacles {
        page.wrapped(&format!("but {} [{}]", obstacle.text, obstacle.rule), 2);
    }
}

/// How one tool would run, and what each rung would cost it.
pub(in crate::cli) fn planned(what: &str, wish: Option<Rung>, plan: &Plan, costs: &[Cost]) -> String {
    let mut page = Page::default();
    page.line(what);
    match wish {
        None => {}
        Some(Rung::Auto) => page.wrapped("its recipe leaves the rung to the evidence", 2),
        Some(rung) => page.wrapped(&format!("its recipe asks for the {rung} rung"), 2),
    }
    outcome(plan, &mut page);
    // A wish is moved by nothing but another wish.
    if wish.is_none_or(|rung| rung == Rung::Auto) {
        moves(plan, &mut page);
    }
    page.section("Hatchway will not", &plan.refused);
    page.heading("What each rung would cost");
    page.text + "\n" + &rungs(costs, plan.rung)
}

/// What each rung costs.
pub(super) fn rungs(costs: &[Cost], planned: Rung) -> String {
    let mut page = Page::default();
    for cost in costs {
        let plan = if cost.rung == planned { " (as planned)" } else { "" };
        page.heading(&format!("{}{plan}", cost.rung));
        page.wrapped(&format!("starts in {}", cost.start), 2);
        page.wrapped(&format!("latency: {}", cost.latency), 2);
        for lost in &cost.loses {
            page.wrapped(&format!("without {lost}"), 2);
        }
        if !cost.misses.is_empty() {
            page.wrapped(
                &format!("it seems to want what it would not have there: {}", cost.misses.join(", ")),
                2,
            );
        }
    }
    page.text.trim_start().to_owned()
}

/// What would move it down one line each; all that would move it up to one rung in one line.
fn moves(plan: &Plan, page: &mut Page) {
    let rung = |one: &Move| match one.runner {
        Runner::None => one.to.to_string(),
        runner => format!("{} with {runner}", one.to),
    };
    for one in plan.moves.iter().filter(|one| !one.up) {
        page.wrapped(&format!("would move to {} if {} [{}]", rung(one), one.text, one.rule), 2);
    }
    let mut ups: Vec<(String, Vec<&str>)> = Vec::new();
    for one in plan.moves.iter().filter(|one| one.up) {
        let text = one.text.strip_prefix("it had ").unwrap_or(&one.text);
        match ups.iter_mut().find(|(to, _)| *to == rung(one)) {
            Some((_, texts)) => texts.push(text),
            None => ups.push((rung(one), vec![text])),
        }
    }
    for (to, texts) in ups {
        page.wrapped(&format!("would move up to {to} if it had {}", texts.join(", or ")), 2);
    }
}

/// The file's own name: the folder is in the JSON.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn libraries_counted(number: usize) -> String {
    if number == 1 { "1 library".to_owned() } else { format!("{number} libraries") }
}
