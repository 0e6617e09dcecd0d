//! Reading subnets, and what is said of texts that are none.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use super::Cidr;

/// Why a text or a pair of address and prefix length is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no address of the expected family.
    #[error("\"{text}\" does not start with an {family} address; write it like {example}")]
    Address {
        /// The text as given.
        text: String,
        /// The expected family.
        family: &'static str,
        /// A subnet in the right form.
        example: &'static str,
    },
    /// Bits are set behind the prefix.
    #[error("{address}/{prefix} is an address within a subnet; the subnet itself is {subnet}")]
    HostBits {
        /// The address as given.
        address: IpAddr,
        /// The prefix length as given.
        prefix: u8,
        /// The same with the host bits cleared.
        subnet: Cidr,
    },
    /// There is no slash, or no number behind it.
    #[error("\"{text}\" has no prefix length; write it like {example}")]
    NoPrefix {
        /// The text as given.
        text: String,
        /// A subnet in the right form.
        example: &'static str,
    },
    /// The prefix is longer than the address.
    #[error("the prefix length of \"{text}\" is more than {longest}, the length of the address")]
    PrefixTooLong {
        /// The text as given.
        text: String,
        /// Bits of an address of this family.
        longest: u8,
    },
}

/// Splits `address/prefix`. Unlike `ipnetwork` this takes neither a bare address nor a netmask, as Go's parser does not.
pub(super) fn split<A: FromStr>(
    text: &str,
    family: &'static str,
    example: &'static str,
) -> Result<(A, u8), CidrError> {
    let Some((address, prefix)) = text.split_once('/') else {
        let text = shortened(text);
        return Err(match text.parse::<A>() {
            Ok(_) => CidrError::NoPrefix { text, example },
            Err(_) => CidrError::Address {
                text,
                family,
                example,
            },
        });
    };
    let Ok(address) = address.parse() else {
        let text = shortened(text);
        return Err(CidrError::Address {
            text,
            family,
            example,
        });
    };
    let Some(prefix) = prefix_length(prefix) else {
        let text = shortened(text);
        return Err(CidrError::NoPrefix { text, example });
    };
    Ok((address, prefix))
}

/// A decimal number without sign and without leading zeros; one that is too great for any family becomes 255.
pub(crate) fn prefix_length(text: &str) -> Option<u8> {
    if text.is_empty() || text.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    Some(text.parse().unwrap_or(u8::MAX))
}

/// Texts from outside end up in error messages, so they are cut to a length that fits a log line and kept on one.
/// Shortening a shortened text changes nothing.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut characters = escaped(text);
    let mut shortened: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        shortened.push('…');
    }
    shortened
}

/// A path whole, but on one line: other programs may have put any characters into names.
pub(crate) fn on_one_line(path: &Path) -> String {
    escaped(&path.to_string_lossy()).collect()
}

fn escaped(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(|character| {
        let control = character.is_control();
        let escape = control.then(|| character.escape_default());
        let plain = (!control).then_some(character);
        escape.into_iter().flatten().chain(plain)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_are_cut_and_control_characters_written_out() {
        assert_eq!(shortened(&"ä".repeat(100)), "ä".repeat(100));
        assert_eq!(shortened(&"ä".repeat(101)), format!("{}…", "ä".repeat(100)));
        assert_eq!(shortened("a\n\0b"), r"a\n\u{0}b");
        assert_eq!(on_one_line(Path::new("/x/a\tb")), r"/x/a\tb");
    }

    proptest! {
        #[test]
        fn shortening_again_changes_nothing(text in "[\0-\u{1f}a-zä]{0,150}") {
            let once = shortened(&text);
            prop_assert!(!once.chars().any(char::is_control));
            prop_assert_eq!(shortened(&once), once);
        }
    }
}
