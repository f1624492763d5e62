//! The API: HTTP and JSON over a Unix socket. Who is at the other end the kernel says; what they may do the instrument says.
//!
//! [`ROUTES`] is the one table of what there is: the guard takes the role from it, and the OpenAPI file is written from it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{MatchedPath, Path as UrlPath, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Extension, Json, Router};
use futures_util::stream;
use hatchway_wire::unit::UnitOrder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::net::unix::UCred;
use tokio::sync::oneshot;

use super::attach;
use super::doors::Doors;

use crate::clock::Now;
use crate::error::Error;
use crate::instrument::{self, Role};
use crate::units::{self, Memory};

use super::core::Core;
use super::decide::Want;
use super::files::Applied;
use super::problem::{Code, Problem};
use super::report::{Step, UnitStatus, plan, strays};
use super::view::{self, Machine};

/// Name of the socket in the runtime folder.
pub const SOCKET: &str = "api.sock";
/// Events in one answer.
const EVENTS_MAX: usize = 1000;
/// So often a stream of events that has nothing to say says so.
const ALIVE: Duration = Duration::from_secs(15);

/// What can be asked.
#[derive(Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As axum and OpenAPI write it.
    pub path: &'static str,
    /// Who may.
    pub role: Role,
    /// What it does.
    pub summary: &'static str,
}

/// All that can be asked.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/v1/units",
        role: Role::Viewer,
        summary: "All units, each after those that it waits for",
    },
    Route { method: "GET", path: "/v1/units/{unit}", role: Role::Viewer, summary: "One unit" },
    Route {
        method: "POST",
        path: "/v1/units/{unit}/start",
        role: Role::Operator,
        summary: "Wants a unit to run; one that has failed too often is tried again",
    },
    Route {
        method: "POST",
        path: "/v1/units/{unit}/stop",
        role: Role::Operator,
        summary: "Asks a unit to end, and wants it to stay so until the machine starts anew",
    },
    Route {
        method: "POST",
        path: "/v1/units/{unit}/restart",
        role: Role::Operator,
        summary: "Ends the run that there is, and begins another",
    },
    Route {
        method: "POST",
        path: "/v1/units/{unit}/kill",
        role: Role::Operator,
        summary: "Ends a unit at once, and wants it to stay so",
    },
    Route {
        method: "GET",
        path: "/v1/units/{unit}/logs",
        role: Role::Operator,
        summary: "What a unit has said; as a stream that follows it for who accepts `text/event-stream`",
    },
    Route {
        method: "GET",
        path: "/v1/units/{unit}/attach",
        role: Role::Operator,
        summary: "Comes to a unit's terminal, over a connection that is upgraded to `hatchway-attach`: raw bytes both ways",
    },
    Route {
        method: "POST",
        path: "/v1/units/{unit}/resize",
        role: Role::Service,
        summary: "Gives a unit's terminal another size",
    },
    Route { method: "POST", path: "/v1/plan", role: Role::Admin, summary: "What an instrument would change" },
    Route {
        method: "POST",
        path: "/v1/instrument",
        role: Role::Admin,
        summary: "Carries an instrument out from now on; the answer is what it changes",
    },
    Route {
        method: "GET",
        path: "/v1/events",
        role: Role::Viewer,
        summary: "What has happened since an event; as a stream for who accepts `text/event-stream`",
    },
    Route { method: "GET", path: "/v1/openapi.json", role: Role::Viewer, summary: "This description" },
    Route { method: "GET", path: "/metrics", role: Role::Viewer, summary: "Numbers for Prometheus" },
];

/// Who is at the other end.
#[derive(Debug, Clone)]
struct Peer(Option<UCred>, Arc<AtomicBool>);

impl Connected<IncomingStream<'_, Doors>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Self {
        Self(stream.io().peer(), stream.io().heard())
    }
}

/// Who asks, as the journal names them, and what they may.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) String, Role);

/// The file of an instrument, below a folder that none but root may change.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstrumentFile {
    /// Its path, an absolute one.
    #[schemars(with = "String", regex(pattern = "^/"))]
    pub file: PathBuf,
}

/// Since which event.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The number of the last event that was seen; 0 for all that are kept.
    #[serde(default)]
    pub since: u64,
}

/// Makes the socket in place of one that a daemon before has left. Whoever may connect is asked who they are.
pub(super) fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves until somebody says so; then nobody is taken any more, and who has asked is answered.
pub(super) async fn serve(
    core: Arc<Core>,
    listener: UnixListener,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let service = router(core).into_make_service_with_connect_info::<Peer>();
    axum::serve(Doors::new(listener), service).with_graceful_shutdown(async { drop(stopped.await) }).await
}

fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/units", get(units_all))
        .route("/v1/units/{unit}", get(unit_one))
        .route("/v1/units/{unit}/start", post(start))
        .route("/v1/units/{unit}/stop", post(stop))
        .route("/v1/units/{unit}/restart", post(restart))
        .route("/v1/units/{unit}/kill", post(kill))
        .route("/v1/units/{unit}/logs", get(super::said_by::logs))
        .route("/v1/units/{unit}/attach", get(attach::attach))
        .route("/v1/units/{unit}/resize", post(attach::resize))
        .route("/v1/plan", post(plan_of))
        .route("/v1/instrument", post(apply))
        .route("/v1/events", get(events))
        .route("/v1/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&core), guard))
        .fallback(|| async { Problem::new(Code::NoSuchPath, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::NoSuchMethod, "this path has another method")
        })
        .with_state(core)
}

/// Lets through who may.
async fn guard(
    State(core): State<Arc<Core>>,
    ConnectInfo(Peer(peer, heard)): ConnectInfo<Peer>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    heard.store(true, Ordering::Relaxed);
    // HEAD is GET without its body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let route = ROUTES.iter().find(|route| route.path == path.as_str() && method.as_str() == route.method);
    let wanted = route.map_or(Role::Admin, |route| route.role);
    let peer = peer.ok_or_else(|| Problem::new(Code::NotPermitted, "nobody knows who you are"))?;
    let (uid, gid) = (peer.uid(), peer.gid());
    let roles = core.lock().machine.as_ref().map(|machine| machine.instrument.roles.clone());
    // Accounts may be on another machine, which gives no answer.
    let asked = tokio::task::spawn_blocking(move || (roles.unwrap_or_default().of(uid, gid), account(uid)));
    let (has, name) = asked.await.map_err(|_| Problem::new(Code::Failed, "the accounts cannot be read"))?;
    let Some(has) = has.filter(|has| *has >= wanted) else { return Err(forbidden(wanted, &name)) };
    request.extensions_mut().insert(Caller(name, has));
    Ok(next.run(request).await)
}

fn forbidden(wanted: Role, who: &str) -> Problem {
    let text = format!("this takes the role `{wanted}`, which {who} has not");
    Problem::new(Code::NotPermitted, &text)
        .hint("`[roles]` of the instrument says who has which; `id` says who you are")
}

/// Where what is asked for decides on the role.
pub(super) fn permitted(by: &Caller, wanted: Role) -> Result<(), Problem> {
    if by.1 >= wanted { Ok(()) } else { Err(forbidden(wanted, &by.0)) }
}

/// Who this process is, for others.
pub(crate) fn own_name() -> String {
    format!("{}, process {}", account(nix::unistd::geteuid().as_raw()), std::process::id())
}

/// As the journal names somebody.
fn account(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| format!("uid {uid} ({})", user.name))
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;

async fn units_all(State(core): State<Arc<Core>>) -> Answer<Vec<UnitStatus>> {
    statuses(&core).map(Json)
}

fn statuses(core: &Core) -> Result<Vec<UnitStatus>, Problem> {
    let units = core.lock().units(&core.dirs, &Now::get()).map_err(|error| Problem::from(&error))?;
    Ok(units.iter().map(UnitStatus::from).collect())
}

async fn unit_one(State(core): State<Arc<Core>>, UrlPath(unit): UrlPath<String>) -> Answer<UnitStatus> {
    one(&core, &unit).map(Json)
}

/// One unit as it is.
pub(super) fn one(core: &Core, unit: &str) -> Result<UnitStatus, Problem> {
    let found = statuses(core)?.into_iter().find(|status| status.name == unit);
    found.ok_or_else(|| no_such_unit(unit))
}

async fn start(core: State<Arc<Core>>, unit: UrlPath<String>, by: Extension<Caller>) -> Answer<UnitStatus> {
    want(&core, &unit, (Want::Up, false), ("start", &by)).await
}

async fn stop(core: State<Arc<Core>>, unit: UrlPath<String>, by: Extension<Caller>) -> Answer<UnitStatus> {
    want(&core, &unit, (Want::Down, false), ("stop", &by)).await
}

async fn restart(core: State<Arc<Core>>, unit: UrlPath<String>, by: Extension<Caller>) -> Answer<UnitStatus> {
    want(&core, &unit, (Want::Up, true), ("restart", &by)).await
}

async fn kill(core: State<Arc<Core>>, unit: UrlPath<String>, by: Extension<Caller>) -> Answer<UnitStatus> {
    // Wanted so first, or it would be started again; killed also where that cannot be kept.
    let answer = want(&core, &unit, (Want::Down, false), ("kill", &by)).await;
    is_there(&core, &unit)?;
    let running =
        units::all(&core.dirs, Some(&unit.0)).into_iter().filter(|seen| seen.is_recorded() && seen.runs());
    for seen in running {
        seen.offer(&UnitOrder::Kill).map_err(|error| Problem::from(&error))?;
    }
    answer
}

