//! What a unit says, over the API: the last lines, or a stream of them for as long as the run goes on.
//!
//! Reading waits for the disk and for the unit, so it has a thread of its own; a reader that is slow holds up nobody but itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hatchway_wire::log::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::units::{self, Line, Reader};

use super::core::Core;
use super::problem::{Code, Problem};

/// Lines in one answer, where nobody asks for fewer.
const LINES_MAX: usize = 10_000;
/// Bytes of text in one answer.
const BYTES_MAX: usize = 8 << 20;
/// Those who may read a log at a time: others ask the daemon for less.
static READERS: Semaphore = Semaphore::const_new(3);
/// From one look at a log to the next.
const LOOK: Duration = Duration::from_millis(100);
/// Lines that wait for a reader, about.
const BATCH: usize = 256;
/// So often a stream that has nothing to say says so.
const ALIVE: Duration = Duration::from_secs(15);

/// Which lines.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Which run; the last one without it.
    #[serde(default)]
    pub run: Option<String>,
    /// Only one of the streams.
    #[serde(default)]
    pub stream: Option<Which>,
    /// Only what was said from then on: `CLOCK_REALTIME`, in nanoseconds.
    #[serde(default)]
    pub since_ns: Option<i64>,
    /// Only the last so many of what is there; 10000 at most.
    #[serde(default)]
    #[schemars(range(max = 10_000))]
    pub lines: Option<usize>,
}

/// One of a unit's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Words of Hatchway's own.
    Remark,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// When its first byte was read: `CLOCK_REALTIME`, in nanoseconds.
    pub realtime_ns: i64,
    /// On which stream.
    pub stream: Which,
    /// Bytes of that stream before it that are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// What was said, without the line's end.
    pub text: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Line> for Said {
    fn from(line: Line) -> Self {
        let stream = match line.stream {
            Stream::Out => Which::Out,
            Stream::Err => Which::Err,
            Stream::Remark => Which::Remark,
        };
        Self { realtime_ns: line.realtime_ns, stream, missing: line.missing, text: line.text }
    }
}

impl From<Said> for Line {
    fn from(said: Said) -> Self {
        let stream = match said.stream {
            Which::Out => Stream::Out,
            Which::Err => Stream::Err,
            Which::Remark => Stream::Remark,
        };
        Self { realtime_ns: said.realtime_ns, stream, missing: said.missing, text: said.text }
    }
}

impl Wanted {
    fn takes(&self, said: &Said) -> bool {
        self.stream.is_none_or(|stream| stream == said.stream)
            && self.since_ns.is_none_or(|since| said.realtime_ns >= since)
    }
}

/// `GET /v1/units/{unit}/logs`
pub(super) async fn logs(
    State(core): State<Arc<Core>>,
    UrlPath(unit): UrlPath<String>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = query.map_err(|rejection| Problem::new(Code::BadRequest, &rejection.body_text()))?;
    if wanted.lines.is_some_and(|lines| lines > LINES_MAX) {
        return Err(Problem::new(Code::BadRequest, &format!("`lines` is {LINES_MAX} at most")));
    }
    super::api::one(&core, &unit)?;
    let folder = folder(&core, &unit, &wanted)?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/event-stream") {
        return Ok(followed(folder, wanted));
    }
    let _permit = READERS.acquire().await;
    let read = tokio::task::spawn_blocking(move || last(&folder, &wanted)).await;
    let lines = read.map_err(|_| Problem::new(Code::Failed, "the log cannot be read"))?;
    Ok(Json(lines.map_err(|error| Problem::from(&error))?).into_response())
}

fn folder(core: &Core, unit: &str, wanted: &Wanted) -> Result<PathBuf, Problem> {
    let mut runs = units::all(&core.dirs, Some(unit));
    runs.retain(|seen| seen.is_recorded() && wanted.run.as_ref().is_none_or(|run| *run == seen.run));
    let running = runs.iter().rposition(units::Seen::runs);
    let found = running.or(runs.len().checked_sub(1)).map(|index| runs.swap_remove(index).folder);
    found.ok_or_else(|| {
        Problem::new(
            Code::NoSuchRun,
            &format!("no run of `{unit}` that is meant has said anything that is kept"),
        )
        .hint("`hatchway history` shows the runs of a unit")
    })
}

/// The last lines of what is there now.
fn last(folder: &PathBuf, wanted: &Wanted) -> Result<Vec<Said>, Error> {
    let most = wanted.lines.unwrap_or(LINES_MAX).min(LINES_MAX);
    let mut reader = Reader::new(folder);
    let (mut kept, mut bytes): (VecDeque<Said>, usize) = Default::default();
    // A unit that never rests keeps nobody here.
    reader.hold().map_err(Error::io("read the log in", folder))?;
    loop {
        let lines = reader.lines(true).map_err(Error::io("read the log in", folder))?;
        let is_end = lines.is_empty();
        for said in lines.into_iter().map(Said::from).filter(|said| wanted.takes(said)) {
            bytes = bytes.saturating_add(said.text.len());
            kept.push_back(said);
            while (kept.len() > most || bytes > BYTES_MAX)
                && let Some(gone) = kept.pop_front()
            {
                bytes = bytes.saturating_sub(gone.text.len());
            }
        }
        if is_end {
            return Ok(kept.into());
        }
    }
}

/// What is there, and then what comes, until the run has ended or the reader has gone. Between two looks no thread waits.
fn followed(folder: PathBuf, wanted: Wanted) -> Response {
    let following =
        Following { reader: Reader::new(&folder), most: wanted.lines, folder, wanted, ended: false };
    let stream = stream::unfold((following, VecDeque::new()), |(mut following, mut waiting)| async move {
        loop {
            if let Some(said) = waiting.pop_front() {
                let text = serde_json::to_string::<Said>(&said).unwrap_or_default();
                let event = SseEvent::default().data(text);
                return Some((Ok::<_, Infallible>(event), (following, waiting)));
            }
            if following.ended {
                return None;
            }
            let permit = READERS.acquire().await;
            (following, waiting) = tokio::task::spawn_blocking(move || following.more()).await.ok()?;
            drop(permit);
            if waiting.is_empty() && !following.ended {
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

/// Somebody who follows a log.
struct Following {
    reader: Reader,
    folder: PathBuf,
    wanted: Wanted,
    /// Of what is there at first, only so many lines.
    most: Option<usize>,
    ended: bool,
}

impl Following {
    /// Some lines. A log that cannot be read any more ends it: whoever asks again is told why.
    fn more(mut self) -> (Self, VecDeque<Said>) {
        // Asked first: what is read after it has ended is all there is.
        let goes_on = units::is_kept(&self.folder);
        let most = self.most.take().map(|most| most.min(LINES_MAX));
        // What comes meanwhile is no part of what was there.
        let held = most.is_none() || self.reader.hold().is_ok();
        let mut lines = VecDeque::new();
        let is_end = loop {
            match self.reader.lines(!goes_on) {
                // What was there is read; the rest comes at the next look.
                Ok(some) if some.is_empty() => break !goes_on && most.is_none(),
                Ok(some) => {
                    lines.extend(some.into_iter().map(Said::from).filter(|said| self.wanted.takes(said)));
                }
                Err(_) => break true,
            }
            if !held {
                break true;
            }
            match most {
                Some(most) => drop(lines.drain(..lines.len().saturating_sub(most))),
                None if lines.len() >= BATCH => break false,
                None => {}
            }
        };
        self.reader.go_on();
        self.ended = is_end;
        (self, lines)
    }
}
