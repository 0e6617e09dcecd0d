//! Connections: so many at a time, each with so much patience, one request each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use super::socket::Socket;
use super::{Door, page};
use crate::status::board::Board;

/// How long a client may take for its request, and how long for everything.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// How many clients are served at a time; whoever comes then waits.
const CLIENTS: usize = 32;
/// A head that is longer is refused. No less is allowed by the library.
const LONGEST: usize = 8192;
/// After an error of accept: out of file descriptors, most likely, and some time may help.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that takes connections.
pub trait Listener {
    /// A connection.
    type Client: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Through which door it comes.
    const DOOR: Door;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Client>> + Send;
}

impl Listener for TcpListener {
    type Client = tokio::net::TcpStream;
    const DOOR: Door = Door::Port;

    async fn next(&self) -> io::Result<Self::Client> {
        self.accept().await.map(|(client, _)| client)
    }
}

impl Listener for Socket {
    type Client = tokio::net::UnixStream;
    const DOOR: Door = Door::Socket;

    async fn next(&self) -> io::Result<Self::Client> {
        self.accept().await
    }
}

/// Answers for ever.
pub async fn serve<L: Listener>(listener: L, board: Board) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&clients).acquire_owned().await else {
            return;
        };
        match listener.next().await {
            Ok(client) => {
                let board = board.clone();
                tokio::spawn(async move {
                    let answered =
                        tokio::time::timeout(PATIENCE.1, answer(client, L::DOOR, &board));
                    match answered.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!("a client was not answered: {error}"),
                        Err(_) => debug!("a client was too slow to be answered"),
                    }
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn answer<C>(client: C, door: Door, board: &Board) -> hyper::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let page = page(board, door, request.method(), request.uri().path()).await;
        let mut response = Response::new(Full::new(Bytes::from(page.body)));
        *response.status_mut() = page.status;
        let kind = HeaderValue::from_static(page.kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok::<_, Infallible>(response)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE.0)
        .max_buf_size(LONGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), service)
        .await
}
