//! The connection to the API server: HTTP/2, whose pings tell a dead one within half a minute, as Kubernetes' own clients have it; HTTP/1.1
//! where the server speaks nothing else, as `kubectl proxy` does.
//!
//! `kube`'s own client speaks HTTP/1.1, where only the end of a watch tells that its connection is dead; and it repeats requests that the
//! server turns away, silently for minutes, where [`Backoff`](crate::store::backoff) does so and says it.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::util::MapRequestLayer;
use tower::{BoxError, ServiceBuilder};

use super::token::TokenFile;

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

/// A client. Connects only when something is asked.
///
/// # Errors
/// When certificates, tokens or names in `config` cannot be used.
pub(super) fn client(config: &Config) -> Result<Client, BoxError> {
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
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .option_layer(token)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
