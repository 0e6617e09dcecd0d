//! What can go wrong with a ruleset.

use nix::libc;

use crate::{Error as NetlinkError, KernelError};

/// A table that cannot be written as it is asked for, or that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ruleset was changed by others during each attempt to read or write it.
    #[error(
        "other programs kept changing the ruleset while table {table} was read ({attempts} attempts); try again when the host is calmer"
    )]
    Busy {
        /// The table, with its family.
        table: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// Two sets, or two chains, of one table have the same name.
    #[error("table {table} has two {what}s named {name:?}; give them different names")]
    Duplicate {
        /// The table, with its family.
        table: String,
        /// The kind of object.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An interface name that no interface can have.
    #[error(
        "{name:?} cannot be an interface name: it must have 1 to 15 bytes without spaces, quotes, '/' and ':', and '*' only at its end"
    )]
    Interface {
        /// The name as given.
        name: String,
    },
    /// The socket failed.
    #[error("nf_tables: {0}")]
    Netlink(#[from] NetlinkError),
    /// The kernel does not tell what it was asked.
    #[error("nf_tables does not give {what}: {error}{hint}", hint = hint(error))]
    Query {
        /// What was asked for, as in "the rules of table ip flannel-ipv4".
        what: String,
        /// What the kernel said.
        #[source]
        error: KernelError,
    },
    /// The kernel refused a transaction; nothing of it was applied.
    #[error("nf_tables refused {what}: {error}; nothing was changed{hint}", hint = hint(error))]
    Refused {
        /// The object, as in "rule 3 of chain ip flannel-ipv4 postrtg".
        what: String,
        /// What the kernel said.
        #[source]
        error: KernelError,
    },
    /// A name or a comment is empty, too long, or has characters in it that `nft` could not print so as to read them again.
    #[error(
        "{what} {text:?} of table {table} must have 1 to {limit} bytes, without quotes, backslashes and control characters"
    )]
    Text {
        /// The table, with its family.
        table: String,
        /// Which text.
        what: &'static str,
        /// The text.
        text: String,
        /// Most bytes allowed.
        limit: usize,
    },
    /// A rule names a set or chain that the table does not have.
    #[error("a rule of table {table} names the {what} {name:?}, which is not in the table")]
    Unknown {
        /// The table, with its family.
        table: String,
        /// The kind of object.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A prefix or set of one family in a table or set of the other.
    #[error("{what} is of the other address family than {holder}, so it can never match there")]
    WrongFamily {
        /// The prefix or set.
        what: String,
        /// The table or set it was put in.
        holder: String,
    },
}

/// What an operator can do about a refusal, where that is known.
fn hint(error: &KernelError) -> &'static str {
    if error.is_not_permitted() {
        " (this needs the capability NET_ADMIN, and a table that no other process owns)"
    } else if [libc::EINVAL, libc::ENOENT, libc::EOPNOTSUPP].contains(&error.errno) {
        " (the kernel may lack the nf_tables module for it, or not allow it in this place)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
