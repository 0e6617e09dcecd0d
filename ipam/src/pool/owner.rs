//! Who holds addresses: an interface of a container.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cidr::shortened;

/// An interface of a container, under which addresses are held: CNI's container ID and interface name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Owner {
    container_id: String,
    ifname: String,
}

/// Why a container ID, an interface name or a network name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The container ID breaks CNI's rule.
    #[error(
        "container ID \"{text}\" is not allowed; it must begin with a letter or digit and go on with letters, digits, '_', '.' or '-'"
    )]
    ContainerId {
        /// The ID, cut when long.
        text: String,
    },
    /// The interface name is one the kernel would refuse.
    #[error(
        "interface name \"{text}\" is not allowed; it must have 1 to 15 bytes, none of them a slash, colon or white space, and not be \".\" or \"..\""
    )]
    Ifname {
        /// The name, cut when long.
        text: String,
    },
    /// The network name breaks CNI's rule.
    #[error(
        "network name \"{text}\" is not allowed; it must begin with a letter or digit and go on with letters, digits, '_', '.' or '-'"
    )]
    Network {
        /// The name, cut when long.
        text: String,
    },
}

impl Owner {
    /// An owner, if both names keep to the rules of the CNI specification.
    ///
    /// # Errors
    ///
    /// [`NameError::ContainerId`], [`NameError::Ifname`].
    pub fn new(container_id: &str, ifname: &str) -> Result<Self, NameError> {
        if !is_cni_name(container_id) {
            return Err(NameError::ContainerId {
                text: shortened(container_id),
            });
        }
        if !is_ifname(ifname) {
            return Err(NameError::Ifname {
                text: shortened(ifname),
            });
        }
        Ok(Self {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        })
    }

    /// CNI_CONTAINERID.
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// CNI_IFNAME.
    #[must_use]
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// The name of the owner's file. No two owners have the same, as a container ID has no `@`.
    pub(crate) fn file_name(&self) -> String {
        file_name(format!("{}@{}", self.container_id, self.ifname))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of container {}",
            shortened(&self.ifname),
            shortened(&self.container_id)
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    container_id: String,
    ifname: String,
}

impl From<Owner> for Text {
    fn from(owner: Owner) -> Self {
        Self {
            container_id: owner.container_id,
            ifname: owner.ifname,
        }
    }
}

impl TryFrom<Text> for Owner {
    type Error = NameError;

    fn try_from(text: Text) -> Result<Self, NameError> {
        Self::new(&text.container_id, &text.ifname)
    }
}

/// The name of a network's directory.
pub(super) fn network_directory(network: &str) -> Result<String, NameError> {
    check_network(network)?;
    Ok(file_name(network.to_owned()))
}

/// Whether CNI allows the name of a network. Such a name is safe as the name of a directory.
pub(crate) fn check_network(network: &str) -> Result<(), NameError> {
    if is_cni_name(network) {
        return Ok(());
    }
    Err(NameError::Network {
        text: shortened(network),
    })
}

/// CNI specification, section 2: container IDs and network names.
fn is_cni_name(text: &str) -> bool {
    let alphanumeric_first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    alphanumeric_first
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// The kernel's `dev_valid_name`.
fn is_ifname(text: &str) -> bool {
    let forbidden =
        |byte: u8| matches!(byte, 0 | b'/' | b':') || byte.is_ascii_whitespace() || byte == 0x0b;
    !matches!(text, "" | "." | "..") && text.len() <= 15 && !text.bytes().any(forbidden)
}

/// Names have no length limit in CNI but files have one. The hash cannot be mistaken for a name: those begin with a
/// letter or digit.
fn file_name(name: String) -> String {
    const NAME_MAX: usize = 255;
    if name.len() <= NAME_MAX {
        name
    } else {
        format!("~{:032x}", fnv1a_128(name.as_bytes()))
    }
}

/// FNV-1a with 128 bits (RFC 9923): names are not chosen by an enemy, they only must not meet by chance.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_read_alike_have_different_files() {
        let one = Owner::new("a.b", "c").unwrap();
        let other = Owner::new("a", "b.c").unwrap();
        assert_ne!(one.file_name(), other.file_name());
        let at = Owner::new("a", "b@c").unwrap();
        assert_eq!(at.file_name().split_once('@'), Some(("a", "b@c")));
    }

    #[test]
    fn a_name_longer_than_a_file_name_is_hashed() {
        let one = Owner::new(&"a".repeat(300), "eth0").unwrap();
        let other = Owner::new(&"a".repeat(301), "eth0").unwrap();
        assert_eq!(one.file_name().len(), 33);
        assert_ne!(one.file_name(), other.file_name());
        assert!(
            network_directory(&"n".repeat(256))
                .unwrap()
                .starts_with('~')
        );
    }

    #[test]
    fn the_hash_is_fnv() {
        // Published vectors of FNV-1a with 128 bits.
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn names_outside_the_specification_are_refused() {
        for id in ["", "../x", "-a", ".a", "a/b", "a b", "ä", "a\0"] {
            assert!(
                matches!(Owner::new(id, "eth0"), Err(NameError::ContainerId { .. })),
                "{id:?} was taken"
            );
            assert!(
                matches!(network_directory(id), Err(NameError::Network { .. })),
                "{id:?} was taken"
            );
        }
        for ifname in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\u{b}b",
            "a\0b",
            "sixteen-bytes-xx",
        ] {
            assert!(
                matches!(Owner::new("id", ifname), Err(NameError::Ifname { .. })),
                "{ifname:?} was taken"
            );
        }
    }

    #[test]
    fn an_owner_is_told_on_one_line() {
        let owner = Owner::new("a", "e\u{1}\u{7f}").unwrap();
        assert_eq!(owner.to_string(), r"e\u{1}\u{7f} of container a");
    }

    #[test]
    fn a_file_cannot_smuggle_a_name_in() {
        let read = serde_json::from_str::<Owner>(r#"{"containerId":"../..","ifname":"eth0"}"#);
        assert!(read.is_err());
    }
}
