//! Which rung and which runner, and why: a pure function over facts, recipe and host.
//!
//! Each rule is a function with a sentence of explanation. The highest rung that a rule demands wins; a wish in the
//! recipe overrides all of them, and the plan says so.

use hatchway_inspect::{DroppedWhat, Facts};
use serde::Serialize;

use crate::recipe::{Recipe, Rung, Runner};

/// What this host can do, as far as a plan depends on it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Host {
    /// Why the fhs rung is not available, if it is not.
    pub no_sandbox: Option<String>,
}

impl Host {
    /// Looks at this host, without trying anything.
    #[must_use]
    pub fn detect() -> Self {
        // Root needs no user namespace.
        if crate::dirs::is_root() {
            return Self::default();
        }
        let obstacle =
            hatchway_envs::sandbox::probe::known_obstacles().into_iter().find(|problem| problem.fatal);
        Self { no_sandbox: obstacle.map(|problem| format!("{problem}; {}", problem.fix)) }
    }
}

/// How a tool is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The rung.
    pub rung: Rung,
    /// The runner.
    pub runner: Runner,
    /// The rules that decided, first the one that counted.
    pub reasons: Vec<Reason>,
    /// What would move it to another rung.
    pub moves: Vec<String>,
    /// What the artifact would have wanted that Hatchway refuses to do.
    pub refused: Vec<String>,
    /// How sure this is.
    pub coverage: Coverage,
}

impl Plan {
    /// Whether this version of Hatchway can run it on this host.
    #[must_use]
    pub fn can_run(&self) -> bool {
        let blocked = self.reasons.iter().any(|reason| reason.rule == HOST_RULE);
        self.rung == Rung::Fhs && self.runner == Runner::None && !blocked
    }
}

/// The name of the rule that speaks for the host.
const HOST_RULE: &str = "host";

/// A rule that spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Its name.
    pub rule: &'static str,
    /// What it says.
    pub text: String,
}

/// What is known and what is only suspected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Libraries that are found inside the artifact.
    pub inside: usize,
    /// Libraries that the environment has to bring; `lock` proves them with their symbol versions.
    pub outside: usize,
    /// What only running it would prove: libraries opened by name, scripts that are not run, files not read.
    pub suspected: Vec<String>,
}

struct Verdict {
    rung: Rung,
    runner: Runner,
    text: String,
}

