//! For whoever runs the registry: is it alive, is it ready, what does it do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::metrics::Now;
use crate::problem::Problem;

/// `GET /health`: the process answers.
pub(crate) async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// `GET /ready`: it can do its work, and is not about to stop.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    if app.closing.load(Ordering::Relaxed) {
        let message = "the registry is stopping; use another one";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message));
    }
    app.backend.health().await?;
    Ok(axum::Json(json!({ "status": "ready" })).into_response())
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let networks = app.backend.networks().await?;
    let page = app.metrics.page(&Now {
        sockets: app.hub.sockets(),
        attached: app.hub.devices().len(),
        signals: app.hub.counts(),
        networks: networks.len(),
        active_peers: networks.iter().map(|(_, peers)| peers).sum(),
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response())
}
