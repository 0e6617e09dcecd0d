//! The bytes of a call on record: a mark, the verb, two zeros, and in little endian the code (4 bytes) and the duration in
//! microseconds (8 bytes). A page holds a whole number of them, so none is ever half written.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Changes whenever the layout does; records with another one are passed over.
const MARK: u8 = 0xc1;

/// What the CNI program is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Verify its attachment.
    Check,
    /// Remove what is attached to nothing any more.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// Not to be told: the call itself was wrong.
    Unknown,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Unknown,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Add => 1,
            Self::Del => 2,
            Self::Check => 3,
            Self::Gc => 4,
            Self::Status => 5,
            Self::Unknown => 0,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Unknown => "unknown",
        })
    }
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) verb: Verb,
    pub(super) code: u32,
    pub(super) micros: u64,
}

impl Record {
    pub(super) const LENGTH: usize = 16;

    pub(super) fn new(verb: Verb, code: u32, duration: Duration) -> Self {
        Self {
            verb,
            code,
            micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn encode(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = MARK;
        bytes[1] = self.verb.number();
        bytes[4..8].copy_from_slice(&self.code.to_le_bytes());
        bytes[8..].copy_from_slice(&self.micros.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let (code, micros) = rest.split_first_chunk::<4>()?;
        if head[0] != MARK {
            return None;
        }
        Some(Self {
            verb: Verb::ALL
                .into_iter()
                .find(|verb| verb.number() == head[1])?,
            code: u32::from_le_bytes(*code),
            micros: u64::from_le_bytes(micros.try_into().ok()?),
        })
    }
}
