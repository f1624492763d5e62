//! The facts as tables of subjects, one an area.

use std::collections::BTreeMap;

use super::names::{self, Names};
use super::{Area, Table};
use crate::elf::{compare_versions, version_family};
use crate::pe::windows;
use crate::{ElfFacts, Facts, ProgramKind, ScriptFacts, SystemFacts};

/// Every area, in order.
pub(super) const AREAS: [Area; 18] = [
    Area::Package,
    Area::Libraries,
    Area::SymbolVersions,
    Area::Declared,
    Area::Programs,
    Area::Linking,
    Area::Scripts,
    Area::System,
    Area::Rights,
    Area::Drivers,
    Area::Technologies,
    Area::Endpoints,
    Area::Paths,
    Area::LoadedByName,
    Area::Bundled,
    Area::Windows,
    Area::Unread,
    Area::Archives,
];

/// All tables of an artifact and of the archives inside.
pub(super) fn of(facts: &Facts, names: &Names) -> BTreeMap<Area, Table> {
    let mut tables: BTreeMap<Area, Table> = BTreeMap::new();
    for (at, facts) in facts.all() {
        let mut one = One { at: normal(&at, facts, names), facts, names, tables: &mut tables };
        one.enter();
    }
    tables
}

/// Scripts with the subjects they have in the table.
pub(super) fn scripts<'f>(facts: &'f Facts, names: &Names) -> Vec<(String, &'f ScriptFacts)> {
    let mut found = Vec::new();
    for (at, facts) in facts.all() {
        let at = normal(&at, facts, names);
        found.extend(facts.scripts.iter().map(|script| (subject(&at, &script.name), script)));
    }
    found
}

fn subject(at: &str, text: &str) -> String {
    if at.is_empty() { text.to_owned() } else { format!("{at}!{text}") }
}

/// A path with the package's version, which changes with every release, replaced.
fn normal(path: &str, facts: &Facts, names: &Names) -> String {
    let path = names.normal(path);
    let Some(package) = &facts.package else { return path };
    let version = package.version.rsplit_once(':').map_or(package.version.as_str(), |(_, version)| version);
    let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    names::without(&names::without(&path, version), upstream)
}

/// The tables of one artifact in the making.
struct One<'t, 'f> {
    at: String,
    facts: &'f Facts,
    names: &'f Names,
    tables: &'t mut BTreeMap<Area, Table>,
}

impl One<'_, '_> {
    fn add(&mut self, area: Area, text: &str, said: impl Into<String>) {
        let subject = subject(&self.at, &normal(text, self.facts, self.names));
        self.tables.entry(area).or_default().insert(subject, said.into());
    }

    fn enter(&mut self) {
        self.package();
        self.needs();
        self.scripts();
        self.system(&self.facts.system);
        self.binaries();
        self.constants();
        for one in &self.facts.technologies {
            // Where it shows may change with every build; that it shows is what counts.
            self.add(Area::Technologies, &one.name, format!("{:?}", one.kind).to_lowercase());
        }
        for omission in &self.facts.omitted {
            self.add(Area::Unread, &omission.what, omission.reason.clone());
        }
        for contained in &self.facts.contains {
            let said = contained.unopened.clone().unwrap_or_default();
            self.add(Area::Archives, &contained.path, format!("{} {said}", contained.format).trim());
        }
    }

