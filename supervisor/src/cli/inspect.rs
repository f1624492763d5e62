//! `hatchway inspect`: facts and plan, as a page for a terminal or as JSON.

use std::path::Path;
use std::process::ExitCode;

use hatchway_inspect::{Facts, Need, ProgramKind};

use super::NetworkArgs;
use crate::artifact;
use crate::context::Context;
use crate::error::Error;
use crate::plan::{self, Host, Plan};

/// As many lines of one kind as a page shows; `--json` has all.
const LINES_MAX: usize = 12;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A vendor's file or folder, or a package of Debian's archive (`debian:trixie/non-free/rar`)
    #[arg(value_name = "FILE|DIR|SPEC")]
    file: String,
    /// Print facts and plan as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    let facts = if Path::new(&args.file).is_dir() {
        hatchway_inspect::inspect(Path::new(&args.file))?
    } else {
        let acquired = artifact::acquire(&context, &args.file)?;
        artifact::facts(&context, &acquired.file, acquired.sha256, &acquired.path)?
    };
    let plan = plan::plan(&facts, None, &Host::detect());
    if args.json {
        context.printer.data(super::json(&serde_json::json!({ "facts": facts, "plan": plan }))?);
    } else {
        context.printer.raw(&page(&facts, &plan));
    }
    Ok(if plan.can_run() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn page(facts: &Facts, plan: &Plan) -> String {
    let mut page = Page::default();
    head(facts, &mut page);
    programs(facts, &mut page);
    needs(facts, &mut page);
    system(facts, &mut page);
    verdict(plan, &mut page);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, text: &str) {
        // Names and descriptions are the vendor's: nothing in them may steer the terminal.
        self.text.extend(text.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.text.push('\n');
    }

    /// A heading and its lines, cut where they would fill the screen.
    fn section(&mut self, heading: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.line("");
        self.line(heading);
        for line in lines.iter().take(LINES_MAX) {
            self.wrapped(line);
        }
        if lines.len() > LINES_MAX {
            self.line(&format!("  … and {} more (--json has all)", lines.len() - LINES_MAX));
        }
    }

    /// Breaks at blanks so that nothing is wider than 80 columns, continuation lines indented.
    fn wrapped(&mut self, text: &str) {
        let mut line = String::from("  ");
        for word in text.split(' ') {
            if line.trim().is_empty() || line.chars().count() + 1 + word.chars().count() <= 80 {
                if !line.trim().is_empty() || line.len() > 4 {
                    line.push(' ');
                }
                line.push_str(word);
            } else {
                self.line(&line);
                line = format!("      {word}");
            }
        }
        self.line(&line);
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn megabytes(bytes: u64) -> String {
    if bytes < 100_000 { format!("{} bytes", bytes) } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}

fn head(facts: &Facts, page: &mut Page) {
    let artifact = &facts.artifact;
    page.line(&artifact.file);
    page.line(&format!("  {}, {}, {} files", artifact.format, megabytes(artifact.size), facts.files.files));
    page.line(&format!("  sha256 {}", artifact.sha256));
    if let Some(package) = &facts.package {
        let architecture = package.architecture.as_ref().map(|a| format!(" ({a})")).unwrap_or_default();
        page.wrapped(&format!("{} {}{architecture}", package.name, package.version));
        for (label, value) in
            [("", &package.description), ("by ", &package.maintainer), ("licence ", &package.license)]
        {
            if let Some(value) = value {
                page.wrapped(&format!("{label}{value}"));
            }
        }
    }
}

fn programs(facts: &Facts, page: &mut Page) {
    let lines: Vec<String> = facts
        .programs
        .iter()
        .map(|program| {
            let kind = match &program.kind {
                ProgramKind::Elf => "ELF".to_owned(),
                ProgramKind::Pe => "Windows".to_owned(),
                ProgramKind::Script { interpreter } => interpreter.clone(),
            };
            let level =
                facts.elf.iter().find(|elf| elf.path == program.path).and_then(|elf| elf.isa_level.clone());
            format!("{}  {kind}{}", program.path, level.map(|l| format!(", needs {l}")).unwrap_or_default())
        })
        .collect();
    page.section("Programs", &lines);
}

fn needs(facts: &Facts, page: &mut Page) {
    let describe = |need: &Need| {
        let versions = match &need.versions[..] {
            [] => String::new(),
            [one] => format!("  {one}"),
            [first, .., last] => format!("  {first} … {last}"),
        };
        let more = need.wanted_by.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let by = need.wanted_by.first().map_or("", String::as_str);
        let found = need.found.as_ref().map(|f| format!("  at {} ({})", f.path, f.rule)).unwrap_or_default();
        format!("{}{versions}  by {by}{more}{found}", need.soname)
    };
    let of = |inside: bool| -> Vec<String> {
        facts.needs.iter().filter(|need| need.found.is_some() == inside).map(describe).collect()
    };
    page.section("Libraries it needs from outside", &of(false));
    page.section("Libraries it brings for itself", &of(true));
    let declared = facts.package.as_ref().and_then(|p| p.depends.clone());
    page.section("Packages it declares", &declared.into_iter().collect::<Vec<_>>());
    let links: Vec<String> =
        facts.soname_links.iter().map(|l| format!("{} -> {}", l.path, l.target)).collect();
    page.section("Links that its ldconfig trigger would have made", &links);
}

fn system(facts: &Facts, page: &mut Page) {
    let scripts: Vec<String> = facts
        .scripts
        .iter()
        .map(|script| {
            let calls =
                if script.calls.is_empty() { "nothing of note".into() } else { script.calls.join(", ") };
            format!("{}  {} lines, calls {calls}", script.name, script.lines)
        })
        .collect();
    page.section("Maintainer scripts (read, never run on this host)", &scripts);
    let system = &facts.system;
    let groups: [(&str, &Vec<String>); 8] = [
        ("systemd unit", &system.systemd_units),
        ("init script", &system.init_scripts),
        ("udev rules", &system.udev_rules),
        ("kernel module", &system.kernel_modules),
        ("DKMS", &system.dkms),
        ("cron", &system.cron),
        ("D-Bus service", &system.dbus_services),
        ("Windows driver", &system.windows_drivers),
    ];
    let mut lines: Vec<String> = groups
        .iter()
        .flat_map(|(kind, paths)| paths.iter().map(move |path| format!("{kind} {path}")))
        .collect();
    lines.extend(
        system
            .ld_so_conf
            .iter()
            .map(|conf| format!("loader folders {} ({})", conf.directories.join(", "), conf.path)),
    );
    page.section("For the system", &lines);
    let mut paths: Vec<String> =
        facts.hard_coded_paths.iter().map(|p| format!("{}  in {}", p.path, p.file)).collect();
    paths.dedup();
    page.section("Paths in its programs", &paths);
}

fn verdict(plan: &Plan, page: &mut Page) {
    page.line("");
    page.line("Plan");
    let runner = if plan.runner == crate::recipe::Runner::None {
        String::new()
    } else {
        format!(", runner {}", plan.runner)
    };
    page.line(&format!("  rung {}{runner}", plan.rung));
    for reason in &plan.reasons {
        page.wrapped(&format!("because {} [{}]", reason.text, reason.rule));
    }
    for text in &plan.moves {
        page.wrapped(&format!("would move {text}"));
    }
    for text in plan.refused.iter().take(LINES_MAX) {
        page.wrapped(&format!("will not {text}"));
    }
    let coverage = &plan.coverage;
    page.wrapped(&format!(
        "coverage: {} libraries inside, {} from outside (`hatchway lock` proves them), {} suspicions",
        coverage.inside,
        coverage.outside,
        coverage.suspected.len()
    ));
    for text in coverage.suspected.iter().take(LINES_MAX) {
        page.wrapped(&format!("suspected: {text}"));
    }
}
