//! The rules: what evidence demands which rung.

use std::collections::BTreeSet;

use hatchway_inspect::{
    Dropped, DroppedWhat, EffectKind, ElfFacts, ElfKind, Facts, PackageKind, PeFacts, ProgramKind,
    ScriptEffect, Technology,
};

use super::Host;
use crate::recipe::{Rung, Runner};

/// One rule.
pub(super) struct Rule {
    /// Its name, by which reasons and moves refer to it.
    pub(super) name: &'static str,
    /// The rung it demands.
    pub(super) rung: Rung,
    /// The runner it demands.
    pub(super) runner: Runner,
    /// What its evidence is, for "if it had …" and "if it could do without …"; empty for a rule that moves nothing.
    pub(super) condition: &'static str,
    /// What it says about this evidence.
    pub(super) find: fn(&Evidence<'_>) -> Option<String>,
}

/// The rules, lowest rung first.
pub(super) const RULES: [Rule; 7] = [
    Rule { name: "default", rung: Rung::Fhs, runner: Runner::None, condition: "", find: default },
    Rule {
        name: "windows-program",
        rung: Rung::Fhs,
        runner: Runner::Wine,
        condition: "its Windows files",
        find: windows_program,
    },
    Rule {
        name: "several-daemons",
        rung: Rung::Container,
        runner: Runner::None,
        condition: "several services that an init system starts",
        find: several_daemons,
    },
    Rule {
        name: "setuid-helper",
        rung: Rung::Container,
        runner: Runner::None,
        condition: "a helper that changes its user id",
        find: setuid_helper,
    },
    Rule {
        name: "dkms",
        rung: Rung::Vm,
        runner: Runner::None,
        condition: "kernel modules that are built on the machine",
        find: dkms,
    },
    Rule {
        name: "kernel-module",
        rung: Rung::Vm,
        runner: Runner::None,
        condition: "a kernel module of its own",
        find: kernel_module,
    },
    Rule {
        name: "windows-driver",
        rung: Rung::Vm,
        runner: Runner::None,
        condition: "a Windows driver",
        find: windows_driver,
    },
];

/// The facts that decide.
///
/// Of a wrapper (an installer, an archive of packages) these are the facts of what is inside too. Of a package with programs
/// of its own, archives among its files are data: a driver for Windows in a folder of firmware is no reason for a VM. But a
/// package in it is there to be installed, wherever it lies.
pub(super) struct Evidence<'f> {
    /// Each with the path that leads there; the artifact itself first.
    pub(super) deciding: Vec<(String, &'f Facts)>,
}

impl<'f> Evidence<'f> {
    pub(super) fn of(facts: &'f Facts) -> Self {
        let mut deciding = vec![(String::new(), facts)];
        inside(facts, "", is_wrapper(facts), &mut deciding);
        Self { deciding }
    }

    /// Everything of one kind in all deciding facts, with its path from the outside.
    pub(super) fn each<T: 'f>(
        &self,
        list: impl Fn(&'f Facts) -> &'f [T],
        path: impl Fn(&'f T) -> &'f str,
    ) -> Vec<(String, &'f T)> {
        let mut found = Vec::new();
        for (prefix, facts) in &self.deciding {
            let separator = if prefix.is_empty() { "" } else { "!" };
            for one in list(facts) {
                found.push((format!("{prefix}{separator}{}", path(one)), one));
            }
        }
        found
    }

    pub(super) fn elf(&self) -> Vec<(String, &'f ElfFacts)> {
        self.each(|facts| &facts.elf, |elf| &elf.path)
    }

    pub(super) fn technologies(&self) -> impl Iterator<Item = &'f Technology> {
        self.deciding.iter().flat_map(|(_, facts)| &facts.technologies)
    }

    /// What scripts do at installation.
    pub(super) fn effects(&self, kind: EffectKind) -> impl Iterator<Item = (String, &'f ScriptEffect)> {
        let all = self.each(|facts| &facts.system.effects, |effect| &effect.script);
        all.into_iter().filter(move |(_, effect)| effect.kind == kind)
    }

