//! What can go wrong with a plugin of others.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use super::process::Outcome;
use crate::protocol::Verb;
use crate::protocol::brief::{bounded, brief, quoted};
use crate::protocol::json::{Json, Object, Section};

/// The plugin that is needed cannot be had, or does not speak the protocol.
const NO_PLUGIN: u32 = 105;

/// The library's number for everything that has none.
const OTHER: u32 = 999;

/// More of a message does not help anybody.
const LONGEST: usize = 2000;

/// A plugin of others that failed, or that is not there.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It did what no plugin may do.
    #[error("the plugin {name} did not answer {verb} by the CNI protocol: {what}")]
    Answer {
        /// The plugin.
        name: String,
        /// What it was asked.
        verb: Verb,
        /// What it did.
        what: String,
    },
    /// It took too long.
    #[error(
        "the plugin {name} did not finish {verb} within {} s and was killed: try again, and look what it waits for",
        limit.as_secs()
    )]
    Late {
        /// The plugin.
        name: String,
        /// What it was asked.
        verb: Verb,
        /// How long it had.
        limit: Duration,
    },
    /// Its config is too long to be recorded.
    #[error(
        "the config of the plugin {name} is longer than 256 KiB, which is more than is kept for its DEL: shorten `delegate`"
    )]
    LongConfig {
        /// The plugin.
        name: String,
    },
    /// It is not installed.
    #[error(
        "the plugin {} is in none of the directories of CNI_PATH ({}): install it there, or name another one (`type`)",
        brief(name),
        listed(searched)
    )]
    Missing {
        /// The plugin.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// What it is called cannot be the name of a plugin.
    #[error(
        "a plugin cannot be called {}: `type` must be the name of a file in a directory of CNI_PATH, without '/'",
        quoted(name)
    )]
    Name {
        /// What it is called.
        name: String,
    },
    /// What was recorded for it is no config.
    #[error(
        "what is recorded of the plugin {name} cannot be understood: detach the pod by that plugin, then remove the record below /run/loden/ipam"
    )]
    Record {
        /// The plugin.
        name: String,
    },
    /// It told an error.
    #[error("the plugin {name} refused {verb}: {message}")]
    Refused {
        /// The plugin.
        name: String,
        /// What it was asked.
        verb: Verb,
        /// Its error code.
        code: u32,
        /// Its message.
        message: String,
        /// Its details; may be empty.
        details: String,
    },
    /// It cannot be started.
    #[error("the plugin {name} cannot be started from {}: {source}; install a program for this machine there", path.display())]
    Start {
        /// The plugin.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ForeignError {
    /// The code of the error document: the plugin's own where it told one.
    pub fn code(&self) -> u32 {
        match self {
            Self::Answer { .. } | Self::Missing { .. } | Self::Start { .. } => NO_PLUGIN,
            Self::Late { .. } => 11,
            Self::LongConfig { .. } | Self::Name { .. } => 7,
            Self::Record { .. } => 5,
            Self::Refused { code, .. } => *code,
        }
    }

    /// What the plugin told beside its message; may be empty.
    pub fn details(&self) -> &str {
        match self {
            Self::Refused { details, .. } => details,
            _ => "",
        }
    }
}

/// What a plugin said that ended without success.
pub(super) fn refusal(name: String, verb: Verb, outcome: &Outcome) -> ForeignError {
    let told = match Json::parse(&outcome.stdout) {
        Ok(Json::Object(document)) => told(&document),
        _ => None,
    };
    let Some((code, message, details)) = told else {
        let what = match (outcome.status.signal(), outcome.status.code()) {
            (Some(signal), _) => format!("it was killed by signal {signal}"),
            (_, Some(status)) => format!(
                "it ended with exit status {status} and without an error document on stdout; what it wrote to stderr may tell more"
            ),
            _ => "it ended in an unknown way".to_owned(),
        };
        return ForeignError::Answer { name, verb, what };
    };
    ForeignError::Refused {
        name,
        verb,
        code,
        message,
        details,
    }
}

/// Code, message and details of an error document.
fn told(document: &Object) -> Option<(u32, String, String)> {
    let root = Section::root(document);
    let code = root.number("code").ok().flatten()?;
    let text = |key| bounded(root.string(key).ok().flatten().unwrap_or_default(), LONGEST);
    let mut message = text("msg");
    if message.is_empty() {
        message.push_str("it gives no reason");
    }
    Some((
        if code == 0 { OTHER } else { code },
        message,
        text("details"),
    ))
}

fn listed(searched: &[PathBuf]) -> String {
    let texts: Vec<_> = searched
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    bounded(&texts.join(", "), LONGEST)
}
