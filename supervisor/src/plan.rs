//! Which rung and which runner, and why: a pure function over facts, recipe and host.
//!
//! Each [rule](rules) is a function with a sentence of explanation. The highest rung that a rule demands wins; a wish in
//! the recipe overrides all of them, and the plan says so.

mod costs;
mod coverage;
mod rules;
mod services;
mod wants;

use hatchway_inspect::Facts;
use schemars::JsonSchema;
use serde::Serialize;

use crate::recipe::{Recipe, Rung, Runner};

pub use costs::{Cost, costs};
pub use coverage::{Coverage, Sureness, Suspicion, SuspicionKind};
pub use services::Services;
pub use wants::Want;

use rules::{Evidence, RULES, Rule};

/// What this host can do, as far as a plan depends on it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Host {
    /// Why the fhs rung is not available, if it is not.
    pub no_sandbox: Option<String>,
    /// The machine, as facts name it (`x86-64`); empty when unknown, and then nothing is said about it.
    pub machine: String,
    /// The level of an x86-64 processor: 1 to 4; 0 when unknown.
    pub isa_level: u8,
    /// The kernel's release: `6.1.0-18-amd64`; empty when unknown.
    pub kernel: String,
}

impl Host {
    /// Looks at this host, without trying anything.
    #[must_use]
    pub fn detect() -> Self {
        // Root needs no user namespace.
        let obstacle = if crate::dirs::is_root() {
            None
        } else {
            hatchway_envs::sandbox::probe::known_obstacles().into_iter().find(|problem| problem.fatal)
        };
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            no_sandbox: obstacle.map(|problem| format!("{problem}; {}", problem.fix)),
            machine: match std::env::consts::ARCH {
                "x86_64" => "x86-64".to_owned(),
                other => other.to_owned(),
            },
            isa_level: isa_level(),
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// The x86-64 level of this processor, as the x86-64 psABI defines levels.
#[cfg(target_arch = "x86_64")]
fn isa_level() -> u8 {
    let two = is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("cmpxchg16b");
    let three = two
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe");
    let four = three
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (two, three, four) {
        (_, _, true) => 4,
        (_, true, _) => 3,
        (true, _, _) => 2,
        _ => 1,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn isa_level() -> u8 {
    0
}

/// How a tool is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Plan {
    /// The rung.
    pub rung: Rung,
    /// The runner.
    pub runner: Runner,
    /// The rules that spoke, first the one that counted.
    pub reasons: Vec<Reason>,
    /// Why it cannot be run as planned on this host, or by this version of Hatchway. Empty if it can.
    pub obstacles: Vec<Reason>,
    /// What would move it to another rung.
    pub moves: Vec<Move>,
    /// What a recipe will have to give it.
    pub wants: Vec<Want>,
    /// What the artifact would have wanted that Hatchway refuses to do.
    pub refused: Vec<String>,
    /// How sure this is.
    pub coverage: Coverage,
}

impl Plan {
    /// Whether this version of Hatchway can run it on this host, as far as is known.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.obstacles.is_empty()
    }

    /// Adds what another artifact of the same tool has to say: its rules, what stands in its way, what it is refused.
    pub fn join(&mut self, other: Self) {
        let add = |all: &mut Vec<Reason>, more: Vec<Reason>| {
            for reason in more {
                // That nothing asks for more is said only where nothing does.
                if reason.rule != "default" && !all.contains(&reason) {
                    all.push(reason);
                }
            }
        };
        add(&mut self.reasons, other.reasons);
        add(&mut self.obstacles, other.obstacles);
        if self.reasons.len() > 1 {
            self.reasons.retain(|reason| reason.rule != "default");
        }
        let new = other.refused.into_iter().filter(|text| !self.refused.contains(text)).collect::<Vec<_>>();
        self.refused.extend(new);
    }
}

/// A rule that spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// Its name.
    pub rule: &'static str,
    /// What it says.
    pub text: String,
}

/// What would change the rung or the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Move {
    /// To which rung.
    pub to: Rung,
    /// With which runner.
    pub runner: Runner,
    /// Whether that is a higher rung than the planned one.
    pub up: bool,
    /// The rule whose evidence would have to come or go.
    pub rule: &'static str,
    /// The condition: the end of a sentence that begins with "if".
    pub text: String,
}

