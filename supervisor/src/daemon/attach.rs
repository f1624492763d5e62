//! A unit's terminal over the API, for who has no way to its folder: HTTP until the answer, and raw bytes both ways from then on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hatchway_wire::guest::Window;
use hatchway_wire::unit::{Attach, UnitOrder};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::api::{Answer, Caller, one, permitted};
use super::core::Core;
use super::journal::{Entry, Kind};
use super::problem::{Code, Problem};
use super::report::UnitStatus;
use crate::attach::{PROTOCOL, RUN_HEADER};
use crate::error::Error;
use crate::instrument::Role;
use crate::units::{self, Seat, Seen};

/// What is carried at a time.
const PIECE: usize = 16 << 10;
/// Who has said all, or is gone, is still told what is said for so long.
const REST: Duration = Duration::from_secs(10);

/// How one comes to a terminal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachQuery {
    /// What is sent is typed; this takes the role `service`.
    #[serde(default)]
    pub write: bool,
    /// Take it over from whoever writes there.
    #[serde(default)]
    pub take: bool,
    /// What was said last comes first.
    #[serde(default = "AttachQuery::recent")]
    pub recent: bool,
    /// Lines of who writes, which the terminal has from then on.
    #[serde(default)]
    pub rows: Option<u16>,
    /// Characters in a line.
    #[serde(default)]
    pub cols: Option<u16>,
}

impl AttachQuery {
    fn recent() -> bool {
        true
    }
}

/// A size.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SizeQuery {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// Parameters of an address.
type Asked<T> = Result<Query<T>, QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    let query = query.map_err(|rejection| Problem::new(Code::BadRequest, &rejection.body_text()));
    query.map(|Query(query)| query)
}

/// Comes to it.
pub(super) async fn attach(
    State(core): State<Arc<Core>>,
    UrlPath(unit): UrlPath<String>,
    Extension(by): Extension<Caller>,
    query: Asked<AttachQuery>,
    mut request: Request,
) -> Result<Response, Problem> {
    let AttachQuery { write, take, recent, rows, cols } = asked(query)?;
    if write {
        permitted(&by, Role::Service)?;
    }
    if take && !write {
        return Err(Problem::new(
            Code::BadRequest,
            "`take` goes with `write`: who only reads takes nothing over",
        ));
    }
    let running = running(&core, &unit)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| request.method() == Method::GET && wants(request.headers()));
    let upgrade = upgrade.ok_or_else(|| {
        let text = format!("this path takes `Connection: Upgrade` and `Upgrade: {PROTOCOL}`");
        Problem::new(Code::BadRequest, &text).hint(&format!("`hatchway attach {unit}` does it"))
    })?;
    let window = rows.zip(cols).map(|(rows, columns)| Window { rows, columns });
    let order = Attach { write, take, recent, who: by.0.clone(), window };
    let run = running.run.clone();
    let of_run = run.clone();
    let seat = blocking(move || running.attach(&order)).await?;
    if write {
        let text = if take { "attach, taking the terminal over" } else { "attach" };
        core.tell(Entry::of(Kind::Asked, &unit, text).run(&run).by(&by.0));
    }
    tokio::spawn(async move {
        // One who has gone meanwhile leaves with the seat.
        if let Ok(theirs) = upgrade.await {
            carry(theirs, &seat).await.ok();
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, [(RUN_HEADER, of_run)]).into_response())
}

/// Gives it another size.
pub(super) async fn resize(
    State(core): State<Arc<Core>>,
    UrlPath(unit): UrlPath<String>,
    query: Asked<SizeQuery>,
) -> Answer<UnitStatus> {
    let SizeQuery { rows, cols } = asked(query)?;
    let running = running(&core, &unit)?;
    if !running.has_terminal() {
        return Err(Problem::from(&Error::NoTerminal { unit: unit.clone() }));
    }
    blocking(move || running.order(&UnitOrder::Resize(Window { rows, columns: cols }))).await?;
    one(&core, &unit).map(Json)
}

fn wants(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

fn running(core: &Core, unit: &str) -> Result<Seen, Problem> {
    one(core, unit)?;
    let all = units::all(&core.dirs, Some(unit));
    let found = all.into_iter().rev().find(|seen| seen.is_recorded() && seen.runs());
    found.ok_or_else(|| Problem::from(&Error::NotRunning { unit: unit.to_owned() }))
}

/// A recorder may take its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Problem::new(Code::Failed, "the recorder cannot be asked"))?;
    done.map_err(|error| Problem::from(&error))
}

/// Until the unit or they have enough. Each direction waits only for itself, and one for whom the recorder has no room misses something.
async fn carry(theirs: Upgraded, seat: &Seat) -> std::io::Result<()> {
    let ours = std::os::unix::net::UnixStream::from(seat.stream().try_clone_to_owned()?);
    let (mut heard, mut typed) = UnixStream::from_std(ours)?.into_split();
    let (mut input, mut screen) = tokio::io::split(TokioIo::new(theirs));
    let type_all = async {
        let mut piece = vec![0; PIECE];
        let mut takes = true;
        while let Ok(count @ 1..) = input.read(&mut piece).await {
            // One whom another has taken the terminal from is read to hear when they go.
            takes = takes && typed.write_all(&piece[..count]).await.is_ok();
        }
        typed.shutdown().await.ok();
        tokio::time::sleep(REST).await;
    };
    let show_all = async {
        tokio::io::copy(&mut heard, &mut screen).await.ok();
        screen.shutdown().await.ok();
    };
    tokio::select! {
        () = type_all => {}
        () = show_all => {}
    }
    Ok(())
}
