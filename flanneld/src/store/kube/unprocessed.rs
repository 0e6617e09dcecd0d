//! Requests that the server did not look at are sent again at once.
//!
//! A server that ends a connection of HTTP/2 says which of its requests it saw (GOAWAY, RFC 9113 section 6.8); those after it may be sent again,
//! whatever they ask for (section 8.7). kube-apiserver does so when it stops, by chance to spread its clients
//! (`--goaway-chance`), and after each request that it knows nobody behind: one with an old token takes the others along.

use std::error::Error;
use std::future::{Ready, ready};

use h2::Reason;
use hyper::{Request, Response};
use kube::client::Body;
use tower::retry::Policy;

/// Sends what was not processed up to so many times more. A server that is stopping takes no new connection, which ends it sooner.
#[derive(Clone, Debug)]
pub(super) struct Unprocessed {
    left: u8,
}

impl Default for Unprocessed {
    fn default() -> Self {
        Self { left: 4 }
    }
}

impl<A, E: Error + 'static> Policy<Request<Body>, Response<A>, E> for Unprocessed {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        answer: &mut Result<Response<A>, E>,
    ) -> Option<Self::Future> {
        let error = answer.as_ref().err()?;
        if !is_unprocessed(error) {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut again = Request::new(request.body().try_clone()?);
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.version_mut() = request.version();
        *again.headers_mut() = request.headers().clone();
        *again.extensions_mut() = request.extensions().clone();
        Some(again)
    }
}

/// Whether the server said that it did not begin with the request.
fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote()
                && match error.reason() {
                    Some(Reason::NO_ERROR) => error.is_go_away(),
                    Some(Reason::REFUSED_STREAM) => error.is_reset(),
                    _ => false,
                };
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::{Arc, Mutex};

    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;

    /// What the server says to a request.
    #[derive(Clone, Copy)]
    enum Says {
        /// That it did not look at any request of the connection, which is over.
        GoAway,
        Reset(Reason),
        /// The status 200, and nothing else.
        Well,
    }

    impl Says {
        /// As frames (RFC 9113, section 6).
        fn frame(self, stream: [u8; 4]) -> Vec<u8> {
            let (kind, flags, stream, payload) = match self {
                Self::GoAway => (7, 0, [0; 4], vec![0; 8]),
                Self::Reset(reason) => (3, 0, stream, u32::from(reason).to_be_bytes().to_vec()),
                // The end of the headers and of the stream; the first entry of HPACK's table that is a status.
                Self::Well => (1, 0x5, stream, vec![0x88]),
            };
            let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
            frame.extend(stream);
            frame.extend(payload);
            frame
        }
    }

    type Script = Arc<Mutex<VecDeque<Says>>>;

    /// Says to each request of a connection what comes next.
    async fn serve(mut stream: TcpStream, script: Script) -> io::Result<()> {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        const HEADERS: u8 = 1;
        stream.write_all(&SETTINGS).await?;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        loop {
            let mut header = [0; 9];
            stream.read_exact(&mut header).await?;
            let [a, b, c, kind, _, id @ ..] = header;
            let length = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await?;
            if kind == HEADERS {
                let says = script.lock().unwrap().pop_front().unwrap();
                stream.write_all(&says.frame(id)).await?;
            }
        }
    }

    /// What a request brings when the server says this, and how much of it was not said.
    async fn ask(script: &[Says]) -> (Result<u16, String>, usize) {
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let served = script.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        let http = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http::<Body>();
        let service = ServiceBuilder::new()
            .retry(Unprocessed::default())
            .service(http);
        let request = Request::patch(uri).body(Body::from(b"what".to_vec()));
        let answer = service.oneshot(request.unwrap()).await;
        server.abort();
        let answer = answer.map(|answer| answer.status().as_u16());
        let left = script.lock().unwrap().len();
        (answer.map_err(|error| format!("{error:?}")), left)
    }

    #[tokio::test]
    async fn what_the_server_did_not_look_at_is_sent_again() {
        let refused = Says::Reset(Reason::REFUSED_STREAM);
        assert_eq!(
            ask(&[Says::GoAway, refused, Says::Well]).await,
            (Ok(200), 0)
        );
    }

    #[tokio::test]
    async fn what_it_may_have_looked_at_is_not() {
        let (answer, left) = ask(&[Says::Reset(Reason::CANCEL), Says::Well]).await;
        assert!(answer.unwrap_err().contains("CANCEL"));
        assert_eq!(left, 1, "asked again");
    }

    #[tokio::test]
    async fn it_is_not_sent_for_ever() {
        let (answer, left) = ask(&[Says::GoAway; 8]).await;
        assert!(answer.unwrap_err().contains("GoAway"));
        assert_eq!(left, 3);
    }
}