/// Plans how to run an artifact.
#[must_use]
pub fn plan(facts: &Facts, recipe: Option<&Recipe>, host: &Host) -> Plan {
    let evidence = Evidence::of(facts);
    let spoken: Vec<(&Rule, String)> =
        RULES.iter().filter_map(|rule| Some((rule, (rule.find)(&evidence)?))).collect();
    let rules: Vec<&Rule> = spoken.iter().map(|(rule, _)| *rule).collect();
    let (rung, runner) = outcome(&rules);
    let mut reasons = reasons(&spoken);
    let moves = moves(&spoken, (rung, runner));
    let (rung, runner) = wish(recipe, (rung, runner), &mut reasons);
    Plan {
        rung,
        runner,
        reasons,
        obstacles: obstacles(&evidence, (rung, runner), recipe.map_or(Rung::Auto, |r| r.run.rung), host),
        moves,
        wants: wants::wants(&evidence),
        refused: rules::refused(&evidence),
        coverage: coverage::coverage(facts, &evidence),
    }
}

/// The highest rung that any rule demands, and the runner that any of them wants.
fn outcome(rules: &[&Rule]) -> (Rung, Runner) {
    let rung = rules.iter().map(|rule| rule.rung).max().unwrap_or(Rung::Fhs);
    let wine = rules.iter().any(|rule| rule.runner == Runner::Wine);
    // A Windows driver wants a Windows, in which no Wine is needed.
    let windows = rules.iter().any(|rule| rule.name == "windows-driver");
    (rung, if wine && !windows { Runner::Wine } else { Runner::None })
}

/// Highest rung first; of two rules for the same rung the later, more specific one.
fn reasons(spoken: &[(&Rule, String)]) -> Vec<Reason> {
    let mut ordered: Vec<&(&Rule, String)> = spoken.iter().rev().collect();
    ordered.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.rung));
    // That nothing asks for more is a reason only where nothing does.
    if ordered.len() > 1 {
        ordered.retain(|(rule, _)| rule.name != "default");
    }
    ordered.iter().map(|(rule, text)| Reason { rule: rule.name, text: text.clone() }).collect()
}

fn wish(recipe: Option<&Recipe>, found: (Rung, Runner), reasons: &mut Vec<Reason>) -> (Rung, Runner) {
    let (rung, runner) = found;
    let Some(run) = recipe.map(|r| &r.run) else { return found };
    let wished = if run.rung == Rung::Auto { rung } else { run.rung };
    if wished != rung {
        let text = format!("the recipe asks for the {wished} rung; the evidence alone says {rung}");
        reasons.insert(0, Reason { rule: "recipe", text });
    }
    (wished, if run.runner == Runner::None { runner } else { run.runner })
}

/// What each rule would change if its evidence came or went.
fn moves(spoken: &[(&Rule, String)], found: (Rung, Runner)) -> Vec<Move> {
    let mut moves = Vec::new();
    for rule in RULES.iter().filter(|rule| !rule.condition.is_empty()) {
        let spoke = spoken.iter().any(|(other, _)| other.name == rule.name);
        let others = spoken.iter().map(|(other, _)| *other).filter(|other| other.name != rule.name);
        let then: Vec<&Rule> = others.chain((!spoke).then_some(rule)).collect();
        let then = outcome(&then);
        // Programs for another system that are not there would be another product.
        if then == found || (!spoke && then.0 == found.0) {
            continue;
        }
        let without = if spoke { "it could do without " } else { "it had " };
        let (to, runner) = then;
        let text = format!("{without}{}", rule.condition);
        moves.push(Move { to, runner, up: to > found.0, rule: rule.name, text });
    }
    // Nearest first: what keeps it up matters more than what might push it up further.
    moves.sort_by_key(|one| (one.up, one.to));
    moves
}

