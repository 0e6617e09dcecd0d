//! Offloads of a link, which netlink's routing messages do not know: read and switched by the ethtool ioctl.

use std::io;

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use std::os::fd::AsRawFd;

/// Why an offload cannot be read or switched.
#[derive(Debug, thiserror::Error)]
pub enum EthtoolError {
    /// The driver refused.
    #[error("cannot {action} the transmit checksum offload of link {link}: {reason}")]
    Offload {
        /// "read" or "switch".
        action: &'static str,
        /// The link's name.
        link: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The name is too long for a link, or empty.
    #[error("\"{link}\" cannot be the name of a link; names have 1 to 15 bytes")]
    Name {
        /// What was given.
        link: String,
    },
    /// The socket that carries the request could not be opened.
    #[error("cannot open a socket for ethtool: {0}")]
    Socket(io::Error),
}

/// Whether the link leaves the checksums of outgoing packets to the hardware.
///
/// # Errors
/// [`EthtoolError`]; a link that is not there is `ENODEV` in [`EthtoolError::Offload`].
pub fn tx_checksum(link: &str) -> Result<bool, EthtoolError> {
    request(link, "read", ETHTOOL_GTXCSUM, 0).map(|value| value != 0)
}

/// Lets the link leave checksums of outgoing packets to the hardware, or not. Some kernels and drivers get the checksum of
/// a packet inside a VXLAN packet wrong.
///
/// # Errors
/// [`EthtoolError`]; a link that is not there is `ENODEV` in [`EthtoolError::Offload`].
pub fn set_tx_checksum(link: &str, on: bool) -> Result<(), EthtoolError> {
    request(link, "switch", ETHTOOL_STXCSUM, u32::from(on)).map(|_| ())
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn request(link: &str, action: &'static str, command: u32, data: u32) -> Result<u32, EthtoolError> {
    let name = link_name(link).ok_or_else(|| EthtoolError::Name {
        link: link.to_owned(),
    })?;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| EthtoolError::Socket(errno.into()))?;
    let mut value = EthtoolValue { command, data };
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    // SAFETY: for SIOCETHTOOL with these two commands the kernel reads the name (which ends in a NUL) and the pointer from
    // `request`, and reads and writes one ethtool_value behind the pointer; both live until after the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    Errno::result(answer).map_err(|errno| EthtoolError::Offload {
        action,
        link: link.to_owned(),
        reason: errno.into(),
    })?;
    Ok(value.data)
}

fn link_name(link: &str) -> Option<[libc::c_char; libc::IFNAMSIZ]> {
    let mut name = [0; libc::IFNAMSIZ];
    // One byte stays for the NUL at the end.
    if link.is_empty() || link.len() >= name.len() || link.contains('\0') {
        return None;
    }
    for (place, byte) in name.iter_mut().zip(link.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    Some(name)
}

// linux/sockios.h, linux/ethtool.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offload_of_the_loopback_link_can_be_read() {
        assert!(tx_checksum("lo").unwrap());
    }

    #[test]
    fn a_missing_link_and_an_impossible_name_are_told_apart() {
        let missing = tx_checksum("no-such-link").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot read the transmit checksum offload of link no-such-link: No such device (os error 19)"
        );
        for name in ["", "sixteen-bytes-is", "a\0b"] {
            assert!(
                matches!(tx_checksum(name), Err(EthtoolError::Name { .. })),
                "{name}"
            );
        }
    }
}
