//! The whole of the service.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use hatchway_wire::frames::{Head, Images, Kind};
use serde::Serialize;

use super::solve::Bench;
use super::source::Intake;
use super::{Counts, Door, Hub, Listener, Mailbox, Metrics, ServePlan, Stop};
use crate::Error;
use crate::run::System;
use crate::solve::Prepared;

/// What the service did.
#[derive(Clone, Debug, Serialize)]
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
/// The calibration cannot be used, or a door cannot be opened. What a source sends ends no service.
pub fn serve(
    plan: &ServePlan,
    folder: &Path,
    stop: &Stop,
    say: &(dyn Fn(String) + Sync),
    ready: impl FnOnce(),
) -> Result<Served, Error> {
    let system = System::read(&folder.join(&plan.calibration), &plan.rows)?;
    let prepared = Prepared::new(&plan.solver, &system.matrix, None)?;
    say(format!("system of {} rows, {} voxels", system.rows.len(), system.grid.voxels()));
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
        mailbox: &mailbox,
        metrics: &metrics,
        stop,
        images: &images,
        viewers: of_viewers,
        say,
    };
    let watch = |what: &str, done: io::Result<()>| {
        if let Err(error) = done {
            say(format!("error: {what} cannot go on: {error}"));
            stop.say();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| bench.run(&prepared));
        scope.spawn(|| watch("the door of frames", intake.run(&open.frames)));
        scope.spawn(|| watch("the door of images", images.run(&open.images, stop, &metrics)));
        if let Some(listener) = &open.viewers {
            scope.spawn(|| watch("the door of viewers", viewers.run(listener, stop, &metrics)));
        }
        if let Some(listener) = &open.metrics {
            let pages =
                Pages { metrics: Arc::clone(&metrics), hubs: [Arc::clone(&images), Arc::clone(&viewers)] };
            scope.spawn(|| watch("the door of metrics", pages.serve(listener, stop)));
        }
        say("ready for frames".to_owned());
        ready();
        stop.wait_for();
        let left = mailbox.close();
        metrics.change(|counts| counts.skipped += left);
    });
    Ok(Served { counts: metrics.counts(), latency: metrics.latency(0.5) })
}

/// What a subscriber is sent first.
fn greeting(system: &System) -> Vec<u8> {
    let images = Images {
        size: system.grid.size,
        field_of_view: system.grid.field_of_view,
        center: system.grid.center,
        unit: system.unit.to_owned(),
        simulated: system.calibration.experiment.is_simulation,
    };
    // A few numbers and a word are always JSON, and short.
    let text = serde_json::to_vec(&images).unwrap_or_default();
    let head = Head::description(Kind::Images, u32::try_from(text.len()).unwrap_or(0));
    [head.bytes().as_slice(), &text].concat()
}

/// The metrics over HTTP.
struct Pages {
    metrics: Arc<Metrics>,
    hubs: [Arc<Hub>; 2],
}

impl Pages {
    fn serve(self, listener: &Listener, stop: &Stop) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let page = move || {
            let [images, viewers] = &self.hubs;
            let subscribers = [("images", images.subscribers()), ("viewers", viewers.subscribers())];
            let text = self.metrics.text(&subscribers);
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        };
        let router = Router::new().route("/metrics", get(page));
        let ended = wait(stop.clone());
        runtime.block_on(async move {
            let ended = async move { drop(ended.await) };
            match listener {
                Listener::Tcp(listener) => {
                    let listener = listener.try_clone()?;
                    listener.set_nonblocking(true)?;
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    axum::serve(listener, router).with_graceful_shutdown(ended).await
                }
                Listener::Unix(listener, _) => {
                    let listener = listener.try_clone()?;
                    listener.set_nonblocking(true)?;
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    axum::serve(listener, router).with_graceful_shutdown(ended).await
                }
            }
        })
    }
}

/// The stop as something that can be awaited.
fn wait(stop: Stop) -> tokio::sync::oneshot::Receiver<()> {
    let (told, heard) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        stop.wait_for();
        told.send(()).ok();
    });
    heard
}