/// What stands in the way on this host, or in this version.
fn obstacles(
    evidence: &Evidence<'_>,
    (rung, runner): (Rung, Runner),
    wish: Rung,
    host: &Host,
) -> Vec<Reason> {
    let mut all = Vec::new();
    let mut add = |rule, text: String| all.push(Reason { rule, text });
    if let (Some(why), Rung::Fhs) = (&host.no_sandbox, rung) {
        add("host", format!("this host cannot run it yet: {why}"));
    }
    match rung {
        // Whoever asks for it knows that the tool does without.
        Rung::Container if wish != rung && rules::several_daemons(evidence).is_some() => add(
            "version",
            "`services = […]` in [run] of the recipe has systemd start them: with `rung = \"vm\"` in a guest, as `hatchway new` \
             writes it; with `rung = \"container\"` only where the engine has control groups of version 2 and users of its own"
                .to_owned(),
        ),
        Rung::Container if wish != rung => add(
            "version",
            "no rung gives a set-id helper its rights; `rung = \"container\"` in [run] of the recipe runs it there without"
                .to_owned(),
        ),
        // Whoever asks for it names the modules that the tool needs, or knows that it does without.
        Rung::Vm if wish != rung => add(
            "version",
            "this version of Hatchway builds no module and starts no Windows; `rung = \"vm\"` in [run] of the recipe runs it \
             in a guest with Debian's kernel, whose modules `modules = […]` loads"
                .to_owned(),
        ),
        Rung::Native => add("version", format!("this version of Hatchway has no {rung} rung yet")),
        Rung::Container | Rung::Vm | Rung::Fhs | Rung::Auto => {}
    }
    if let (Runner::Wine, Some(text)) = (runner, rules::managed(evidence)) {
        add("dotnet", text);
    }
    if let Some(text) = rules::foreign_machine(evidence, host) {
        add("machine", text);
    }
    if let Some(text) = rules::processor(evidence, host) {
        add("processor", text);
    }
    if let Some(text) = rules::old_kernel(evidence, host) {
        add("kernel", text);
    }
    if let Some(text) = rules::broken_library(evidence) {
        add("library", text);
    }
    all
}

#[cfg(test)]
mod tests {
    use hatchway_inspect::{DroppedWhat, ProgramKind};

    use super::*;

    /// Facts of a package with nothing in it, to be filled by each case.
    fn facts() -> Facts {
        let limits = hatchway_inspect::archive::Limits::default();
        let bytes = b"#!/bin/sh\n".as_slice();
        let mut facts = hatchway_inspect::inspect_bytes(std::path::Path::new("x"), bytes, &limits).unwrap();
        facts.artifact.format = "deb".to_owned();
        facts.programs.clear();
        facts
    }

    fn host() -> Host {
        Host { no_sandbox: None, machine: "x86-64".into(), isa_level: 1, kernel: "6.1.0-18-amd64".into() }
    }

    fn windows_program(path: &str) -> hatchway_inspect::PeFacts {
        hatchway_inspect::PeFacts {
            path: path.into(),
            bits: 64,
            machine: "x86-64".into(),
            ..Default::default()
        }
    }

    #[test]
    fn an_ordinary_package_stays_on_fhs() {
        let plan = plan(&facts(), None, &host());
        assert_eq!((plan.rung, plan.runner, plan.can_run()), (Rung::Fhs, Runner::None, true));
        assert_eq!(plan.reasons[0].rule, "default");
        assert!(plan.moves.iter().any(|m| m.up && m.to == Rung::Vm && m.rule == "kernel-module"));
    }

