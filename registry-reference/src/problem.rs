//! What went wrong, for people and programs.

use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::backend::BackendError;

/// An answer that is an error: `{"error": {"code", "message", ...}}`. The message says what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    more: Map<String, Value>,
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), more: Map::new(), retry_after: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// Adds a field besides code and message.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn too_many(message: impl Into<String>, retry_after: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        problem.retry_after = Some(retry_after);
        problem
    }

    fn later(code: &'static str, message: String) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        problem.retry_after = Some(5);
        problem
    }

    pub(crate) fn timeout() -> Self {
        Self::later("timeout", "the request took too long; try again later".to_owned())
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the registry failed; its log tells why")
    }
}

impl From<BackendError> for Problem {
    fn from(e: BackendError) -> Self {
        tracing::warn!(target: "byway::registry", error = %e, "backend");
        Self::later("backend_unavailable", "the registry's database does not answer; try again later".to_owned())
    }
}

impl From<PathRejection> for Problem {
    fn from(e: PathRejection) -> Self {
        Self::bad_request("invalid_path", format!("{e}; a path is percent-encoded UTF-8"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = self.more;
        error.insert("code".to_owned(), self.code.into());
        error.insert("message".to_owned(), self.message.into());
        let mut response = (self.status, axum::Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED
            && let Ok(challenge) = HeaderValue::from_str(&format!("DPoP error=\"{}\", algs=\"EdDSA\"", self.code))
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
