//! The routes; `docs/openapi.json` describes them, and a test holds the two against each other.

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::injections::{Happening, Injections};
use super::peer::{Access, Peer};
use super::problem::Problem;
use super::request::Create;
use murphy_state::Live;

/// The largest body: 64 faults of the longest expressions, and some air.
const BODY: usize = 512 * 1024;

/// The description of all this, for clients and their generators.
const OPENAPI: &str = include_str!("openapi.json");

type Daemon = Arc<Injections>;

/// Everything that the daemon answers.
pub(super) fn router(daemon: Daemon, access: Arc<Access>) -> Router {
    Router::new()
        .route("/v1/faults", get(list).post(create))
        .route("/v1/faults/{id}", get(one).delete(stop))
        .route("/v1/faults/{id}/renew", post(renew))
        .route("/v1/events", get(events))
        .route("/v1/doctor", get(doctor))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/openapi.json", get(openapi))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(access, permitted))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::map_response(as_problem))
        .with_state(daemon)
}

async fn permitted(
    State(access): State<Arc<Access>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let said = request
        .headers()
        .get(AUTHORIZATION)
        .map(axum::http::HeaderValue::as_bytes);
    match access.check(&peer, said) {
        Ok(()) => {
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(why) => {
            let status = match peer {
                Peer::Remote(_) => StatusCode::UNAUTHORIZED,
                _ => StatusCode::FORBIDDEN,
            };
            Problem::new(status, why).into_response()
        }
    }
}

/// Makes problem details of refusals that are plain text: axum's own, of a path, a query or a body that it cannot read.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_json = |value: &axum::http::HeaderValue| value.as_bytes().ends_with(b"json");
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(is_json);
    if !(status.is_client_error() || status.is_server_error()) || is_problem {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), BODY).await;
    let text = text.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&text) {
        text if text.is_empty() => status.canonical_reason().unwrap_or("refused").to_owned(),
        text => text.into_owned(),
    };
    Problem::new(status, detail).into_response()
}

async fn nowhere(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "{} is no place here; GET /openapi.json lists them",
            uri.path()
        ),
    )
}

async fn not_so(method: axum::http::Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} makes no sense at {}", uri.path()),
    )
}

/// Bodies are read as bytes, so that what is wrong with the JSON is told with its place.
async fn create(
    State(daemon): State<Daemon>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let by = format!("asked by {}", peer.who());
    let started = async {
        let create: Create = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        daemon.start(create.understand(&by)?).await
    };
    match started.await {
        Ok(armed) => (
            StatusCode::CREATED,
            [(LOCATION, format!("/v1/faults/{}", armed.id))],
            Json(json!({ "id": armed.id, "pid": armed.pid, "processes": armed.processes })),
        )
            .into_response(),
        Err(problem) => {
            let response = problem.into_response();
            daemon.metrics.refused(response.status().as_u16());
            response
        }
    }
}

async fn list(State(daemon): State<Daemon>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "faults": daemon.all().await? })))
}

async fn one(State(daemon): State<Daemon>, Path(id): Path<String>) -> Result<Json<Live>, Problem> {
    Ok(Json(daemon.one(id).await?))
}

async fn renew(
    State(daemon): State<Daemon>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "renewed": daemon.renew(id).await? })))
}

/// The words of `DELETE`.
#[derive(Debug, Deserialize)]
struct Why {
    reason: Option<String>,
}

async fn stop(
    State(daemon): State<Daemon>,
    Path(id): Path<String>,
    Query(why): Query<Why>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<murphy_state::Stopped>, Problem> {
    Ok(Json(daemon.stop(id, why.reason, Some(peer.who())).await?))
}

async fn metrics(State(daemon): State<Daemon>) -> Result<Response, Problem> {
    let page = daemon.page().await?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response())
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// What `murphy doctor --json` finds, in a process of its own: it loads programs to try them.
async fn doctor() -> Result<Response, Problem> {
    let found = tokio::task::spawn_blocking(|| {
        std::process::Command::new(std::env::current_exe()?)
            .args(["doctor", "--json"])
            .stdin(Stdio::null())
            .output()
    });
    let found = found.await.map_err(Problem::internal)?;
    let found = found.map_err(Problem::internal)?;
    Ok(([(CONTENT_TYPE, "application/json")], found.stdout).into_response())
}

/// Happenings as they come, one JSON object a line, until the daemon ends.
async fn events(State(daemon): State<Daemon>) -> Response {
    let Some(receiver) = daemon.happenings() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon ends").into_response();
    };
    let lines = futures_util::stream::unfold(receiver, next_line);
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(lines)).into_response()
}

async fn next_line(
    mut receiver: Receiver<Happening>,
) -> Option<(Result<String, Infallible>, Receiver<Happening>)> {
    let said = match receiver.recv().await {
        Ok(happening) => serde_json::to_value(happening).unwrap_or_default(),
        Err(RecvError::Lagged(lost)) => json!({ "event": "lost", "events": lost }),
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(format!("{said}\n")), receiver))
}
