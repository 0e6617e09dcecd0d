//! The specification's versions and verbs, and since when each verb exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A published version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SpecVersion {
    /// 0.1.0: ADD and DEL.
    #[serde(rename = "0.1.0")]
    V010,
    /// 0.2.0: VERSION.
    #[serde(rename = "0.2.0")]
    V020,
    /// 0.3.0: chains and prevResult, interfaces in results.
    #[serde(rename = "0.3.0")]
    V030,
    /// 0.3.1.
    #[serde(rename = "0.3.1")]
    V031,
    /// 0.4.0: CHECK, prevResult on DEL.
    #[serde(rename = "0.4.0")]
    V040,
    /// 1.0.0: no `version` in addresses.
    #[serde(rename = "1.0.0")]
    V100,
    /// 1.1.0: GC and STATUS, MTU in interfaces.
    #[serde(rename = "1.1.0")]
    V110,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V010,
        Self::V020,
        Self::V030,
        Self::V031,
        Self::V040,
        Self::V100,
        Self::V110,
    ];

    /// As it stands in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V010 => "0.1.0",
            Self::V020 => "0.2.0",
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// Whether results list interfaces and `ips`, instead of `ip4` and `ip6`.
    pub(crate) fn lists_interfaces(self) -> bool {
        self >= Self::V030
    }

    /// Whether runtimes pass the result of the ADD on CHECK and DEL.
    pub(crate) fn passes_previous_result(self) -> bool {
        self >= Self::V040
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text);
        known.ok_or_else(|| {
            format!(
                "{text:?} is no version of the CNI specification; there are {}",
                list(&Self::ALL)
            )
        })
    }
}

/// `0.3.1, 1.0.0`.
pub(crate) fn list(versions: &[SpecVersion]) -> String {
    let texts: Vec<_> = versions.iter().map(|version| version.as_str()).collect();
    texts.join(", ")
}

/// What a plugin can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Undo an ADD.
    Del,
    /// Is the attachment as it should be?
    Check,
    /// Free what belongs to none of the attachments listed.
    Gc,
    /// Would an ADD succeed?
    Status,
    /// Which versions are supported?
    Version,
}

impl Verb {
    /// As it stands in `CNI_COMMAND`.
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

    /// The first version of the specification that has it.
    pub(crate) fn since(self) -> SpecVersion {
        match self {
            Self::Add | Self::Del => SpecVersion::V010,
            Self::Version => SpecVersion::V020,
            Self::Check => SpecVersion::V040,
            Self::Gc | Self::Status => SpecVersion::V110,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