    fn dropped(&self) -> Vec<(String, &'f Dropped)> {
        self.each(|facts| &facts.dropped, |dropped| &dropped.path)
    }
}

/// The facts inside that decide, in the order of [`Facts::all`]. `unpacked` tells whether those around them are unpacked to
/// be run or installed.
fn inside<'f>(facts: &'f Facts, at: &str, unpacked: bool, deciding: &mut Vec<(String, &'f Facts)>) {
    for contained in &facts.contains {
        let Some(inner) = &contained.facts else { continue };
        let separator = if at.is_empty() { "" } else { "!" };
        let path = format!("{at}{separator}{}", contained.path);
        let decides = unpacked || matches!(contained.format.as_str(), "deb" | "rpm" | "msi");
        if decides {
            deciding.push((path.clone(), inner));
        }
        inside(inner, &path, decides && is_wrapper(inner), deciding);
    }
}

/// Whether an artifact is there for what is inside it: it does not call itself a package, or it has nothing else.
fn is_wrapper(facts: &Facts) -> bool {
    facts.package.is_none() || (facts.elf.is_empty() && facts.pe.is_empty() && facts.programs.is_empty())
}

fn default(_: &Evidence<'_>) -> Option<String> {
    Some("nothing in it asks for more than namespaces over a tree of pinned packages".to_owned())
}

fn windows_program(evidence: &Evidence<'_>) -> Option<String> {
    let pe = evidence.each(|facts| &facts.pe, |pe| &pe.path);
    // What a firmware starts, a kernel among it, is no program of Windows.
    let is_windows = |pe: &PeFacts| !pe.driver && !pe.subsystem.starts_with("efi-");
    let program = pe.iter().find(|(_, pe)| !pe.library && is_windows(pe));
    // Libraries alone serve a Windows program; managed ones may serve others.
    let library = || {
        let is_shell = |kind: &ProgramKind| match kind {
            ProgramKind::Script { interpreter } => {
                interpreter.split(' ').next().is_some_and(|shell| shell.ends_with("sh"))
            }
            ProgramKind::Elf => true,
            ProgramKind::Pe => false,
        };
        let programs = evidence.each(|facts| &facts.programs, |program| &program.path);
        let others = programs.iter().any(|(_, program)| is_shell(&program.kind));
        pe.iter().find(|(_, pe)| pe.library && !pe.dotnet && is_windows(pe)).filter(|_| !others)
    };
    let (path, program) = program.or_else(library)?;
    let linux_package = |facts: &Facts| {
        facts.package.as_ref().is_some_and(|package| match package.kind {
            PackageKind::Deb | PackageKind::Rpm => true,
            PackageKind::Wheel => !package.tags.iter().any(|tag| tag.contains("-win")),
            PackageKind::Msi | PackageKind::Jar => false,
        })
    };
    let linux = evidence.deciding.iter().any(|(_, facts)| linux_package(facts));
    let elf = evidence.elf().iter().any(|(_, elf)| elf.kind != ElfKind::Other);
    let runtime = match &program.dotnet_runtime {
        Some(runtime) => format!(" for .NET {runtime}"),
        None => String::new(),
    };
    let what = if program.library { "library" } else { "program" };
    let text = format!("`{path}` is a Windows {what}{runtime}, and there is no Linux program beside it");
    (!linux && !elf).then_some(text)
}

pub(super) fn several_daemons(evidence: &Evidence<'_>) -> Option<String> {
    let units = evidence.each(|facts| &facts.system.systemd_units, |unit| &unit.path);
    // A drop-in or a link is no service of its own, and a service for user sessions is started by no system.
    let services = units
        .iter()
        .filter(|(path, unit)| path.ends_with(".service") && unit.link.is_none() && !path.contains("/user/"))
        .map(|(path, _)| path);
    let scripts = evidence.each(|facts| &facts.system.init_scripts, |path| path);
    // `/etc/init.d/acme` is the same service as `acme.service`, for machines without systemd.
    let mut names = BTreeSet::new();
    let mut distinct = services.chain(scripts.iter().map(|(path, _)| path)).filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        // `acme@.service` is a mould for more copies of `acme.service`.
        let name = name.strip_suffix(".service").unwrap_or(name);
        names.insert(name.strip_suffix('@').unwrap_or(name).to_owned())
    });
    let first = distinct.next()?;
    let count = distinct.count() + 1;
    let text = format!("it brings {count} services that want an init system, `{first}` among them");
    (count > 1).then_some(text)
}

