//! The connection to the API server: HTTP/2, whose pings tell a dead one within half a minute, as Kubernetes' own clients have it; HTTP/1.1
//! where the server speaks nothing else, as `kubectl proxy` does.
//!
//! `kube`'s own client speaks HTTP/1.1, where only the end of a watch tells that its connection is dead; and it repeats requests that the
//! server turns away, silently for minutes, where [`Backoff`](crate::store::backoff) does so and says it. Only what the server did not look at is
//! repeated here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::header::DATE;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::layer::layer_fn;
use tower::util::MapRequestLayer;
use tower::{BoxError, Service, ServiceBuilder};

use super::token::TokenFile;
use super::unprocessed::Unprocessed;
use crate::http::date;
use crate::store::Health;

/// How long the server keeps a watch open, in seconds.
pub(super) const WATCH: u32 = 120;
/// Connecting may take this long.
const CONNECT: Duration = Duration::from_secs(5);
/// After this long without a byte the server is pinged, and for the answer it has [`PONG`].
const PING: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);
/// Sent bytes that the other side's kernel does not acknowledge for so long end the connection; without pings this is what finds a host that is
/// gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// The kernel's own pings of a silent connection: the first after [`PING`], the others after so long each.
const PROBE: Duration = Duration::from_secs(5);
/// How long a connection may be silent at all. With HTTP/1.1 a watch has nothing to say for its whole time.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 10);

/// A client, whose requests `health` counts, as it notes the time that answers say. Connects only when something is asked.
///
/// # Errors
/// When certificates, tokens or names in `config` cannot be used.
pub(super) fn client(config: &Config, health: &Health) -> Result<Client, BoxError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(PING));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name.clone().try_into()?));
    }
    let mut connector = TimeoutConnector::new(tls.enable_all_versions().wrap_connector(tcp));
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_read_timeout(Some(SILENCE));
    connector.set_reset_reader_on_write(true);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let mut config = config.clone();
    let token = TokenFile::take_over(&mut config)?;
    let token = token.map(|token| MapRequestLayer::new(move |request| token.authorize(request)));
    let service = ServiceBuilder::new()
        .layer(layer_fn(|inner| Timed {
            inner,
            health: health.clone(),
        }))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .option_layer(token)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .retry(Unprocessed::default())
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Counts requests by what they are for, each with the time until the answer began: a watch's answer goes on for minutes.
#[derive(Clone)]
struct Timed<S> {
    inner: S,
    health: Health,
}

impl<S, A> Service<Request<Body>> for Timed<S>
where
    S: Service<Request<Body>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let operation = operation(request.method(), request.uri());
        let health = self.health.clone();
        let begin = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().map(Response::status);
            // That something is not there is an answer like others.
            let well = status.is_ok_and(|is| is.is_success() || is == StatusCode::NOT_FOUND);
            health.observe(operation, well, begin.elapsed());
            let date = answer.as_ref().ok().and_then(|is| is.headers().get(DATE));
            if let Some(time) = date.and_then(|date| date::parse(date.to_str().ok()?)) {
                health.said(time);
            }
            answer
        })
    }
}

/// What a request is for, in the words of docs/metrics.md.
fn operation(method: &Method, uri: &Uri) -> &'static str {
    let asks_for = |wanted: &str| {
        let mut terms = uri.query().unwrap_or_default().split('&');
        terms.any(|term| term == wanted)
    };
    match *method {
        Method::PATCH => "annotate",
        _ if asks_for("watch=true") => "watch",
        _ if uri.path().ends_with("/nodes") => "list",
        _ => "read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_by_what_they_are_for() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/nodes/watch=true", "read"),
            (Method::GET, "/api/v1/nodes?&limit=100", "list"),
            (
                Method::GET,
                "/api/v1/nodes?&watch=true&timeoutSeconds=120",
                "watch",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/kube-flannel/pods/a",
                "read",
            ),
            (Method::PATCH, "/api/v1/nodes/a/status?", "annotate"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(operation(&method, &uri), expected, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_request_is_counted_with_what_came_of_it() {
        let health = Health::new("kubernetes", Vec::new());
        for status in [200, 404, 403] {
            let inner = tower::service_fn(move |_| async move {
                let date = "Sun, 06 Nov 1994 08:49:37 GMT";
                let answer = Response::builder().status(status).header(DATE, date);
                let answer = answer.body(());
                Ok::<_, BoxError>(answer.unwrap())
            });
            let mut timed = Timed {
                inner,
                health: health.clone(),
            };
            let request = Request::get("/api/v1/nodes/a").body(Body::empty()).unwrap();
            timed.call(request).await.unwrap();
        }
        let requests = health.answers().requests;
        let count = |well| {
            let histogram = requests.get(&("read", well)).unwrap();
            histogram.classes().iter().sum::<u64>()
        };
        assert_eq!((count(true), count(false)), (2, 1));
        assert_eq!(health.answers().answered, None, "that is told elsewhere");
        let ahead = health.answers().clock_ahead().unwrap();
        assert!(ahead < -900_000_000_000, "1994 was {ahead} ms away");
    }
}