/// It is carried out while the disk writes it down.
async fn want(
    core: &Arc<Core>,
    unit: &str,
    wish: (Want, bool),
    (verb, by): (&str, &Caller),
) -> Answer<UnitStatus> {
    is_there(core, unit)?;
    core.want(unit, wish, (verb, &by.0));
    let own = Arc::clone(core);
    let kept = tokio::task::spawn_blocking(move || own.keep_said()).await;
    let kept = kept.map_err(|_| Problem::new(Code::Failed, "it cannot be kept"))?;
    kept.map_err(|error| Problem::from(&error))?;
    one(core, unit).map(Json)
}

fn is_there(core: &Core, unit: &str) -> Result<(), Problem> {
    let has = core.lock().machine.as_ref().is_some_and(|machine| machine.instrument.unit(unit).is_some());
    if has { Ok(()) } else { Err(no_such_unit(unit)) }
}

fn no_such_unit(unit: &str) -> Problem {
    Problem::new(Code::NoSuchUnit, &format!("the instrument has no unit `{unit}`"))
        .hint("`hatchway status` shows what it has")
}

type FileBody = Result<Json<InstrumentFile>, JsonRejection>;

async fn plan_of(State(core): State<Arc<Core>>, body: FileBody) -> Answer<Vec<Step>> {
    let file = file_of(body)?;
    let applied = read(&core, &file)?;
    planned(&core, &applied).map(Json)
}

async fn apply(State(core): State<Arc<Core>>, by: Extension<Caller>, body: FileBody) -> Answer<Vec<Step>> {
    let file = file_of(body)?;
    let applied = read(&core, &file)?;
    let steps = planned(&core, &applied)?;
    core.apply(&applied, &by.0.0).map_err(|error| Problem::from(&error))?;
    Ok(Json(steps))
}

fn file_of(body: FileBody) -> Result<PathBuf, Problem> {
    let Json(InstrumentFile { file }) =
        body.map_err(|rejection| Problem::new(Code::BadRequest, &rejection.body_text()))?;
    match file.is_absolute() {
        true => Ok(file),
        false => Err(Problem::new(Code::BadRequest, "`file` is no absolute path")),
    }
}

/// Reads an instrument to apply it.
fn read(core: &Core, file: &Path) -> Result<Applied, Problem> {
    read_instrument(&core.dirs, file).map_err(|error| match error {
        // Whoever asks has named it: that it cannot be read is no failure of the machine's.
        Error::Io { .. } => Problem::new(Code::WrongFile, &error.whole()),
        other => Problem::from(&other),
    })
}

/// Reads an instrument, with what each of its units would be carried out with.
///
/// # Errors
/// It is not there, others may change it, or it is wrong.
pub fn read_instrument(dirs: &crate::dirs::Dirs, file: &Path) -> Result<Applied, Error> {
    let (instrument, text) = instrument::read(file)?;
    let mut applied = Applied::new(file.to_owned(), text, std::collections::BTreeMap::new());
    let recipes: Vec<PathBuf> = std::iter::once(applied.recipes()).chain(dirs.recipes()).collect();
    applied.digests = view::digests(&instrument, &recipes)?;
    Ok(applied)
}

fn planned(core: &Core, applied: &Applied) -> Result<Vec<Step>, Problem> {
    let machine = Machine::of(applied, &core.dirs).map_err(|error| Problem::from(&error))?;
    let said = core.lock().said().clone();
    let units = machine.units(&core.dirs, &said, &Now::get(), &mut Memory::default());
    let units = units.map_err(|error| Problem::from(&error))?;
    Ok(plan(&units, &strays(&core.dirs, &units)))
}

async fn events(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Since { since }) =
        query.map_err(|rejection| Problem::new(Code::BadRequest, &rejection.body_text()))?;
    // What a browser sends when it comes back.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let since = last.unwrap_or(since);
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/event-stream") {
        return Ok(Json(core.lock().events(since, EVENTS_MAX)).into_response());
    }
    let news = core.events.subscribe();
    let waiting: std::collections::VecDeque<super::journal::Event> = std::collections::VecDeque::new();
    let stream =
        stream::unfold((core, news, since, waiting), |(core, mut news, mut since, mut waiting)| async move {
            loop {
                if let Some(event) = waiting.pop_front() {
                    since = event.seq;
                    let text = serde_json::to_string(&event).unwrap_or_default();
                    let event = SseEvent::default().id(event.seq.to_string()).data(text);
                    return Some((Ok::<_, Infallible>(event), (core, news, since, waiting)));
                }
                news.mark_unchanged();
                waiting = core.lock().events(since, EVENTS_MAX).into();
                if waiting.is_empty() {
                    news.changed().await.ok()?;
                }
            }
        });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

async fn openapi() -> Json<serde_json::Value> {
    Json(super::openapi::document())
}

async fn metrics(State(core): State<Arc<Core>>) -> Response {
    let units = match statuses(&core) {
        Ok(units) => units,
        Err(problem) => return problem.into_response(),
    };
    let (lost, events) = (core.lock().lost(), *core.events.borrow());
    let text = super::metrics::text(&units, super::metrics::memory_bytes, lost, events);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self).into_response().into_body())
            .into_response()
    }
}
