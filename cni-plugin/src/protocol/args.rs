//! The environment a runtime starts us with: `CNI_COMMAND` and its companions.
//!
//! The order of the checks is that of the reference skeleton (containernetworking/cni `pkg/skel`): runtimes and test
//! suites rely on every missing variable being named in one message.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::Error;

/// Interface names have at most this many bytes: `IFNAMSIZ` (linux/if.h) without the final NUL.
const INTERFACE_NAME_MAX: usize = 15;

/// What the runtime wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Verify an attachment.
    Check,
    /// Remove what is attached to nothing any more.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// Tell the supported versions.
    Version,
}

impl Verb {
    const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Version,
    ];

    /// The spelling in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which interface of which container a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID`, of legal form.
    pub container_id: String,
    /// `CNI_IFNAME`, of legal form.
    pub ifname: String,
    /// `CNI_NETNS`; a DEL may lack it, and it may point to what is gone.
    pub netns: Option<PathBuf>,
}

/// A verb with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Attach this one.
    Add(Target),
    /// Detach this one.
    Del(Target),
    /// Verify this one.
    Check(Target),
    /// Remove what is attached to nothing any more.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// Tell the supported versions.
    Version,
}

impl Request {
    /// The verb alone.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Add(_) => Verb::Add,
            Self::Del(_) => Verb::Del,
            Self::Check(_) => Verb::Check,
            Self::Gc => Verb::Gc,
            Self::Status => Verb::Status,
            Self::Version => Verb::Version,
        }
    }
}

/// One call of the program, environment only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub request: Request,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`: where plugins are.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the target may be the namespace we run in.
    pub netns_override: bool,
}

impl Invocation {
    /// Reads the environment through `variable`. `Ok(None)` when there is no `CNI_COMMAND`: somebody only asks who
    /// we are.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, Error> {
        // An empty variable is an absent one, as for the reference skeleton.
        let raw = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| raw(name).map(|value| value.to_string_lossy().into_owned());

        let Some(command) = text("CNI_COMMAND") else {
            return Ok(None);
        };
        let verb = Verb::ALL
            .into_iter()
            .find(|verb| verb.as_str() == command)
            .ok_or(Error::UnknownCommand { command })?;

        let missing: Vec<_> = verb
            .required()
            .iter()
            .copied()
            .filter(|name| raw(name).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(Error::MissingVariables { verb, missing });
        }

        let target = || -> Result<Target, Error> {
            Ok(Target {
                container_id: container_id(text("CNI_CONTAINERID").unwrap_or_default())?,
                ifname: interface_name(text("CNI_IFNAME").unwrap_or_default())?,
                netns: raw("CNI_NETNS").map(PathBuf::from),
            })
        };
        let request = match verb {
            Verb::Add => Request::Add(target()?),
            Verb::Check => Request::Check(target()?),
            Verb::Del => Request::Del(target()?),
            Verb::Gc => Request::Gc,
            Verb::Status => Request::Status,
            Verb::Version => Request::Version,
        };
        Ok(Some(Self {
            request,
            args: CniArgs::parse(&text("CNI_ARGS").unwrap_or_default()),
            path: raw("CNI_PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            netns_override: text("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
        }))
    }
}

/// The pairs of `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    pairs: Vec<(String, String)>,
}

impl CniArgs {
    /// Reads `K=V;K=V`. The first `=` separates, values may hold more of them; a piece without any is passed over.
    /// Unknown keys are no error here: the reference's `IgnoreUnknown` dance has only ever hurt people.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
            .collect();
        Self { pairs }
    }

    /// The last value given for `key` that is not empty.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// Whether `text` has the form that the specification demands of container IDs and network names.
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A container ID of legal form.
pub fn container_id(text: String) -> Result<String, Error> {
    if is_identifier(&text) {
        return Ok(text);
    }
    Err(Error::InvalidVariable {
        name: "CNI_CONTAINERID",
        value: text,
        rule: "it must begin with a letter or a digit and hold only letters, digits, '_', '.' and '-'",
    })
}

/// An interface name of legal form.
pub fn interface_name(text: String) -> Result<String, Error> {
    let rule = if text.is_empty() {
        "it must not be empty"
    } else if text.len() > INTERFACE_NAME_MAX {
        "it must have at most 15 bytes"
    } else if text == "." || text == ".." {
        "it must not be '.' or '..'"
    } else if text.contains(['/', ':']) || text.contains(char::is_whitespace) {
        "it must not hold '/', ':' or white space"
    } else {
        return Ok(text);
    };
    Err(Error::InvalidVariable {
        name: "CNI_IFNAME",
        value: text,
        rule,
    })
}

#[cfg(test)]
mod tests;
