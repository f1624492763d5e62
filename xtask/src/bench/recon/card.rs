//! The same on the machine's graphics card. A software adapter's figures show that it computes, not how fast cards are.

use std::path::Path;

use anyhow::Result;

use super::side::{Sides, Who};
use super::{COLUMNS, ENTRY_BYTES, FRAMES, Rows};

/// Rounds; a software adapter takes a second for 16 frames.
const ROUNDS: usize = 3;
const ROWS: usize = 2000;

#[expect(clippy::cast_precision_loss, reason = "rates to three digits")]
pub(super) fn rows(sides: &mut Sides, scratch: &Path) -> Result<Rows> {
    let Some(name) = sides.card().map(str::to_owned) else {
        return Ok(vec![("graphics card".into(), "none with a Vulkan driver".into())]);
    };
    let opened = sides.ask(Who::Card, "open")? / 1e6;
    let upload = sides.ask(Who::Card, &format!("upload {ROWS}"))?;
    let rate = (ROWS * COLUMNS) as f64 * ENTRY_BYTES / upload;
    let mut out: Rows = vec![
        ("graphics card".into(), name),
        ("card: opened".into(), format!("{opened:.0} ms")),
        (
            format!("card: {ROWS} × {COLUMNS} from a file to its memory"),
            format!("{:.0} ms, {rate:.2} GB/s", upload / 1e6),
        ),
    ];
    for (what, request) in [
        (format!("card: preparation for {ROWS} × {COLUMNS}"), format!("prepare {ROWS}")),
        (format!("card: {ROWS} × {COLUMNS}, 1 frame, 1 sweep"), format!("run {ROWS} 1 1")),
        (format!("card: {ROWS} × {COLUMNS}, 1 frame, 3 sweeps"), format!("run {ROWS} 3 1")),
        (format!("card: {ROWS} × {COLUMNS}, {FRAMES} frames, 1 sweep"), format!("run {ROWS} 1 {FRAMES}")),
    ] {
        out.push((what, sides.in_turns(ROUNDS, &[(Who::Card, request)])?[0].describe()));
    }
    let image = scratch.join("card");
    sides.ask(Who::Card, &format!("image {ROWS} 3 {}", image.display()))?;
    let far = sides.ask(Who::NumPy, &format!("far {ROWS} 3 {}", image.display()))?;
    out.push((
        format!("card: {ROWS} × {COLUMNS}, 3 sweeps, from NumPy row by row in double precision, relative"),
        format!("{far:.1e}"),
    ));
    Ok(out)
}
