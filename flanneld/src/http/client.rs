//! Asking the daemon on its local socket: one request, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

/// Longer than the daemon waits for its own parts.
const PATIENCE: Duration = Duration::from_secs(10);
/// A report of 5,000 peers has less than two megabytes.
const LARGEST: usize = 256 << 20;

/// Why the daemon did not answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("flanneld is not running: nobody answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket is not ours to open.
    #[error("flanneld cannot be asked, {} is root's: try with sudo", .0.display())]
    NotAllowed(PathBuf),
    /// It takes the request and says nothing.
    #[error("flanneld does not answer on {} within {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    /// The answer is a refusal.
    #[error("flanneld refuses: {0}")]
    Refused(String),
    /// The answer is none, or none that this version understands.
    #[error("flanneld's answer cannot be understood: {0}; is it of another version?")]
    Nonsense(String),
}

/// Fetches a page and reads it as JSON.
///
/// # Errors
/// [`AskError`]
pub async fn ask<T: DeserializeOwned>(socket: &Path, page: &str) -> Result<T, AskError> {
    let (status, body) = fetch(socket, page).await?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body);
        return Err(AskError::Refused(text.trim().to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| AskError::Nonsense(error.to_string()))
}

/// Fetches a page as it is.
///
/// # Errors
/// [`AskError`] if there is no answer; a refusal is one.
pub async fn fetch(socket: &Path, page: &str) -> Result<(StatusCode, Bytes), AskError> {
    let answer = tokio::time::timeout(PATIENCE, exchange(socket, page));
    match answer.await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::Silent(socket.to_owned())),
    }
}

/// [`ask`] for a program that does nothing else.
///
/// # Errors
/// [`AskError`]
pub fn ask_and_wait<T: DeserializeOwned>(socket: &Path, page: &str) -> Result<T, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AskError::Nonsense(error.to_string()))?;
    runtime.block_on(ask(socket, page))
}

async fn exchange(socket: &Path, page: &str) -> Result<(StatusCode, Bytes), AskError> {
    let broken = |error: hyper::Error| AskError::Nonsense(error.to_string());
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| not_connected(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::get(page)
        .header(HOST, "flanneld")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Nonsense(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| AskError::Nonsense(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // Its end comes before or with the answer's last byte.
        _ = &mut connection => answer.await,
    }
}

fn not_connected(socket: &Path, error: &io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::NotAllowed(socket.to_owned()),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning(socket.to_owned())
        }
        _ => AskError::Nonsense(format!("{}: {error}", socket.display())),
    }
}
