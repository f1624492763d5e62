//! `hatchway-recon serve`, and both of its ends: `feed` and `watch`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::json;

use super::{folder_of, outputs, report};
use crate::Error;
use crate::image::View;
use crate::online::{Door, Pace, Seen, ServePlan, Stop, Watcher, play, serve};
use crate::run::read_plan;

/// A service to be run.
#[derive(Debug, Args)]
#[command(
    after_help = "Frames come from `hatchway-recon feed` or a data acquisition, images go to `hatchway-recon watch`, 3D Slicer and others;\ndocs/recon.md describes the plan and the stream. SIGTERM and Ctrl-C end it.\n\nExample:\n  hatchway-recon serve serve-2d.toml"
)]
pub(super) struct Serve {
    /// The plan; paths in it are beside it.
    plan: PathBuf,
    /// Print the counts as JSON at the end.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Serve) -> Result<ExitCode, Error> {
    let plan: ServePlan = read_plan(&args.plan)?;
    let stop = stop_on_signals()?;
    let ready = || {
        // Without a supervisor that waits for it nobody is told.
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    };
    let say = |text: String| report::say(text);
    let served = serve(&plan, folder_of(&args.plan), &stop, &say, ready)?;
    if args.json {
        report::json(&served)?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts = &served.counts;
    let latency =
        served.latency.map_or(String::new(), |seconds| format!(", {:.1} ms after it", seconds * 1e3));
    report::data(format!(
        "frames    {} came, {} of them background, {} were lost before\nimages    {} of {} frames{latency}\nleft out  {} for newer ones, {} without a background, {} failed\nmissed    {} images by slow subscribers",
        counts.frames,
        counts.background,
        counts.lost,
        counts.images,
        counts.solved,
        counts.skipped,
        counts.without_background,
        counts.failed,
        counts.missed
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A scan to be sent.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hatchway-recon feed scan.mdf tcp:127.0.0.1:5030 --rate 46")]
pub(super) struct Feed {
    /// MDF of the scan, with samples.
    scan: PathBuf,
    /// Where `serve` takes frames: `tcp:ADDRESS:PORT` or `unix:PATH`.
    to: Door,
    /// Frames a second; as measured if not given.
    #[arg(long, value_name = "HZ", conflicts_with = "fast")]
    rate: Option<f64>,
    /// As fast as they are taken.
    #[arg(long)]
    fast: bool,
    /// How many times over; 0 is without end.
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: u64,
}

pub(super) fn run_feed(args: &Feed) -> Result<ExitCode, Error> {
    let stop = stop_on_signals()?;
    let pace = match (args.rate, args.fast) {
        (_, true) => Pace::Taken,
        (Some(rate), _) => Pace::Rate(rate),
        _ => Pace::Measured,
    };
    let say = |text: String| report::say(text);
    let played = play(&args.scan, &mut args.to.connect()?, pace, args.times, &stop, &say)?;
    report::say(format!("sent {} frames", played.frames));
    Ok(ExitCode::SUCCESS)
}

/// Images to be seen.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hatchway-recon watch tcp:127.0.0.1:5031 --images 20 --png last.png")]
pub(super) struct Watch {
    /// Where `serve` gives images: `tcp:ADDRESS:PORT` or `unix:PATH`.
    from: Door,
    /// So many, then the end; without end if not given.
    #[arg(long, value_name = "N")]
    images: Option<u64>,
    /// Draw each in the terminal.
    #[arg(long, conflicts_with = "json")]
    draw: bool,
    /// Print a line of JSON for each.
    #[arg(long)]
    json: bool,
    /// Write the last one as a picture here.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the last one as NRRD here.
    #[arg(long, value_name = "FILE")]
    nrrd: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run_watch(args: &Watch) -> Result<ExitCode, Error> {
    let stop = stop_on_signals()?;
    let mut watcher = Watcher::connect(&args.from, &stop)?;
    let unit = watcher.images().unit.clone();
    let mut last = None;
    let mut count = 0;
    while args.images.is_none_or(|most| count < most) {
        let Some(seen) = watcher.image()? else { break };
        show(args, &seen, &unit)?;
        last = Some(seen.image);
        count += 1;
    }
    let Some(image) = last else {
        report::say("no image came");
        return Ok(ExitCode::FAILURE);
    };
    if let Some(path) = &args.png {
        outputs::whole(path, args.force, |out| View::default().png(&image, out))?;
        report::say(format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.nrrd {
        outputs::nrrd(path, &image, args.force)?;
        report::say(format!("wrote {}", path.display()));
    }
    // Fewer than asked for is a no.
    Ok(if args.images.is_some_and(|most| count < most) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(args: &Watch, seen: &Seen, unit: &str) -> Result<(), Error> {
    let most = seen.image.data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (number, count) = (seen.head.number, seen.head.count);
    if args.json {
        let tai = seen.head.tai_ns;
        return report::data(
            json!({ "number": number, "frames": count, "most": most, "unit": unit, "simulated": seen.head.simulated, "tai-ns": tai }),
        );
    }
    if args.draw {
        // From the top left again, over the one before.
        report::picture(&format!("\u{1b}[H\u{1b}[2J{}", View::default().terminal(&seen.image, 76)?))?;
    }
    report::data(format!("frame {number}, mean of {count}, up to {most:.3} {unit}"))
}

/// SIGTERM and SIGINT say the stop.
///
/// They are kept from all threads that begin after this, and taken by one of its own.
fn stop_on_signals() -> Result<Stop, Error> {
    let failed = |source| Error::Door { action: "wait for", door: "signals".to_owned(), source };
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|error| failed(error.into()))?;
    let taken =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(|error| failed(error.into()))?;
    let stop = Stop::new().map_err(failed)?;
    let told = stop.clone();
    std::thread::spawn(move || {
        taken.read_signal().ok();
        told.say();
        // Who says it twice does not want to wait: from now on signals do what they usually do.
        signals.thread_unblock().ok();
        loop {
            std::thread::park();
        }
    });
    Ok(stop)
}
