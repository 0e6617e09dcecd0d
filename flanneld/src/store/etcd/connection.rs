//! Requests to an etcd cluster: one endpoint after the other until one answers, each within its time, errors as sentences.
//!
//! The client library's own balancing is not used: it gives a dead endpoint half of the requests, and flannel's default
//! list has one (port 4001 of etcd 2).

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, Error, WatchOptions, WatchStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::config::EtcdConfig;
use super::keys::Keys;
use crate::store::{Health, StoreError};

// Status codes of gRPC (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const FAILED_PRECONDITION: i32 = 9;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

/// The largest answer taken: some hundred times a listing of 5,000 leases, and far above the library's 4 MiB, which a large
/// cluster's listing would exceed.
const LARGEST_ANSWER: usize = 256 << 20;

/// The endpoints of one cluster and the clients connected to them.
pub(super) struct Connection {
    config: EtcdConfig,
    servers: Vec<Server>,
    /// Index of the endpoint that answered last.
    preferred: AtomicUsize,
    health: Health,
}

struct Server {
    url: String,
    client: Mutex<Option<Client>>,
}

/// A request that failed at every endpoint, or that one endpoint refused.
#[derive(Debug)]
pub(super) struct CallError {
    code: Option<i32>,
    error: StoreError,
}

impl CallError {
    /// The object of the request, an etcd lease, does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == Some(NOT_FOUND)
    }
}

impl From<CallError> for StoreError {
    fn from(failed: CallError) -> Self {
        failed.error
    }
}

/// Why one endpoint did not do what was asked.
struct Failure {
    code: Option<i32>,
    reason: String,
    /// Another endpoint may do better.
    elsewhere: bool,
    /// The client must not be used again: broken connection, or a token that is no longer good.
    stale: bool,
}

impl Connection {
    /// Checks the settings; connects only when something is asked.
    pub(super) fn new(config: EtcdConfig) -> Result<Self, StoreError> {
        let urls = config.urls()?;
        for url in &urls {
            config.options(url)?;
        }
        if config.has_idle_tls_files(&urls) {
            warn!(
                "TLS files are given but every etcd endpoint is http://, so the connection is not encrypted; \
                 write https:// in --etcd-endpoints"
            );
        }
        let health = Health::new("etcd", urls.clone()).below(&Keys::new(&config.prefix).subnets());
        let start = usize::try_from(crate::store::backoff::random() % urls.len() as u64);
        let servers = urls
            .into_iter()
            .map(|url| Server {
                url,
                client: Mutex::new(None),
            })
            .collect();
        Ok(Self {
            config,
            servers,
            preferred: AtomicUsize::new(start.unwrap_or(0)),
            health,
        })
    }

    /// The settings of this connection.
    pub(super) fn config(&self) -> &EtcdConfig {
        &self.config
    }

    /// What came of the requests.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Sends a request: `op` runs against one endpoint after the other until one answers. `action` and `object` name it in
    /// errors, as in "cannot *list* */prefix/subnets/*". A request may reach etcd twice (its first answer lost).
    pub(super) async fn call<T, Op, Answer>(
        &self,
        action: &'static str,
        object: &str,
        op: Op,
    ) -> Result<T, CallError>
    where
        Op: Fn(Client) -> Answer,
        Answer: Future<Output = Result<T, Error>>,
    {
        let (answer, _) = self.call_at(action, object, op).await?;
        Ok(answer)
    }

    /// Opens a watch; also tells which endpoint serves it, for [`Connection::avoid`].
    pub(super) async fn watch(
        &self,
        key: &str,
        options: WatchOptions,
    ) -> Result<(WatchStream, usize), CallError> {
        self.call_at("watch", key, |client| {
            let (key, options) = (key.to_owned(), options.clone());
            async move {
                client
                    .watch_client()
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .watch(key, Some(options))
                    .await
            }
        })
        .await
    }

    /// The URL of an endpoint.
    pub(super) fn url(&self, at: usize) -> &str {
        &self.servers[at].url
    }

    /// Lets the next request go to another endpoint than `at`, whose stream broke.
    pub(super) async fn avoid(&self, at: usize) {
        let next = (at + 1) % self.servers.len();
        let _ = self
            .preferred
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        *self.servers[at].client.lock().await = None;
    }

    async fn call_at<T, Op, Answer>(
        &self,
        action: &'static str,
        object: &str,
        op: Op,
    ) -> Result<(T, usize), CallError>
    where
        Op: Fn(Client) -> Answer,
        Answer: Future<Output = Result<T, Error>>,
    {
        let begin = Instant::now();
        let outcome = self.call_any(action, object, op).await;
        let well = outcome.as_ref().err().is_none_or(CallError::is_not_found);
        self.health.observe(action, well, begin.elapsed());
        outcome
    }

