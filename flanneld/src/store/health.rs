//! How the store does, for whoever asks: noted at every answer and every failure, whoever's request it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::histogram::Histogram;

/// How a store does. Clones speak of the same store.
#[derive(Clone, Debug)]
pub struct Health {
    kind: &'static str,
    endpoints: Arc<Vec<String>>,
    subnets: Option<Arc<str>>,
    answers: Arc<Mutex<Answers>>,
}

/// What came of the requests to a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// When it last answered.
    pub answered: Option<SystemTime>,
    /// When a request last failed, and why.
    pub failed: Option<(SystemTime, String)>,
    /// Whether the last request failed.
    pub failing: bool,
    /// What is waited for before there is a lease, and what to do about it: a sentence.
    pub waits: Option<String>,
    /// The time that the store last said, and when it was heard.
    pub time: Option<(SystemTime, Instant)>,
    /// How long requests took, by what was asked for and whether it came to pass.
    pub requests: BTreeMap<(&'static str, bool), Histogram>,
}

impl Answers {
    /// How far the store's clock is ahead of this host's, in milliseconds; none if the store does not say the time. What this host's clock
    /// did since it was said is in it.
    pub fn clock_ahead(&self) -> Option<i64> {
        let (said, heard) = self.time?;
        let theirs = said + heard.elapsed();
        let ours = SystemTime::now();
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Some(match theirs.duration_since(ours) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        })
    }
}

impl Health {
    /// Of a store of which nothing is known yet: `kind` is its name in reports, and `endpoints` where it is asked.
    pub fn new(kind: &'static str, endpoints: Vec<String>) -> Self {
        Self {
            kind,
            endpoints: Arc::new(endpoints),
            subnets: None,
            answers: Arc::default(),
        }
    }

    /// With what every lease's key begins with, in a store that has keys.
    #[cfg(any(feature = "etcd", feature = "kube"))]
    pub(crate) fn below(mut self, subnets: &str) -> Self {
        self.subnets = Some(subnets.into());
        self
    }

    /// What every lease's key begins with, in a store that has keys.
    pub fn subnets(&self) -> Option<&str> {
        self.subnets.as_deref()
    }

    /// `etcd` or `kubernetes`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Where it is asked.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// What came of the requests so far.
    pub fn answers(&self) -> Answers {
        self.lock().clone()
    }

    /// Notes what is waited for, or that it is over.
    pub(crate) fn waits(&self, reason: Option<String>) {
        self.lock().waits = reason;
    }

    /// Notes an answer.
    #[cfg(any(feature = "etcd", feature = "kube"))]
    pub(crate) fn answered(&self) {
        let mut answers = self.lock();
        answers.answered = Some(SystemTime::now());
        answers.failing = false;
    }

    /// Notes the time that an answer said.
    #[cfg(feature = "kube")]
    pub(crate) fn said(&self, time: SystemTime) {
        self.lock().time = Some((time, Instant::now()));
    }

    /// Counts a request: what was asked for, in words that do not vary, whether it came to pass, and how long it took. Does not say how the
    /// store does.
    #[cfg(any(feature = "etcd", feature = "kube"))]
    pub(crate) fn observe(&self, operation: &'static str, well: bool, took: Duration) {
        let mut answers = self.lock();
        let requests = answers.requests.entry((operation, well)).or_default();
        requests.observe(took);
    }

    /// Notes a failure.
    #[cfg(any(feature = "etcd", feature = "kube"))]
    pub(crate) fn failed(&self, reason: &str) {
        let mut answers = self.lock();
        answers.failed = Some((SystemTime::now(), reason.to_owned()));
        answers.failing = true;
    }

    /// Notes what came of a request.
    #[cfg(feature = "kube")]
    pub(crate) fn note<T>(&self, outcome: &Result<T, super::StoreError>) {
        match outcome {
            Ok(_) => self.answered(),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
