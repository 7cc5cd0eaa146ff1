//! Refusals as clients see them: problem details (RFC 9457), with the place and the remedy.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use murphy_engine::injector::OrderError;
use murphy_engine::policy;
use murphy_state::StateError;

/// Why a request was refused.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// What kind of refusal it is, in few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong.
    detail: String,
    /// Which field is wrong, as a path such as `faults[1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl Problem {
    /// What is wrong, in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether it says that an injection is not active.
    pub(super) fn is_absence(&self) -> bool {
        self.status == StatusCode::NOT_FOUND.as_u16()
    }

    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("refused"),
            status: status.as_u16(),
            detail: detail.into(),
            at: None,
        }
    }

    /// A field of the body is wrong.
    pub(super) fn field(at: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            at: Some(at.into()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    pub(super) fn no_such(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{id} is not active"))
    }

    /// The daemon itself is at a loss.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "so that `map_err` takes it as it is"
    )]
    pub(super) fn internal(error: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// Whether an injector's last words begin with these.
fn is_policy(said: &str, words: &str) -> bool {
    let mut lines = said.lines().map(|line| line.trim_start_matches("murphy: "));
    lines.any(|line| line.starts_with(words))
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let status = match &error {
            OrderError::Refused { said, .. } if is_policy(said, policy::NOT_ALLOWED) => {
                StatusCode::FORBIDDEN
            }
            // The machine's policy is wrong, and no request can be right.
            OrderError::Refused { said, .. } if is_policy(said, policy::NO_POLICY) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            // murphy's exit statuses (cli::status).
            OrderError::Refused {
                status: Some(2), ..
            } => StatusCode::UNPROCESSABLE_ENTITY,
            OrderError::Refused {
                status: Some(75), ..
            } => StatusCode::CONFLICT,
            OrderError::Refused {
                status: Some(77), ..
            } => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        match &error {
            StateError::NotActive(id) => Self::no_such(id),
            _ => Self::new(StatusCode::BAD_GATEWAY, error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(
            CONTENT_TYPE,
            axum::http::HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}