    async fn call_any<T, Op, Answer>(
        &self,
        action: &'static str,
        object: &str,
        op: Op,
    ) -> Result<(T, usize), CallError>
    where
        Op: Fn(Client) -> Answer,
        Answer: Future<Output = Result<T, Error>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for step in 0..self.servers.len() {
            let at = (first + step) % self.servers.len();
            match self.call_one(at, &op).await {
                Ok(answer) => {
                    self.health.answered();
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok((answer, at));
                }
                Err(failure) if failure.elsewhere => failures.push((at, failure)),
                Err(failure) => return Err(self.noted(self.refused(action, object, at, failure))),
            }
        }
        Err(self.noted(self.unreachable(action, object, failures)))
    }

    fn noted(&self, error: CallError) -> CallError {
        // That something is not there is an answer like others.
        if error.is_not_found() {
            self.health.answered();
        } else {
            self.health.failed(&error.error.to_string());
        }
        error
    }

    async fn call_one<T, Op, Answer>(&self, at: usize, op: &Op) -> Result<T, Failure>
    where
        Op: Fn(Client) -> Answer,
        Answer: Future<Output = Result<T, Error>>,
    {
        let limit = self.config.timing.request;
        let answer = timeout(limit, async {
            let client = self.client(at).await?;
            op(client).await.map_err(|error| Failure::from(&error))
        });
        let failure = match answer.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(_) => Failure {
                code: None,
                reason: format!("no answer within {} s", limit.as_secs_f32()),
                elsewhere: true,
                stale: true,
            },
        };
        if failure.stale {
            *self.servers[at].client.lock().await = None;
        }
        Err(failure)
    }

    /// The client for an endpoint, made if there is none. With a user this authenticates and therefore may fail or wait.
    async fn client(&self, at: usize) -> Result<Client, Failure> {
        let server = &self.servers[at];
        let mut slot = server.client.lock().await;
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let options = self.config.options(&server.url).map_err(|error| Failure {
            code: None,
            reason: error.to_string(),
            elsewhere: true,
            stale: false,
        })?;
        let client = match Client::connect([&server.url], Some(options)).await {
            Ok(client) => client,
            Err(error) if is_without_users(&error) => self.client_without_user(at).await?,
            Err(error) => return Err(Failure::from(&error)),
        };
        *slot = Some(client.clone());
        Ok(client)
    }

    /// An etcd on which authentication is not enabled refuses to check a password; anybody may use it. When it is enabled
    /// later, requests without a token fail as stale and the next ones authenticate.
    async fn client_without_user(&self, at: usize) -> Result<Client, Failure> {
        let url = &self.servers[at].url;
        warn!("etcd at {url} has authentication switched off; the user given is not used");
        let anonymous = EtcdConfig {
            username: None,
            password: None,
            ..self.config.clone()
        };
        let options = anonymous.options(url).map_err(|error| Failure {
            code: None,
            reason: error.to_string(),
            elsewhere: true,
            stale: false,
        })?;
        Client::connect([url], Some(options))
            .await
            .map_err(|error| Failure::from(&error))
    }

    fn refused(
        &self,
        action: &'static str,
        object: &str,
        at: usize,
        failure: Failure,
    ) -> CallError {
        CallError {
            code: failure.code,
            error: StoreError::Refused {
                store: format!("etcd at {}", self.servers[at].url),
                action,
                object: object.to_owned(),
                reason: failure.reason,
            },
        }
    }

    fn unreachable(
        &self,
        action: &'static str,
        object: &str,
        mut failures: Vec<(usize, Failure)>,
    ) -> CallError {
        // In the order of the settings, so that the same trouble always reads the same.
        failures.sort_by_key(|(at, _)| *at);
        let reasons: Vec<String> = failures
            .iter()
            .map(|(at, failure)| format!("{}: {}", self.servers[*at].url, failure.reason))
            .collect();
        CallError {
            code: failures.last().and_then(|(_, failure)| failure.code),
            error: StoreError::Unreachable {
                store: "etcd",
                action,
                object: object.to_owned(),
                reasons: reasons.join("; "),
            },
        }
    }
}

/// The client to list with: the library's limit for answers is too low for large clusters.
pub(super) fn large(client: &Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(LARGEST_ANSWER)
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if let Error::LeaseKeepAliveError(_) = error {
            // The library's word for an answer with a time to live of zero.
            return Self {
                code: Some(NOT_FOUND),
                reason: reason_of(error),
                elsewhere: false,
                stale: false,
            };
        }
        let Error::GRpcStatus(status) = error else {
            let settings = matches!(error, Error::InvalidArgs(_) | Error::InvalidUri(_));
            return Self {
                code: None,
                reason: reason_of(error),
                elsewhere: true,
                stale: !settings,
            };
        };
        let code = status.code() as i32;
        let token = code == UNAUTHENTICATED
            || code == INVALID_ARGUMENT
                && (status.message().contains("auth store is old")
                    || status.message().contains("user name is empty"));
        let broken = matches!(
            code,
            CANCELLED | UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE
        );
        Self {
            code: Some(code),
            reason: reason_of(error),
            elsewhere: broken || token,
            stale: broken || token,
        }
    }
}

fn is_without_users(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() as i32 == FAILED_PRECONDITION && status.message().contains("not enabled"))
}

/// The innermost reason in words: the outer layers only say that a transport or a connection had an error.
pub(super) fn reason_of(error: &Error) -> String {
    let (text, mut source) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        Error::TransportError(error) => (error.to_string(), error.source()),
        Error::IoError(error) => (error.to_string(), error.source()),
        Error::LeaseKeepAliveError(text) | Error::WatchError(text) => (text.clone(), None),
        other => (other.to_string(), None),
    };
    let mut innermost = None;
    while let Some(error) = source {
        innermost = Some(error.to_string());
        source = error.source();
    }
    let text = match innermost {
        Some(inner) if text.contains(&inner) => text,
        Some(inner) if text == "transport error" || text.is_empty() => inner,
        Some(inner) => format!("{text}: {inner}"),
        None => text,
    };
    text.trim_start_matches("etcdserver: ").to_owned()
}
