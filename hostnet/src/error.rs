//! What can go wrong between us and the kernel, as values that name the object and read as a sentence.
//!
//! Refusals of single changes inside a batch are in [`crate::Refused`]; namespaces, sysctls and ethtool have their own
//! small enums beside their code.

use std::{fmt, io};

use nix::errno::Errno;

use crate::{
    attr::{Attributes, MESSAGE_HEADER_LENGTH, align},
    socket::Message,
};

/// A request that could not be made, or that the kernel answered with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dump was changed under our hands more often than we are willing to repeat it.
    #[error(
        "the kernel's list of {what} kept changing while it was read ({attempts} attempts); try again when the host is calmer"
    )]
    Interrupted {
        /// The kind of object listed.
        what: &'static str,
        /// How often the list was asked for.
        attempts: usize,
    },
    /// The socket could not be opened or set up.
    #[error(
        "cannot open a {family} netlink socket: {reason}; this needs Linux 4.20 or newer, and a limit of open files that is not used up"
    )]
    Open {
        /// The netlink protocol: "route" or "netfilter".
        family: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
    /// More messages came than the socket's receive buffer holds, so some are lost.
    #[error(
        "the receive buffer of the netlink socket overran, so messages of the kernel are lost; read everything again"
    )]
    Overrun,
    /// The answer could not be read.
    #[error("cannot read from the netlink socket: {0}")]
    Receive(io::Error),
    /// The kernel refused the request.
    #[error("{what}: {error}")]
    Refused {
        /// What was asked for, as a noun phrase or "cannot …" sentence that names the object.
        what: String,
        /// What the kernel said.
        error: KernelError,
    },
    /// The request could not be handed to the kernel.
    #[error("cannot write to the netlink socket: {0}")]
    Send(io::Error),
    /// A message was longer than the buffer it was read into, and its rest is lost.
    #[error(
        "the kernel sent a message of {length} bytes, longer than the {buffer} bytes expected; its rest is lost"
    )]
    Truncated {
        /// Length of the message in bytes.
        length: usize,
        /// Length of the buffer in bytes.
        buffer: usize,
    },
}

impl Error {
    /// Whether the kernel refused because the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.is_not_found())
    }

    /// Whether the kernel refused because such an object is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.is_exists())
    }
}

/// What the kernel answered to a request: the number, and the sentence of the extended acknowledgement where it gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The error number, positive, as in `errno(3)`.
    pub errno: i32,
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
}

impl KernelError {
    /// An error that has no words of the kernel.
    #[must_use]
    pub const fn new(errno: i32) -> Self {
        Self { errno, text: None }
    }

    /// Reads an `NLMSG_ERROR` or `NLMSG_DONE` message: `Ok` for an acknowledgement or the regular end of a dump.
    ///
    /// A message too short to hold an error number counts as `EBADMSG`.
    pub(crate) fn from_message(message: &Message<'_>) -> Result<(), Self> {
        let Some(code) = message.payload.first_chunk::<4>() else {
            // NLMSG_DONE of some dumps (and of old kernels) has no payload at all.
            return if message.kind == NLMSG_DONE {
                Ok(())
            } else {
                Err(Self::new(Errno::EBADMSG as i32))
            };
        };
        let code = i32::from_ne_bytes(*code);
        // NLMSG_DONE of a dump carries a non-negative count; only negative numbers are errors.
        if code >= 0 {
            return Ok(());
        }
        Err(Self {
            errno: code.saturating_neg(),
            text: extended_text(message),
        })
    }

    /// Whether the object the request was about is not there.
    ///
    /// Which number says so depends on the kind of object: links `ENODEV`, routes `ESRCH`, addresses `EADDRNOTAVAIL`,
    /// neighbours, FDB entries and everything of nf_tables `ENOENT`.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            Errno::from_raw(self.errno),
            Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENOENT | Errno::ESRCH
        )
    }

    /// Whether such an object is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno == Errno::EEXIST as i32
    }

    /// Whether another socket of the namespace has the port that was asked for, as that of a VXLAN device.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        self.errno == Errno::EADDRINUSE as i32
    }

    /// Whether a table of the kernel has no room for one more entry, as that of neighbours (`gc_thresh3`).
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        self.errno == Errno::ENOBUFS as i32
    }

    /// Whether this process may not do what it asked for (it needs `CAP_NET_ADMIN` in the namespace's user namespace).
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(Errno::from_raw(self.errno), Errno::EACCES | Errno::EPERM)
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.errno);
        match &self.text {
            Some(text) => write!(f, "{text} ({}, errno {})", errno.desc(), self.errno),
            None => write!(f, "{} (errno {})", errno.desc(), self.errno),
        }
    }
}

impl std::error::Error for KernelError {}

/// The sentence in the attributes behind an error message (`Documentation/userspace-api/netlink/intro.rst`, "Extended ACK").
fn extended_text(message: &Message<'_>) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let attributes = if message.kind == NLMSG_DONE {
        4
    } else if message.flags & NLM_F_CAPPED != 0 {
        4 + MESSAGE_HEADER_LENGTH
    } else {
        // The whole request is quoted; its own header tells how long it is.
        let quoted = message.payload.get(4..)?.first_chunk::<4>()?;
        4usize.checked_add(align(usize::try_from(u32::from_ne_bytes(*quoted)).ok()?))?
    };
    Attributes::new(message.payload.get(attributes..)?)
        .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
        .map(|attribute| attribute.text().into_owned())
        .filter(|text| !text.is_empty())
}

// linux/netlink.h
pub(crate) const NLMSG_ERROR: u16 = 0x2;
pub(crate) const NLMSG_DONE: u16 = 0x3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

#[cfg(test)]
mod tests;