type Rule = (&'static str, fn(&Facts) -> Option<Verdict>);

/// The rules, lowest rung first.
const RULES: [Rule; 6] = [
    ("default", default),
    ("windows-program", windows_program),
    ("several-daemons", several_daemons),
    ("setuid-helper", setuid_helper),
    ("kernel-module", kernel_module),
    ("windows-driver", windows_driver),
];

/// Plans how to run an artifact.
#[must_use]
pub fn plan(facts: &Facts, recipe: Option<&Recipe>, host: &Host) -> Plan {
    let mut verdicts: Vec<(&'static str, Verdict)> =
        RULES.iter().filter_map(|(name, rule)| Some((*name, rule(facts)?))).collect();
    // A stable sort: of two rules for the same rung the later, more specific one counts.
    verdicts.reverse();
    verdicts.sort_by_key(|(_, verdict)| std::cmp::Reverse(verdict.rung));
    let evidence = verdicts.first().map_or(Rung::Fhs, |(_, verdict)| verdict.rung);
    let runner =
        if verdicts.iter().any(|(_, v)| v.runner == Runner::Wine) { Runner::Wine } else { Runner::None };
    let mut reasons: Vec<Reason> =
        verdicts.into_iter().map(|(rule, verdict)| Reason { rule, text: verdict.text }).collect();
    let (rung, runner) = wish(recipe, evidence, runner, &mut reasons);
    if let (Some(why), Rung::Fhs) = (&host.no_sandbox, rung) {
        reasons.push(Reason { rule: HOST_RULE, text: format!("this host cannot run it yet: {why}") });
    }
    Plan { rung, runner, reasons, moves: moves(rung), refused: refused(facts), coverage: coverage(facts) }
}

fn wish(recipe: Option<&Recipe>, rung: Rung, runner: Runner, reasons: &mut Vec<Reason>) -> (Rung, Runner) {
    let Some(run) = recipe.map(|r| &r.run) else { return (rung, runner) };
    let wished = if run.rung == Rung::Auto { rung } else { run.rung };
    if wished != rung {
        let text = format!("the recipe asks for the {wished} rung; the evidence alone says {rung}");
        reasons.insert(0, Reason { rule: "recipe", text });
    }
    (wished, if run.runner == Runner::None { runner } else { run.runner })
}

fn default(_: &Facts) -> Option<Verdict> {
    let text = "a Linux program: it runs in namespaces over a tree of pinned packages".into();
    Some(Verdict { rung: Rung::Fhs, runner: Runner::None, text })
}

fn windows_program(facts: &Facts) -> Option<Verdict> {
    let program = facts.pe.iter().find(|pe| !pe.library && !pe.driver)?;
    let linux = facts.elf.iter().any(|elf| elf.interpreter.is_some() || elf.static_linked);
    let text = format!("`{}` is a Windows program, and there is no Linux program beside it", program.path);
    (!linux).then_some(Verdict { rung: Rung::Fhs, runner: Runner::Wine, text })
}

fn several_daemons(facts: &Facts) -> Option<Verdict> {
    let services: Vec<&String> =
        facts.system.systemd_units.iter().filter(|unit| unit.ends_with(".service")).collect();
    if services.len() < 2 {
        return None;
    }
    let text = format!(
        "it brings {} services that want an init system, `{}` among them",
        services.len(),
        services[0]
    );
    Some(Verdict { rung: Rung::Container, runner: Runner::None, text })
}

fn setuid_helper(facts: &Facts) -> Option<Verdict> {
    let helper =
        facts.dropped.iter().find(|d| matches!(d.what, DroppedWhat::Setuid | DroppedWhat::Setgid))?;
    let is_program = facts.programs.iter().any(|program| program.path == helper.path);
    let text = format!("`{}` wants to change its user id, which the fhs rung never allows", helper.path);
    is_program.then_some(Verdict { rung: Rung::Container, runner: Runner::None, text })
}

fn kernel_module(facts: &Facts) -> Option<Verdict> {
    let module = facts.system.kernel_modules.first().or(facts.system.dkms.first())?;
    let text = format!("`{module}` is a kernel module: it needs a kernel of its own");
    Some(Verdict { rung: Rung::Vm, runner: Runner::None, text })
}

fn windows_driver(facts: &Facts) -> Option<Verdict> {
    let driver =
        facts.pe.iter().find(|pe| pe.driver).map(|pe| &pe.path).or(facts.system.windows_drivers.first())?;
    let text = format!("`{driver}` is a Windows driver: it needs a Windows kernel");
    Some(Verdict { rung: Rung::Vm, runner: Runner::None, text })
}

fn moves(rung: Rung) -> Vec<String> {
    let text = match rung {
        Rung::Auto | Rung::Native | Rung::Fhs => {
            "up: a kernel module or driver (vm), several services or a setuid helper (container)"
        }
        Rung::Container => "down to fhs: one program at a time, without setuid; up to vm: a kernel module",
        Rung::Vm => "down: the same software without its kernel module or driver",
    };
    vec![text.to_owned()]
}

fn refused(facts: &Facts) -> Vec<String> {
    let mut all: Vec<String> = facts
        .dropped
        .iter()
        .map(|d| match d.what {
            DroppedWhat::Setuid | DroppedWhat::Setgid => {
                format!("run `{}` with the rights of its owner", d.path)
            }
            DroppedWhat::Xattrs => format!("keep the extended attributes of `{}` ({})", d.path, d.detail),
            _ => format!("make the special file `{}`", d.path),
        })
        .collect();
    for script in facts.scripts.iter().filter(|script| script.name == "postinst" || script.name == "preinst")
    {
        let calls: Vec<&str> =
            script.calls.iter().map(String::as_str).filter(|call| *call != "ldconfig").collect();
        if !calls.is_empty() {
            all.push(format!("run its {} on the host ({})", script.name, calls.join(", ")));
        }
    }
    all
}

fn coverage(facts: &Facts) -> Coverage {
    let (inside, outside): (Vec<_>, Vec<_>) = facts.needs.iter().partition(|need| need.found.is_some());
    let mut suspected = Vec::new();
    for elf in &facts.elf {
        for note in &elf.dlopen_notes {
            suspected.push(format!("{} says it may load {}", elf.path, note.sonames.join(" or ")));
        }
        for candidate in &elf.dlopen_candidates {
            suspected.push(format!("{} names `{candidate}`, perhaps to load it", elf.path));
        }
    }
    for need in &facts.needs {
        if let Some(elsewhere) = need.elsewhere.first() {
            suspected.push(format!(
                "`{}` is there as {elsewhere}, where the loader does not look by itself",
                need.soname
            ));
        }
        if need.found.is_some() && !need.missed_by.is_empty() {
            suspected.push(format!(
                "{} does not find `{}` by itself",
                need.missed_by.join(", "),
                need.soname
            ));
        }
    }
    suspected.extend(facts.omitted.iter().map(|o| format!("{} was not read: {}", o.what, o.reason)));
    Coverage { inside: inside.len(), outside: outside.len(), suspected }
}