    fn package(&mut self) {
        let Some(package) = &self.facts.package else { return };
        let fields = [
            ("name", Some(&package.name)),
            ("version", Some(&package.version)),
            ("architecture", package.architecture.as_ref()),
            ("license", package.license.as_ref()),
            ("requires-python", package.requires_python.as_ref()),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                let subject = subject(&self.at, field);
                self.tables.entry(Area::Package).or_default().insert(subject, value.clone());
            }
        }
        let relations = [
            ("Depends", &package.depends),
            ("Pre-Depends", &package.pre_depends),
            ("Recommends", &package.recommends),
            ("Conflicts", &package.conflicts),
        ];
        for (field, text) in relations {
            for relation in text.iter().flat_map(|text| text.split(", ")) {
                let (name, wanted) = relation.split_once(' ').unwrap_or((relation, ""));
                self.add(Area::Declared, &format!("{field} {name}"), wanted);
            }
        }
        for relation in package.requires.iter().chain(&package.requires_dist) {
            let end = relation.find([' ', '=', '<', '>', '!', '~', ';']).unwrap_or(relation.len());
            self.add(Area::Declared, &relation[..end], &relation[end..]);
        }
    }

    fn needs(&mut self) {
        for need in &self.facts.needs {
            let name = if need.class == 32 {
                format!("{} ({})", need.soname, need.machine)
            } else {
                need.soname.clone()
            };
            match &need.found {
                Some(found) => self.add(Area::Bundled, &name, found.rule.clone()),
                None => self.add(Area::Libraries, &name, ""),
            }
            // The newest of each family: `GLIBC_2.34` and `GLIBCXX_3.4.29` are raised apart from each other.
            let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
            for version in need.versions.iter().filter(|_| need.found.is_none()) {
                let family = version_family(version);
                let kept = newest.entry(family).or_insert(version);
                if compare_versions(kept, version).is_lt() {
                    *kept = version;
                }
            }
            for (family, version) in newest.into_iter().filter(|(family, _)| !family.is_empty()) {
                self.add(Area::SymbolVersions, &format!("{name} {family}"), version);
            }
        }
    }

    fn scripts(&mut self) {
        for script in &self.facts.scripts {
            let calls = if script.calls.is_empty() {
                "calls nothing of note".to_owned()
            } else {
                format!("calls {}", script.calls.join(", "))
            };
            // The digest stands for everything that is not said here.
            let digest: String = script.sha256.chars().take(12).collect();
            self.add(Area::Scripts, &script.name, format!("{calls} ({digest})"));
        }
    }

    fn system(&mut self, system: &SystemFacts) {
        for unit in &system.systemd_units {
            let user = unit.user.as_deref().unwrap_or("root");
            let mut said = format!("runs {} as {user}", unit.exec.join("; "));
            if !unit.listens.is_empty() {
                said.push_str(&format!("; listens on {}", unit.listens.join(" ")));
            }
            self.add(Area::System, &unit.path, said);
        }
        for file in &system.udev_rules {
            for rule in &file.rules {
                let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "*".to_owned());
                let device = format!("{} {}:{}", file.path, id(&rule.vendor_id), id(&rule.product_id));
                let words = [&rule.subsystem, &rule.kernel, &rule.mode, &rule.group];
                let words: Vec<&str> = words.iter().filter_map(|word| word.as_deref()).collect();
                self.add(
                    Area::System,
                    &device,
                    format!("{} {}", words.join(" "), rule.runs.join("; ")).trim(),
                );
            }
        }
        let lists = [
            ("init script", &system.init_scripts),
            ("module configuration", &system.module_configuration),
            ("configuration", &system.conffiles),
            ("cron", &system.cron),
            ("D-Bus", &system.dbus_services),
            ("account", &system.accounts),
            ("alternative", &system.alternatives),
            ("diversion", &system.diversions),
        ];
        for (kind, list) in lists {
            for path in list {
                self.add(Area::System, path, kind);
            }
        }
        for conf in &system.ld_so_conf {
            self.add(Area::System, &conf.path, conf.directories.join(" "));
        }
        for effect in &system.effects {
            let said = format!("{:?} {} by {}", effect.kind, effect.detail, effect.script).to_lowercase();
            self.add(Area::Rights, &effect.what, said);
        }
        for path in &system.privileges {
            self.add(Area::Rights, path, "gives rights");
        }
        for path in &system.dkms {
            self.add(Area::Drivers, path, "DKMS");
        }
        for inf in &system.windows_drivers {
            let said =
                format!("{} {}", inf.version.as_deref().unwrap_or_default(), inf.hardware_ids.join(" "));
            self.add(Area::Drivers, &inf.path, said);
        }
    }

    fn binaries(&mut self) {
        for program in &self.facts.programs {
            let said = match &program.kind {
                ProgramKind::Elf => "ELF".to_owned(),
                ProgramKind::Pe => "Windows".to_owned(),
                ProgramKind::Script { interpreter } => interpreter.clone(),
            };
            self.add(Area::Programs, &program.path, said);
        }
        for module in &self.facts.kernel_modules {
            self.add(Area::Drivers, &module.path, module.vermagic.clone().unwrap_or_default());
        }
        for dropped in &self.facts.dropped {
            self.add(
                Area::Rights,
                &dropped.path,
                format!("{:?} {}", dropped.what, dropped.detail).to_lowercase(),
            );
        }
        for pe in &self.facts.pe {
            let dotnet = pe.dotnet_framework.as_ref().or(pe.dotnet_runtime.as_ref());
            let dotnet = dotnet.map(|runtime| format!(".NET {runtime}; ")).unwrap_or_default();
            let said = format!("{} {dotnet}{}", pe.machine, pe.runtime_libraries.join(" "));
            self.add(Area::Windows, &pe.path, said.trim());
        }
        self.windows_libraries();
        for elf in &self.facts.elf {
            self.add(Area::Linking, &elf.path, linking(elf));
            for candidate in &elf.dlopen_candidates {
                self.add(Area::LoadedByName, &candidate.name, "");
            }
            for name in elf.dlopen_notes.iter().flat_map(|note| &note.sonames) {
                self.add(Area::LoadedByName, name, "");
            }
        }
    }

    /// What Windows programs are linked with, and what they may load by name.
    fn windows_libraries(&mut self) {
        let brought = windows::brought(self.facts);
        for pe in &self.facts.pe {
            for name in pe.imports.iter().chain(&pe.delay_imports) {
                let area = if brought.contains(name) { Area::Bundled } else { Area::Libraries };
                self.add(area, name, if windows::is_own(name) { "of Windows itself" } else { "for Windows" });
            }
            for candidate in &pe.load_candidates {
                self.add(Area::LoadedByName, &candidate.name, "");
            }
        }
    }

    fn constants(&mut self) {
        for constant in &self.facts.hard_coded_paths {
            self.add(Area::Paths, &constant.path, "");
        }
        for endpoint in &self.facts.endpoints {
            self.add(Area::Endpoints, &endpoint.text, "");
        }
    }
}

/// What decides how the loader treats a file, beside the libraries and versions it wants.
fn linking(elf: &ElfFacts) -> String {
    let mut words: Vec<String> = Vec::new();
    for (name, path) in [("RPATH", &elf.rpath), ("RUNPATH", &elf.runpath)] {
        words.extend((!path.is_empty()).then(|| format!("{name} {}", path.join(":"))));
    }
    words.extend(elf.static_linked.then(|| "static".to_owned()));
    words.extend(elf.executable_stack.then(|| "executable stack".to_owned()));
    words.extend((!elf.flags.is_empty()).then(|| format!("flags {}", elf.flags.join(" "))));
    words.extend(elf.tls_bytes.map(|bytes| format!("{bytes} bytes of TLS")));
    words.extend((!elf.tls_models.is_empty()).then(|| format!("TLS {}", elf.tls_models.join(" "))));
    words.extend(elf.isa_level.clone());
    words.extend(elf.minimum_kernel.as_ref().map(|kernel| format!("from Linux {kernel}")));
    if words.is_empty() { "nothing of note".to_owned() } else { words.join(", ") }
}
