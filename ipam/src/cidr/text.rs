//! Reading subnets, and what is said of texts that are none.

use std::net::IpAddr;
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
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut shortened = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == LONGEST {
            shortened.push('…');
            break;
        }
        if character.is_control() {
            shortened.extend(character.escape_default());
        } else {
            shortened.push(character);
        }
    }
    shortened
}