    #[test]
    fn the_highest_rung_wins_and_says_what_keeps_it_there() {
        let mut facts = facts();
        let module =
            hatchway_inspect::KernelModuleFacts { path: "/lib/acme.ko".into(), ..Default::default() };
        facts.kernel_modules.push(module);
        for name in ["a", "b"] {
            let unit =
                hatchway_inspect::SystemdUnit { path: format!("/{name}.service"), ..Default::default() };
            facts.system.systemd_units.push(unit);
        }
        let plan = plan(&facts, None, &host());
        assert_eq!((plan.rung, plan.can_run()), (Rung::Vm, false));
        let rules: Vec<&str> = plan.reasons.iter().map(|reason| reason.rule).collect();
        assert_eq!(rules, ["kernel-module", "several-daemons"]);
        let down = plan.moves.iter().find(|m| m.rule == "kernel-module").unwrap();
        assert_eq!((down.to, down.up), (Rung::Container, false));
        // Alone, having one daemon fewer would change nothing.
        assert!(!plan.moves.iter().any(|m| m.rule == "several-daemons"));
    }

    #[test]
    fn windows_programs_want_wine_and_their_drivers_windows() {
        let mut facts = facts();
        facts.artifact.format = "zip".into();
        facts.pe.push(windows_program("/acme.exe"));
        let with_wine = plan(&facts, None, &host());
        assert_eq!((with_wine.rung, with_wine.runner), (Rung::Fhs, Runner::Wine));
        facts.pe.push(hatchway_inspect::PeFacts { driver: true, ..windows_program("/acme.sys") });
        let with_driver = plan(&facts, None, &host());
        assert_eq!((with_driver.rung, with_driver.runner), (Rung::Vm, Runner::None));
    }

    #[test]
    fn libraries_for_windows_alone_want_wine_and_what_a_firmware_starts_does_not() {
        let library = || hatchway_inspect::PeFacts { library: true, ..windows_program("/acme.dll") };
        let of = |pe: hatchway_inspect::PeFacts| {
            let mut facts = facts();
            facts.artifact.format = "zip".into();
            facts.pe.push(pe);
            facts
        };
        assert_eq!(plan(&of(library()), None, &host()).runner, Runner::Wine);
        // Code of .NET alone may serve others, and a script beside it says that it is for Linux too.
        let managed = hatchway_inspect::PeFacts { dotnet: true, ..library() };
        assert_eq!(plan(&of(managed), None, &host()).runner, Runner::None);
        let mut with_script = of(library());
        with_script.programs.push(hatchway_inspect::Program {
            path: "/install.sh".into(),
            kind: ProgramKind::Script { interpreter: "/bin/sh".into() },
            on_path: false,
        });
        assert_eq!(plan(&with_script, None, &host()).runner, Runner::None);
        let efi =
            hatchway_inspect::PeFacts { subsystem: "efi-application".into(), ..windows_program("/vmlinuz") };
        assert_eq!(plan(&of(efi), None, &host()).runner, Runner::None);
    }

