//! The number of each error in the error document. The specification has those below 100 and leaves 100 and up to plugins.

use hostnet::netns::NetnsError;
use ipam::{HostLocalError, HostPortsError, PoolError};

use super::Error;

/// No address is left.
const POOL_EXHAUSTED: u32 = 100;
/// The attachment exists already.
const DUPLICATE_ATTACHMENT: u32 = 101;
/// An interface of that name exists already.
const INTERFACE_EXISTS: u32 = 102;
/// The address that was asked for cannot be had.
const ADDRESS_UNAVAILABLE: u32 = 103;
/// CHECK found the attachment damaged.
const DAMAGED: u32 = 104;
/// The library's number for everything else.
const OTHER: u32 = 999;

impl Error {
    /// The code of the error document (specification, section "Error"; 100 and up are ours).
    pub fn code(&self) -> u32 {
        match self {
            Self::NoAddressToReport { .. }
            | Self::UnsupportedVersion { .. }
            | Self::VerbTooNew { .. } => 1,
            Self::UnsupportedValue { .. } => 2,
            Self::InvalidVariable { .. }
            | Self::MissingVariables { .. }
            | Self::UnknownCommand { .. } => 4,
            Self::Scratch { .. } | Self::ResolvConf { .. } | Self::Stdin(_) | Self::Stdout(_) => 5,
            Self::StdinEmpty
            | Self::StdinTooLong
            | Self::Undecodable { .. }
            | Self::WrongType { .. } => 6,
            Self::InvalidConfig { .. }
            | Self::MissingKey { .. }
            | Self::NetworkName { .. }
            | Self::TooManyAddresses { .. } => 7,
            Self::BeingAttached { .. } | Self::OutOfTime { .. } | Self::SubnetFile { .. } => 11,
            Self::Netns(NetnsError::Missing { .. }) => 3,
            Self::Netns(NetnsError::NotANetns { .. }) | Self::OwnNetns { .. } => 8,
            Self::NotReady { limited: false, .. } => 50,
            Self::NotReady { limited: true, .. } => 51,
            Self::Damaged { .. } | Self::NoReservation { .. } => DAMAGED,
            Self::BridgeAddress { .. } | Self::InterfaceExists { .. } | Self::NotABridge { .. } => {
                INTERFACE_EXISTS
            }
            Self::Foreign(error) => error.code(),
            Self::Pool(error) => pool_code(error),
            Self::HostLocal(error) => host_local_code(error),
            Self::HostPorts(HostPortsError::Busy { .. }) => 11,
            Self::HostPorts(HostPortsError::Io { .. }) => 5,
            Self::Leftover { error, .. } => error.code(),
            Self::HostPortRules(_)
            | Self::Masquerade(_)
            | Self::NoAddressGiven
            | Self::Netlink(_)
            | Self::Netns(_)
            | Self::NoPeer { .. }
            | Self::Refused(_)
            | Self::Setting { .. }
            | Self::Stations(_)
            | Self::Sysctl(_) => OTHER,
        }
    }
}

fn pool_code(error: &PoolError) -> u32 {
    match error {
        PoolError::Name(_) => 4,
        PoolError::BootId { .. } | PoolError::Corrupt { .. } | PoolError::Io { .. } => 5,
        PoolError::Range(_) => 7,
        PoolError::Busy { .. } => 11,
        PoolError::Exhausted { .. } => POOL_EXHAUSTED,
        PoolError::Duplicate { .. } => DUPLICATE_ATTACHMENT,
        PoolError::Gateway { .. } | PoolError::OutOfRange { .. } | PoolError::Taken { .. } => {
            ADDRESS_UNAVAILABLE
        }
        PoolError::Absent { .. } => OTHER,
    }
}

fn host_local_code(error: &HostLocalError) -> u32 {
    match error {
        HostLocalError::Busy { .. } => 11,
        HostLocalError::Io { .. } => 5,
        HostLocalError::Name(_) => 4,
        HostLocalError::Exhausted { .. } => POOL_EXHAUSTED,
        HostLocalError::Duplicate { .. } => DUPLICATE_ATTACHMENT,
        HostLocalError::IsGateway { .. }
        | HostLocalError::Taken { .. }
        | HostLocalError::Unavailable { .. }
        | HostLocalError::Unused { .. } => ADDRESS_UNAVAILABLE,
    }
}