fn setuid_helper(evidence: &Evidence<'_>) -> Option<String> {
    let programs = evidence.each(|facts| &facts.programs, |program| &program.path);
    let is_program = |path: &str| programs.iter().any(|(program, _)| program == path);
    let brought = evidence.dropped().into_iter().find(|(path, dropped)| {
        matches!(dropped.what, DroppedWhat::Setuid | DroppedWhat::Setgid) && is_program(path)
    });
    if let Some((path, _)) = brought {
        return Some(format!("`{path}` wants to change its user id, which the fhs rung never allows"));
    }
    // A folder may pass its group on, so only a file that is known to be a program is a helper by its group.
    let by_group = evidence
        .effects(EffectKind::Setgid)
        .filter(|(_, effect)| programs.iter().any(|(_, program)| program.path == effect.what));
    let (script, effect) = evidence.effects(EffectKind::Setuid).chain(by_group).next()?;
    let ScriptEffect { what, detail, .. } = effect;
    Some(format!(
        "`{script}` lets `{what}` change its user id (mode {detail}), which the fhs rung never allows"
    ))
}

fn dkms(evidence: &Evidence<'_>) -> Option<String> {
    let described = evidence.each(|facts| &facts.system.dkms, |path| path).into_iter().map(|(path, _)| path);
    let called = evidence.effects(EffectKind::BuildsModule).map(|(script, _)| script);
    let path = described.chain(called).next()?;
    Some(format!("`{path}` builds a kernel module on the machine: it needs a kernel of its own"))
}

fn kernel_module(evidence: &Evidence<'_>) -> Option<String> {
    let modules = evidence.each(|facts| &facts.kernel_modules, |module| &module.path);
    let Some((path, module)) = modules.into_iter().next() else {
        let (script, effect) = evidence.effects(EffectKind::LoadsModule).next()?;
        let module = &effect.what;
        return Some(format!("`{script}` loads the kernel module `{module}`: it needs a kernel of its own"));
    };
    let made_for = match module.vermagic.as_deref().and_then(|magic| magic.split(' ').next()) {
        Some(kernel) => format!(", built for Linux {kernel}"),
        None => String::new(),
    };
    Some(format!("`{path}` is a kernel module{made_for}: it needs a kernel of its own"))
}

fn windows_driver(evidence: &Evidence<'_>) -> Option<String> {
    let drivers = evidence.each(|facts| &facts.pe, |pe| &pe.path);
    let driver = drivers.into_iter().find(|(_, pe)| pe.driver).map(|(path, _)| path);
    let inf = || {
        let infs = evidence.each(|facts| &facts.system.windows_drivers, |inf| &inf.path);
        // Without a service, an .inf only names a device.
        infs.into_iter().find(|(_, inf)| !inf.services.is_empty()).map(|(path, _)| path)
    };
    let path = driver.or_else(inf)?;
    Some(format!("`{path}` is a Windows driver: it needs a Windows kernel"))
}

/// The first Windows program is managed code alone, for which Debian's Wine has nothing.
pub(super) fn managed(evidence: &Evidence<'_>) -> Option<String> {
    let pe = evidence.each(|facts| &facts.pe, |pe| &pe.path);
    let programs: Vec<_> = pe.iter().filter(|(_, pe)| !pe.library && !pe.driver).collect();
    let (path, _) = programs.first().filter(|_| programs.iter().all(|(_, pe)| pe.dotnet))?;
    Some(format!("`{path}` is a program for .NET, and Debian's Wine has none: its own Mono is not packaged"))
}

