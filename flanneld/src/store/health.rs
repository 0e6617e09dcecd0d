//! How the store does, for whoever asks: noted at every answer and every failure, whoever's request it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How a store does. Clones speak of the same store.
#[derive(Clone, Debug)]
pub struct Health {
    kind: &'static str,
    endpoints: Arc<Vec<String>>,
    answers: Arc<Mutex<Answers>>,
}

/// What came of the requests to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// When it last answered.
    pub answered: Option<SystemTime>,
    /// When a request last failed, and why.
    pub failed: Option<(SystemTime, String)>,
    /// Whether the last request failed.
    pub failing: bool,
}

impl Health {
    /// Of a store of which nothing is known yet: `kind` is its name in reports, and `endpoints` where it is asked.
    pub fn new(kind: &'static str, endpoints: Vec<String>) -> Self {
        Self {
            kind,
            endpoints: Arc::new(endpoints),
            answers: Arc::default(),
        }
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

    /// Notes an answer.
    pub(crate) fn answered(&self) {
        let mut answers = self.lock();
        answers.answered = Some(SystemTime::now());
        answers.failing = false;
    }

    /// Notes a failure.
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
