//! `hatchway doctor`

use std::process::ExitCode;

use crate::config;
use crate::doctor::{self, Check, For, Look, State};
use crate::error::Error;
use crate::report::Printer;

/// Columns of a terminal that everybody has.
const COLUMNS: usize = 80;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: super::from::FromArgs,
}

/// 0 where this version can do its work here and the instrument needs nobody, 1 otherwise.
pub(super) fn main(args: &Args) -> Result<ExitCode, Error> {
    let printer = Printer::default();
    let place = args.from.place()?;
    let checks = match &place.archive {
        Some(archive) => archive.checks()?,
        None => doctor::examine(&Look::here(), &place.dirs, &config::load(&place.dirs)?.driver_root),
    };
    let (fit, needs) = (doctor::is_fit(&checks), doctor::needs_somebody(&checks));
    if args.json {
        printer.data(super::json(
            &serde_json::json!({ "fit": fit, "needs-somebody": needs, "checks": checks }),
        )?);
    } else {
        for whom in For::ALL {
            let of_whom: Vec<&Check> = checks.iter().filter(|check| check.whom == whom).collect();
            if !of_whom.is_empty() {
                printer.data(whom.heading());
            }
            of_whom.into_iter().for_each(|check| printer.data(super::units::plain(&shown(check))));
        }
        printer.data(match (fit, needs) {
            (true, false) => "fit: tools can be run here",
            (true, true) => "fit, but the instrument needs somebody: see the lines with ✗ below `instrument`",
            (false, _) => "not fit: see the lines with ✗",
        });
    }
    Ok(ExitCode::from(u8::from(!fit || needs)))
}

fn shown(check: &Check) -> String {
    let mark = match check.state {
        State::Works => '✓',
        State::Less => '!',
        State::Missing => '✗',
    };
    let mut text = wrapped(&format!("  {mark} "), &format!("{}: {}", check.name, check.found));
    if !check.means.is_empty() {
        text.push('\n');
        text.push_str(&wrapped("      means: ", &check.means));
    }
    if !check.fix.is_empty() {
        text.push('\n');
        text.push_str(&wrapped("      mend:  ", &check.fix));
    }
    text
}

/// A text behind a head, broken at blanks so that it fits; a word that is too long stays whole.
fn wrapped(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let mut lines = vec![head.to_owned()];
    let mut filled = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if filled > indent && filled + 1 + length > COLUMNS {
            lines.push(" ".repeat(indent));
            filled = indent;
        }
        if let Some(line) = lines.last_mut() {
            if filled > indent {
                line.push(' ');
                filled += 1;
            }
            line.push_str(word);
            filled += length;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let text = wrapped("  ✓ ", &"word ".repeat(40));
        assert!(text.lines().count() > 2);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")));
    }
}