    #[test]
    fn windows_libraries_that_nobody_brings_are_told() {
        let mut facts = facts();
        facts.artifact.format = "zip".into();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        facts.pe.push(hatchway_inspect::PeFacts {
            imports: names(&["acmevendor.dll", "beside.dll", "kernel32.dll", "vcruntime140.dll"]),
            delay_imports: names(&["later.dll"]),
            load_candidates: vec![hatchway_inspect::Candidate { name: "vendorplug.dll".into(), offset: 1 }],
            ..windows_program("/acme.exe")
        });
        facts.pe.push(hatchway_inspect::PeFacts { library: true, ..windows_program("/bin/Beside.DLL") });
        let coverage = plan(&facts, None, &host()).coverage;
        // `lock` proves nothing of Windows libraries, so that they are not counted among what it proves.
        assert_eq!((coverage.sureness, coverage.outside), (Sureness::Medium, 0));
        let kinds: Vec<SuspicionKind> = coverage.suspected.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [SuspicionKind::Absent, SuspicionKind::Absent, SuspicionKind::Named]);
        for (index, words) in ["`acmevendor.dll`", "`later.dll`", "`vendorplug.dll`"].iter().enumerate() {
            assert!(coverage.suspected[index].text.contains(words), "{:?}", coverage.suspected);
        }
    }

    #[test]
    fn launchers_for_windows_beside_a_linux_package_are_data() {
        let mut facts = facts();
        facts.pe.push(windows_program("/usr/lib/python3/dist-packages/setuptools/gui.exe"));
        facts.package = Some(hatchway_inspect::PackageFacts::new(
            hatchway_inspect::PackageKind::Deb,
            "x".into(),
            "1".into(),
        ));
        assert_eq!(plan(&facts, None, &host()).runner, Runner::None);
    }

    #[test]
    fn a_setuid_program_climbs_and_a_setuid_folder_does_not() {
        let mut facts = facts();
        let dropped = |path: &str| hatchway_inspect::Dropped {
            path: path.into(),
            what: DroppedWhat::Setuid,
            detail: "4755".into(),
        };
        facts.dropped.push(dropped("/opt/folder"));
        assert_eq!(plan(&facts, None, &host()).rung, Rung::Fhs);
        facts.dropped.push(dropped("/opt/helper"));
        facts.programs.push(hatchway_inspect::Program {
            path: "/opt/helper".into(),
            kind: ProgramKind::Elf,
            on_path: false,
        });
        let plan = plan(&facts, None, &host());
        assert_eq!((plan.rung, plan.reasons[0].rule), (Rung::Container, "setuid-helper"));
        assert_eq!(plan.refused.len(), 2);
    }

    fn effect(
        kind: hatchway_inspect::EffectKind,
        what: &str,
        detail: &str,
    ) -> hatchway_inspect::ScriptEffect {
        let (script, what, detail) = ("postinst".to_owned(), what.to_owned(), detail.to_owned());
        hatchway_inspect::ScriptEffect { kind, script, what, detail }
    }

    #[test]
    fn what_scripts_do_counts_like_what_a_package_brings() {
        use hatchway_inspect::EffectKind;
        for (kind, rung, rule) in [
            (EffectKind::Setuid, Rung::Container, "setuid-helper"),
            (EffectKind::Setgid, Rung::Fhs, "default"),
            (EffectKind::LoadsModule, Rung::Vm, "kernel-module"),
            (EffectKind::BuildsModule, Rung::Vm, "dkms"),
            (EffectKind::RequestsModule, Rung::Fhs, "default"),
        ] {
            let mut facts = facts();
            facts.system.effects.push(effect(kind, "/opt/acme", ""));
            let plan = plan(&facts, None, &host());
            assert_eq!((plan.rung, plan.reasons[0].rule), (rung, rule), "{kind:?}");
            let sure = plan.coverage.sureness == Sureness::High;
            assert_eq!(sure, kind != EffectKind::RequestsModule, "{kind:?}");
        }
    }

    #[test]
    fn capabilities_are_wanted_of_the_recipe() {
        let mut facts = facts();
        let capability =
            effect(hatchway_inspect::EffectKind::Capabilities, "/opt/acme/scope", "cap_net_raw+ep");
        facts.system.effects.push(capability);
        facts.dropped.push(hatchway_inspect::Dropped {
            path: "/opt/acme/io".into(),
            what: DroppedWhat::Xattrs,
            detail: "security.capability (cap_sys_rawio,cap_net_admin=ep)".into(),
        });
        let wants = plan(&facts, None, &host()).wants;
        let told: Vec<(&str, &str)> =
            wants.iter().map(|want| (want.key.as_str(), want.because.as_str())).collect();
        let both = "[run] capabilities = [\"cap_net_admin\", \"cap_sys_rawio\"]";
        assert_eq!(told, [(both, "io"), ("[run] capabilities = [\"cap_net_raw\"]", "scope")]);
    }

    #[test]
    fn daemons_of_both_init_systems_are_counted_once_each() {
        let mut facts = facts();
        facts.system.init_scripts = vec!["/etc/init.d/a".into()];
        let unit = hatchway_inspect::SystemdUnit {
            path: "/lib/systemd/system/a.service".into(),
            ..Default::default()
        };
        facts.system.systemd_units.push(unit);
        assert_eq!(plan(&facts, None, &host()).rung, Rung::Fhs);
        facts.system.init_scripts.push("/etc/init.d/b".into());
        let plan = plan(&facts, None, &host());
        assert_eq!((plan.rung, plan.reasons[0].rule), (Rung::Container, "several-daemons"));
        assert!(plan.reasons[0].text.contains("2 services"), "{:?}", plan.reasons);
    }

    fn contained(path: &str, format: &str, inner: Facts) -> hatchway_inspect::Contained {
        hatchway_inspect::Contained {
            path: path.into(),
            offset: 0,
            size: 1,
            format: format.into(),
            files: 1,
            facts: Some(Box::new(inner)),
            unopened: None,
        }
    }

    fn script_program(path: &str) -> hatchway_inspect::Program {
        let kind = ProgramKind::Script { interpreter: "/bin/sh".into() };
        hatchway_inspect::Program { path: path.into(), kind, on_path: false }
    }

    #[test]
    fn a_script_beside_packages_does_not_hide_them() {
        let mut inner = facts();
        inner.system.dkms.push("/usr/src/acme-1/dkms.conf".into());
        let mut outer = facts();
        outer.artifact.format = "zip".into();
        outer.programs.push(script_program("/install.sh"));
        outer.contains.push(contained("/acme.deb", "deb", inner.clone()));
        let of_zip = plan(&outer, None, &host());
        assert_eq!((of_zip.rung, of_zip.reasons[0].rule), (Rung::Vm, "dkms"));
        // A package with programs of its own: another package decides, an archive of data does not.
        outer.package = Some(hatchway_inspect::PackageFacts::new(
            hatchway_inspect::PackageKind::Deb,
            "x".into(),
            "1".into(),
        ));
        assert_eq!(plan(&outer, None, &host()).rung, Rung::Vm);
        let mut data = facts();
        data.artifact.format = "zip".into();
        data.pe.push(hatchway_inspect::PeFacts { driver: true, ..windows_program("/acme.sys") });
        outer.contains = vec![contained("/firmware.zip", "zip", data)];
        assert_eq!(plan(&outer, None, &host()).rung, Rung::Fhs);
        let mut deep = facts();
        deep.contains.push(contained("/acme.deb", "deb", inner));
        outer.contains = vec![contained("/firmware.zip", "zip", deep)];
        assert_eq!(plan(&outer, None, &host()).rung, Rung::Vm);
    }

    #[test]
    fn data_of_no_known_form_is_not_read() {
        let mut facts = facts();
        let appended = hatchway_inspect::Appended { offset: 4096, size: 500_000, what: "data".into() };
        let program = windows_program("/acme.exe");
        facts.pe.push(hatchway_inspect::PeFacts { appended: Some(appended), ..program });
        let coverage = plan(&facts, None, &host()).coverage;
        assert_eq!(coverage.sureness, Sureness::Low);
        assert!(coverage.suspected[0].text.contains("500000 bytes behind its end"), "{coverage:?}");
    }

    #[test]
    fn a_sandbox_that_is_not_to_be_had_is_an_obstacle() {
        let host = Host { no_sandbox: Some("no user namespaces; see doctor".into()), ..host() };
        let plan = plan(&facts(), None, &host);
        assert!(!plan.can_run() && plan.rung == Rung::Fhs);
        assert_eq!(plan.obstacles[0].rule, "host");
    }
}
