//! What the daemon answers over HTTP: probes on `--healthz-port`, and the same with its report on the local socket.
//!
//! One table of pages for both ([`page`]); `serve` keeps connections within bounds; [`socket`] is the local one, [`client`] what asks
//! there.

pub mod client;
pub mod date;
mod serve;
pub mod socket;

use std::time::Instant;

use hyper::{Method, StatusCode};
use serde::Serialize;

pub use self::serve::serve;
use crate::metrics;
use crate::status::board::Board;
use crate::status::{self, verdict};

/// Where a request comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A TCP port, which others can reach: it tells only how well the daemon does.
    Port,
    /// The local socket, which root alone can open.
    Socket,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// What it is (`Content-Type`).
    pub kind: &'static str,
    /// The answer itself.
    pub body: Vec<u8>,
}

impl Page {
    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: text.into().into_bytes(),
        }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self {
                status: StatusCode::OK,
                kind: "application/json",
                body,
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn verdict(verdict: Result<(), String>, good: &str) -> Self {
        match verdict {
            Ok(()) => Self::text(StatusCode::OK, good),
            Err(reason) => Self::text(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }
}

/// The answer to a request.
pub async fn page(board: &Board, door: Door, method: &Method, path: &str) -> Page {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood");
    }
    match (path, door) {
        ("/healthz", _) => Page::verdict(verdict::alive(&board.facts()), "flanneld is running"),
        ("/readyz", _) => Page::verdict(
            verdict::ready(&board.facts(), Instant::now()),
            "flanneld is ready",
        ),
        ("/metrics", _) => Page {
            status: StatusCode::OK,
            kind: metrics::exposition::CONTENT_TYPE,
            body: metrics::page(board).await.into_bytes(),
        },
        ("/status", Door::Socket) => Page::json(&status::report_of(board).await),
        ("/plan", Door::Socket) => Page::json(&status::plan_of(board).await),
        (_, Door::Socket) => Page::text(
            StatusCode::NOT_FOUND,
            "only /healthz, /readyz, /metrics, /status and /plan are here",
        ),
        (_, Door::Port) => Page::text(
            StatusCode::NOT_FOUND,
            "only /healthz, /readyz and /metrics are here",
        ),
    }
}

#[cfg(test)]
mod tests;
