//! The whole of the service.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hatchway_wire::frames::{Head, Images, Kind};
use serde::Serialize;

use super::pages::Pages;
use super::solve::Bench;
use super::source::Intake;
use super::{Counts, Door, Hub, Listener, Mailbox, Metrics, ServePlan, Stop};
use crate::Error;
use crate::run::{Hardware, System};
use crate::solve::Prepared;

/// What the service did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Served {
    /// What it counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Median time from a frame to its image over the last images, in seconds.
    pub latency: Option<f64>,
}

/// The doors, open.
struct Open {
    frames: Listener,
    images: Listener,
    viewers: Option<Listener>,
    metrics: Option<Listener>,
}

impl Open {
    fn new(plan: &ServePlan, folder: &Path) -> Result<Self, Error> {
        let doors = &plan.doors;
        let listen = |door: &Door| door.below(folder).listen();
        Ok(Self {
            frames: listen(&doors.frames)?,
            images: listen(&doors.images)?,
            viewers: doors.open_igt_link.as_ref().map(listen).transpose()?,
            metrics: doors.metrics.as_ref().map(listen).transpose()?,
        })
    }

    /// Who may come where, for a person.
    fn tell(&self, say: &(dyn Fn(String) + Sync)) {
        let all = [
            ("frames", Some(&self.frames)),
            ("images", Some(&self.images)),
            ("viewers", self.viewers.as_ref()),
            ("metrics", self.metrics.as_ref()),
        ];
        for (name, listener) in all {
            if let Some(Ok(door)) = listener.map(Listener::door) {
                say(format!("{name} at {door}"));
                if door.is_open_to_others() {
                    say(format!(
                        "warning: whoever reaches {door} can use it, for nobody is asked who they are"
                    ));
                }
            }
        }
    }
}

/// Serves by a plan whose paths are beside `folder`, until `stop` is said. `ready` is called once all doors are open.
///
/// # Errors
/// The calibration cannot be used, a door cannot be opened, or there is no graphics card where there must be one. What a source sends ends no
/// service.
pub fn serve(
    plan: &ServePlan,
    folder: &Path,
    stop: &Stop,
    say: &(dyn Fn(String) + Sync),
    ready: impl FnOnce(),
) -> Result<Served, Error> {
    serve_on(&Hardware::open(&plan.device)?, plan, folder, stop, say, ready)
}

/// The same on hardware that is open already; the plan's is not looked at.
///
/// # Errors
/// As [`serve`].
pub fn serve_on(
    hardware: &Hardware,
    plan: &ServePlan,
    folder: &Path,
    stop: &Stop,
    say: &(dyn Fn(String) + Sync),
    ready: impl FnOnce(),
) -> Result<Served, Error> {
    let system = System::read(&folder.join(&plan.calibration), &plan.rows)?;
    let (loaded, warnings) = match system.load(hardware, &plan.solver, stop.flag()) {
        Err(Error::Cancelled { .. }) => return Ok(Served::default()),
        loaded => loaded?,
    };
    let prepared = Prepared::new(&plan.solver, &*loaded.operator, None)?;
    warnings.iter().for_each(|warning| say(format!("warning: {warning}")));
    say(format!("system of {} rows, {} voxels", system.rows.len(), system.grid.voxels()));
    say(format!("device is {}", (loaded.device)()));
    let mailbox = Mailbox::new(plan.policy);
    let metrics = Arc::new(Metrics::default());
    let images = Arc::new(Hub::new(Some(greeting(&system))));
    let viewers = Arc::new(Hub::new(None));
    let open = Open::new(plan, folder)?;
    open.tell(say);
    let intake = Intake {
        system: &system,
        mailbox: &mailbox,
        metrics: &metrics,
        stop,
        background: plan.background,
        say,
    };
    let of_viewers = open.viewers.is_some().then_some((&*viewers, plan.doors.device.as_str()));
    let bench = Bench {
        system: &system,
        hardware,
        solver: &plan.solver,
        mailbox: &mailbox,
        metrics: &metrics,
        stop,
        images: &images,
        viewers: of_viewers,
        say,
    };
    let pages = Pages::new(&metrics, [Arc::clone(&images), Arc::clone(&viewers)]);
    Threads { open: &open, intake: &intake, bench: &bench, pages: &pages }.run(prepared, ready);
    Ok(Served { counts: metrics.counts(), latency: metrics.latency(0.5) })
}

/// Everything that runs beside each other.
struct Threads<'a> {
    open: &'a Open,
    intake: &'a Intake<'a>,
    bench: &'a Bench<'a>,
    pages: &'a Pages,
}

impl Threads<'_> {
    /// Runs until the stop is said.
    fn run(&self, prepared: Prepared<'_, f32>, ready: impl FnOnce()) {
        let Self { open, intake, bench, pages } = *self;
        let (stop, say, metrics) = (intake.stop, intake.say, intake.metrics);
        let [images, viewers] = &pages.hubs;
        let watch = |what: &str, run: &dyn Fn() -> io::Result<()>| {
            let _guard = stop.guard();
            if let Err(error) = run() {
                say(format!("error: {what} cannot go on: {error}"));
                stop.say();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = stop.guard();
                bench.run(prepared);
            });
            scope.spawn(|| watch("the door of frames", &|| intake.run(&open.frames)));
            scope.spawn(|| watch("the door of images", &|| images.run(&open.images, stop, metrics)));
            if let Some(listener) = &open.viewers {
                scope.spawn(|| watch("the door of viewers", &|| viewers.run(listener, stop, metrics)));
            }
            if let Some(listener) = &open.metrics {
                scope.spawn(|| watch("the door of metrics", &|| pages.serve(listener, stop)));
            }
            if !stop.is_said() {
                say("ready for frames".to_owned());
                ready();
            }
            stop.wait_for();
            // Who waits for a frame, or for room for one, hears of it.
            let left = intake.mailbox.close();
            metrics.change(|counts| counts.skipped += left);
        });
    }
}

/// What a subscriber is sent first.
fn greeting(system: &System) -> Vec<u8> {
    let images = Images {
        size: system.grid.size,
        field_of_view: system.grid.field_of_view,
        center: system.grid.center,
        unit: system.unit.to_owned(),
    };
    // A few numbers and a word are always JSON, and short.
    let text = serde_json::to_vec(&images).unwrap_or_default();
    let head = Head::description(Kind::Images, u32::try_from(text.len()).unwrap_or(0));
    [head.bytes().as_slice(), &text].concat()
}
