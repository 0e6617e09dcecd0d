//! Where log lines go: standard error, in the form for people or for programs, as much as `-v` asks for.

mod repetition;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, error, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use self::repetition::{Repetition, Saying};

/// How often is looked whether something is to be summed up.
const LOOK: Duration = Duration::from_secs(5);

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with the fields that docs/logs.md names.
    Json,
}

/// What is being said again and again.
#[derive(Clone, Default)]
pub struct Repeated(Arc<Inner>);

#[derive(Default)]
struct Inner {
    repetition: Mutex<Repetition>,
    keys: RandomState,
}

/// Which lines are written, repetition apart. `verbosity` is flannel's `-v`: 0 tells of changes and of what is wrong, 1 also of what is being
/// done, 2 and more of everything, the libraries' lines too from 3 on.
pub fn filter(verbosity: u32) -> Targets {
    let ours = match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = Targets::new()
        .with_target("flanneld", ours)
        .with_target("hostnet", ours);
    if verbosity >= 3 {
        return targets.with_default(LevelFilter::DEBUG);
    }
    // These warn of what they also report, at every try; the stores say it once.
    targets
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("kube_runtime", LevelFilter::ERROR)
        .with_default(LevelFilter::WARN)
}

/// Starts logging as much as [`filter`] lets through. Only at verbosity 0 repetition is held back.
pub fn start(verbosity: u32, format: Format) -> Repeated {
    let repeated = Repeated::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    let novel = (verbosity == 0).then(|| repeated.clone());
    // Only a second start in the same process can fail, and then the first one goes on.
    let _ = tracing_subscriber::registry()
        .with(filter(verbosity))
        .with(lines.with_filter(Novel(novel)))
        .try_init();
    repeated
}

impl Repeated {
    /// Says for ever, once a minute each, how often something was said again.
    pub async fn sum_up(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            // What is told comes by here again, so the lock is given back before.
            let summaries = self.lock().due(Instant::now());
            summaries.iter().for_each(tell);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Repetition> {
        // Whatever a panic left there, the worst that comes of it is a line too many.
        self.0
            .repetition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(Saying { level, text, times }: &Saying) {
    let times = match times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    // A macro wants to know the level beforehand.
    match *level {
        Level::ERROR => error!("{text} (said {times} more in the last minute)"),
        Level::WARN => warn!("{text} (said {times} more in the last minute)"),
        _ => info!("{text} (said {times} more in the last minute)"),
    }
}

/// Lets through what was not said a moment ago; everything, without a memory of what was said.
struct Novel(Option<Repeated>);

impl<S: Subscriber> Filter<S> for Novel {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let Some(repeated) = &self.0 else {
            return true;
        };
        // A summary is news also where it reads like the one before.
        if event.metadata().target() == module_path!() {
            return true;
        }
        let mut rendered = Rendered::default();
        event.record(&mut rendered);
        let metadata = event.metadata();
        let place = metadata.callsite();
        let key = repeated
            .0
            .keys
            .hash_one((&place, &rendered.message, &rendered.others));
        repeated
            .lock()
            .admits(key, *metadata.level(), &rendered.message, Instant::now())
    }
}

/// What an event says.
#[derive(Default)]
struct Rendered {
    message: String,
    others: Vec<String>,
}

impl Visit for Rendered {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.others.push(format!("{}={value:?}", field.name()));
        }
    }
}

/// Keys that are numbers drawn by a hash already.
type ByKey<V> = HashMap<u64, V>;
