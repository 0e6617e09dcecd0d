//! The published versions of the CNI specification and what depends on them.

use std::fmt;
use std::str::FromStr;

use super::args::Verb;

/// A version of the CNI specification that this program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0, also meant by a config without a version.
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` on DEL
    V0_4_0,
    /// 1.0.0: `ips[].version` is gone
    V1_0_0,
    /// 1.1.0: GC, STATUS, MTU in results
    V1_1_0,
}

/// A version that no published specification bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVersion(pub String);

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The version this program calls its own.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The spelling used in configs and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The first version whose configs allow `verb`.
    pub fn introducing(verb: Verb) -> Self {
        match verb {
            Verb::Add | Verb::Del => Self::V0_1_0,
            Verb::Version => Self::V0_2_0,
            Verb::Check => Self::V0_4_0,
            Verb::Gc | Verb::Status => Self::V1_1_0,
        }
    }

    /// The list printed in the banner, in VERSION and in errors.
    pub fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An empty version means the first one: it predates the key.
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back() {
        for version in SpecVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert_eq!("".parse(), Ok(SpecVersion::V0_1_0));
        assert_eq!(
            "1.2.0".parse::<SpecVersion>(),
            Err(UnknownVersion("1.2.0".to_owned()))
        );
    }

    #[test]
    fn versions_are_ordered_by_age() {
        assert!(SpecVersion::ALL.is_sorted());
        assert!(SpecVersion::introducing(Verb::Check) > SpecVersion::V0_3_1);
        assert!(SpecVersion::introducing(Verb::Gc) > SpecVersion::V1_0_0);
    }
}
