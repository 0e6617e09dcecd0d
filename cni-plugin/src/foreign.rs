//! Plugins of others, found in `CNI_PATH` and run by the protocol: delegates and IPAM plugins whose work is not done in
//! this process.
//!
//! They are started as a runtime would start them: the environment is ours but for what the call is about, stderr is
//! ours, the config is on stdin. What they answer is foreign: bounded in length and in time, read as strictly as any
//! input, and an error of theirs is passed on with its code. Nothing is decided here about when to call whom.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::json::{Json, Object, Section};
use crate::protocol::result::AddResult;
use crate::protocol::{Error, SpecVersion, Target, Verb};

mod error;
mod process;
#[cfg(test)]
mod tests;

pub use error::ForeignError;

/// A plugin of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    name: String,
    path: PathBuf,
}

/// What a plugin is to do, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The verb.
    pub verb: Verb,
    /// Which attachment it is about; none for GC and STATUS.
    pub target: Option<&'a Target>,
    /// What it gets on stdin.
    pub config: &'a Object,
    /// After this it is killed, with all that it has started.
    pub limit: Duration,
}

impl Plugin {
    /// Looks for a plugin as libcni does: the first file of this name in the directories of `CNI_PATH`.
    ///
    /// # Errors
    ///
    /// [`ForeignError::Name`] for what is not the name of a file, [`ForeignError::Missing`].
    pub fn find(name: &str, search: &[PathBuf]) -> Result<Self, ForeignError> {
        let name = name.to_owned();
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(ForeignError::Name { name });
        }
        let paths = search.iter().map(|directory| directory.join(&name));
        let is_file = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.is_file());
        match { paths }.find(is_file) {
            Some(path) => Ok(Self { name, path }),
            None => Err(ForeignError::Missing {
                name,
                searched: search.to_owned(),
            }),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has it attach the target (or, of an IPAM plugin, give it addresses) and tells its result, of whatever version.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`]. What it has begun may be there then: it is up to the caller to have it carry out a DEL.
    pub fn add(
        &self,
        target: &Target,
        config: &Object,
        limit: Duration,
    ) -> Result<AddResult, Error> {
        let order = Order {
            verb: Verb::Add,
            target: Some(target),
            config,
            limit,
        };
        let said = self.run(&order)?;
        let unclear = |what: String| ForeignError::Answer {
            name: self.name.clone(),
            verb: Verb::Add,
            what,
        };
        let document = match Json::parse(&said) {
            Ok(Json::Object(document)) => document,
            Ok(_) => return Err(unclear("its result is not a JSON object".to_owned()).into()),
            Err(error) => return Err(unclear(format!("its result is not JSON: {error}")).into()),
        };
        // As libcni does it: a result that does not tell its version has that of the config.
        let version = Section::root(config).string("cniVersion")?;
        let version = version.and_then(|text| text.parse().ok());
        let fallback = version.unwrap_or(SpecVersion::V0_1_0);
        AddResult::parse(&Section::root(&document), fallback)
            .map_err(|error| unclear(format!("its result makes no sense: {error}")).into())
    }

    /// Has it carry out a verb that has no result.
    ///
    /// # Errors
    ///
    /// [`ForeignError`].
    pub fn call(&self, order: &Order<'_>) -> Result<(), ForeignError> {
        self.run(order).map(drop)
    }

    /// What it wrote to stdout, if it succeeded.
    fn run(&self, order: &Order<'_>) -> Result<Vec<u8>, ForeignError> {
        let verb = order.verb;
        let name = || self.name.clone();
        let outcome = process::run(&self.path, order).map_err(|fault| match fault {
            process::Fault::Late => ForeignError::Late {
                name: name(),
                verb,
                limit: order.limit,
            },
            process::Fault::Start(source) => ForeignError::Start {
                name: name(),
                path: self.path.clone(),
                source,
            },
            process::Fault::TooLong => ForeignError::Answer {
                name: name(),
                verb,
                what: "it wrote more than 4 MiB to stdout".to_owned(),
            },
        })?;
        if outcome.status.success() {
            return Ok(outcome.stdout);
        }
        Err(error::refusal(name(), verb, &outcome))
    }
}