/// All programs are for another machine than this host is.
pub(super) fn foreign_machine(evidence: &Evidence<'_>, host: &Host) -> Option<String> {
    let elf = evidence.elf();
    let loadable = |elf: &ElfFacts| matches!(elf.kind, ElfKind::Executable | ElfKind::Pie | ElfKind::Shared);
    let mut loadable = elf.iter().filter(|(_, elf)| loadable(elf)).peekable();
    let (path, first) = loadable.peek()?;
    let runs = |machine: &str| {
        machine == host.machine || (machine == "i386" && host.machine == "x86-64") || host.machine.is_empty()
    };
    let text = format!("`{path}` is for {}, and this host is {}", first.machine, host.machine);
    (!loadable.any(|(_, elf)| runs(&elf.machine))).then_some(text)
}

/// A program wants a better processor than this host's.
pub(super) fn processor(evidence: &Evidence<'_>, host: &Host) -> Option<String> {
    let level = |elf: &ElfFacts| elf.isa_level.as_ref()?.strip_prefix("x86-64-v")?.parse::<u8>().ok();
    let elf = evidence.elf();
    let programs = elf.iter().filter(|(_, elf)| matches!(elf.kind, ElfKind::Executable | ElfKind::Pie));
    let (path, wanted) =
        programs.filter_map(|(path, elf)| Some((path, level(elf)?))).max_by_key(|(_, l)| *l)?;
    let text =
        format!("`{path}` needs a processor of level x86-64-v{wanted}; this one has v{}", host.isa_level);
    (host.isa_level > 0 && wanted > host.isa_level).then_some(text)
}

/// A program says that it needs a newer kernel than this host's.
pub(super) fn old_kernel(evidence: &Evidence<'_>, host: &Host) -> Option<String> {
    let version = |text: &str| -> Vec<u32> {
        let numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
        numbers.take(3).collect()
    };
    let running = version(&host.kernel);
    let elf = evidence.elf();
    let (path, wanted) = elf.iter().find_map(|(path, elf)| {
        let wanted = elf.minimum_kernel.as_ref().filter(|wanted| version(wanted) > running)?;
        Some((path, wanted))
    })?;
    let text = format!("`{path}` needs Linux {wanted}; this host runs {}", host.kernel);
    (!running.is_empty()).then_some(text)
}

/// The artifact brings a library that its own programs cannot use.
pub(super) fn broken_library(evidence: &Evidence<'_>) -> Option<String> {
    let needs = evidence.each(|facts| &facts.needs, |need| &need.soname);
    let (_, need) = needs.into_iter().find(|(_, need)| !need.missing_versions.is_empty())?;
    let found = need.found.as_ref()?;
    let versions = need.missing_versions.join(", ");
    Some(format!("`{}` of the artifact lacks {versions}, which its own programs want", found.path))
}

/// What the artifact would have wanted that is never done.
pub(super) fn refused(evidence: &Evidence<'_>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (path, dropped) in evidence.dropped() {
        let one = match dropped.what {
            DroppedWhat::Setuid | DroppedWhat::Setgid => format!("run `{path}` with the rights of its owner"),
            DroppedWhat::Xattrs => format!("keep the extended attributes of `{path}` ({})", dropped.detail),
            DroppedWhat::NameEncoding => format!("name `{path}` in bytes that are not UTF-8"),
            _ => format!("make the special file `{path}`"),
        };
        // One mode may have both bits.
        if all.last() != Some(&one) {
            all.push(one);
        }
    }
    for (path, script) in evidence.each(|facts| &facts.scripts, |script| &script.name) {
        if !runs_at_installation(&script.name) {
            continue;
        }
        let others = script.calls.iter().map(String::as_str).filter(|call| *call != "ldconfig");
        let calls: Vec<&str> = others.collect();
        if !calls.is_empty() {
            all.push(format!("run its {path} on the host ({})", calls.join(", ")));
        }
    }
    for (path, _) in evidence.each(|facts| &facts.system.privileges, |path| path) {
        all.push(format!("give rights on the host by `{path}`"));
    }
    all
}

fn runs_at_installation(script: &str) -> bool {
    ["preinst", "postinst", "pre", "post", "pretrans", "posttrans"].contains(&script)
        || script.starts_with("custom-action")
        // An installer's own script is named by its path.
        || script.starts_with('/')
}
