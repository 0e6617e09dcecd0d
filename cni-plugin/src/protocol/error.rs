//! Everything that can go wrong, with its CNI error code and a text for the operator.
//!
//! Most runtimes print only `msg`, so the remedy is part of the message; `details` holds what helps to find the cause.
//! The codes are mapped in [`Error::code`] and nowhere else.

mod code;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hostnet::Refusals;
use hostnet::netns::NetnsError;
use hostnet::sysctl::SysctlError;
use ipam::{HostLocalError, HostPortsError, PoolError};

use super::args::Verb;
use super::brief::{bounded, brief, quoted};
use super::json::Object;
use super::version::{SpecVersion, UnknownVersion};
use crate::foreign::ForeignError;

/// Longest message and longest details, in characters.
const LONGEST: usize = 3000;

/// An error of the CNI program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `CNI_COMMAND` is none of the specification's verbs.
    // libcni looks for the first two words to recognise plugins older than VERSION.
    #[error(
        "unknown CNI_COMMAND {}: it must be ADD, DEL, CHECK, GC, STATUS or VERSION",
        quoted(command)
    )]
    UnknownCommand {
        /// What it is.
        command: String,
    },
    /// Variables that the verb needs are absent or empty.
    #[error(
        "required env variables [{}] missing: the container runtime must set them for {verb}",
        missing.join(",")
    )]
    MissingVariables {
        /// The verb that needs them.
        verb: Verb,
        /// All of the missing ones.
        missing: Vec<&'static str>,
    },
    /// A variable has an illegal value.
    #[error("{name} is {}: {rule}", quoted(value))]
    InvalidVariable {
        /// The variable.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Reading the config failed.
    #[error("the network configuration could not be read from stdin: {0}")]
    Stdin(#[source] io::Error),
    /// The config is longer than any sensible one.
    #[error("the network configuration on stdin is longer than 4 MiB; it cannot be one")]
    StdinTooLong,
    /// Nothing on stdin.
    #[error(
        "the network configuration on stdin is empty: the runtime must write the plugin's configuration there"
    )]
    StdinEmpty,
    /// Not JSON, or not an object.
    #[error("the network configuration on stdin cannot be decoded: {reason}")]
    Undecodable {
        /// The decoder's complaint, with line and column.
        reason: String,
    },
    /// A member of the config has the wrong JSON type.
    #[error("{key} in the network configuration must be {expected}, not {found}")]
    WrongType {
        /// Path of the member.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The network has no name, or an illegal one.
    #[error(
        "the network name is {}: `name` must begin with a letter or a digit and hold only letters, digits, '_', '.' and '-'",
        quoted(name)
    )]
    NetworkName {
        /// What it is.
        name: String,
    },
    /// A member of the config makes no sense.
    #[error(
        "{key} in the network configuration is {}: {}",
        quoted(value),
        brief(reason)
    )]
    InvalidConfig {
        /// Path of the member.
        key: String,
        /// What it is.
        value: String,
        /// Why not, and what it must be.
        reason: String,
    },
    /// A member that must be there is not.
    #[error("{key} is missing in the network configuration")]
    MissingKey {
        /// Path of the member.
        key: String,
    },
    /// A member asks for what this program does not do.
    #[error("{key} = {} is not supported: {remedy}", brief(value))]
    UnsupportedValue {
        /// Path of the member.
        key: String,
        /// What it is.
        value: String,
        /// What to do instead.
        remedy: String,
    },
    /// The daemon has not written what this host has, or nothing sensible.
    #[error("this host has no pod subnet yet: {source}")]
    SubnetFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ipam::SubnetEnvError,
    },
    /// The config's version is not one of ours.
    #[error(
        "incompatible CNI versions: the config has cniVersion {}, this plugin speaks 0.1.0 to 1.1.0",
        quoted(&unknown.0)
    )]
    UnsupportedVersion {
        /// The config's version.
        unknown: UnknownVersion,
    },
    /// The verb did not exist yet in the config's version.
    // In the words of the reference skeleton and no more, which test suites look for.
    #[error("config version does not allow {verb}")]
    VerbTooNew {
        /// The verb.
        verb: Verb,
        /// The config's version.
        version: SpecVersion,
        /// The first one that has the verb.
        since: SpecVersion,
    },
    /// The runtime's namespace cannot be used.
    #[error("{0}; the runtime must name the network namespace of a running sandbox in CNI_NETNS")]
    Netns(#[source] NetnsError),
    /// The runtime's namespace is the one this program runs in.
    #[error(
        "CNI_NETNS {} is the host's own network namespace: the process it belonged to is gone, start the sandbox anew (CNI_NETNS_OVERRIDE=1 attaches it all the same)",
        path.display()
    )]
    OwnNetns {
        /// The path.
        path: PathBuf,
    },
    /// The container has such an interface already.
    #[error(
        "interface {ifname} already exists in {}: detach it first (DEL), or choose another interface name",
        netns.display()
    )]
    InterfaceExists {
        /// Its name.
        ifname: String,
        /// Path of the container's namespace.
        netns: PathBuf,
    },
    /// Another process makes the same attachment.
    #[error(
        "{owner} is just being attached by another process: wait until it ends, or end it, and try again"
    )]
    BeingAttached {
        /// Container and interface.
        owner: String,
    },
    /// An attachment is not as it was made.
    #[error("the container is no longer attached as it was: {what}; start it anew")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// No pod can be attached now.
    #[error("no pod can be attached now: {reason}")]
    NotReady {
        /// Whether pods that are attached may be cut off too.
        limited: bool,
        /// Why, and what to do.
        reason: String,
    },
    /// The config's bridge is something else.
    #[error(
        "{name} is not a bridge but {kind}: choose another name (`bridge`) or remove that link"
    )]
    NotABridge {
        /// Its name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The bridge has an address that excludes the gateway's.
    #[error(
        "{bridge:?} already has an IP address different from the gateway's, {address}/{prefix}: remove it, set forceAddress, or use another bridge"
    )]
    BridgeAddress {
        /// The bridge.
        bridge: String,
        /// The address it has.
        address: IpAddr,
        /// That one's prefix length.
        prefix: u8,
    },
    /// The kernel made a veth without another end.
    #[error("the kernel does not tell the other end of {name}: this needs Linux 4.20 or newer")]
    NoPeer {
        /// The end that is there.
        name: String,
    },
    /// A plugin of others failed, or is not there.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The address pool refuses.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The reservations of host-local cannot be read or changed.
    #[error(transparent)]
    HostLocal(#[from] HostLocalError),
    /// The records of host ports cannot be read or changed.
    #[error(transparent)]
    HostPorts(#[from] HostPortsError),
    /// The rules for host ports could not be read or put in place.
    #[error(
        "the ports of this host cannot lead to the pod: {0}; this needs nf_tables with address translation (nft_nat, nft_fib)"
    )]
    HostPortRules(#[source] hostnet::nft::Error),
    /// flannel's scratch file of a container cannot be kept in order.
    #[error("flannel's scratch file {} {what}: {source}; check that its file system has room and is writable", path.display())]
    Scratch {
        /// What is impossible.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A request to the kernel failed.
    #[error("the network could not be looked at: {0}")]
    Netlink(#[source] hostnet::Error),
    /// The kernel refused changes.
    #[error("the kernel refuses the attachment: {0}")]
    Refused(#[source] Refusals),
    /// The masquerading rules could not be put in place.
    #[error(
        "pods would not be masqueraded: {0}; start flanneld with --ip-masq, or set ipMasq to false in `delegate`"
    )]
    Masquerade(#[source] hostnet::nft::Error),
    /// The rules that hold a pod to its MAC could not be put in place or taken away.
    #[error(
        "macspoofchk cannot be had: {0}; this needs nf_tables for bridges, or leave the key out"
    )]
    Stations(#[source] hostnet::nft::Error),
    /// A setting of a new link could not be made.
    #[error("cannot set the kernel setting {setting}: {reason}; /proc/sys must be writable here")]
    Setting {
        /// Its path below /proc/sys.
        setting: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A kernel setting could not be made.
    #[error(transparent)]
    Sysctl(SysctlError),
    /// The result could not be told to the runtime.
    #[error(
        "the result could not be written to stdout: {0}; whoever starts this program must keep its stdout open"
    )]
    Stdout(#[source] io::Error),
    /// Something failed, and so did putting things back.
    #[error("{error}; and what was begun could not be undone: {leftover}")]
    Leftover {
        /// The first failure, which decides the code.
        error: Box<Self>,
        /// The second.
        leftover: Box<Self>,
    },
    /// The call took too long.
    #[error(
        "{verb} would not have ended within {} s and was given up: this host is overloaded, or something on it hangs; it can be tried again; see by `ps -eo stat,wchan:30,comm | grep ^D` who waits for the kernel",
        limit.as_secs()
    )]
    OutOfTime {
        /// The verb.
        verb: Verb,
        /// Its time.
        limit: Duration,
    },
    /// Results before 0.3.0 have room for one address of each family.
    #[error("CNI version {version} does not support more than 1 address per family")]
    TooManyAddresses {
        /// The config's version.
        version: SpecVersion,
    },
    /// The file that `resolvConf` names cannot be read.
    #[error("cannot read {}, which ipam.resolvConf names: {source}; name a file like /etc/resolv.conf, or leave the key out", path.display())]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The IPAM plugin succeeded with nothing.
    #[error(
        "IPAM plugin returned missing IP config: look at its configuration (`ipam`), or leave `ipam` out for a bridge without addresses"
    )]
    NoAddressGiven,
    /// The pod has no reservation.
    #[error("host-local: Failed to find address added by container {container_id}; start it anew")]
    NoReservation {
        /// Its ID.
        container_id: String,
    },
    /// Results before 0.3.0 cannot say "no address".
    // These too are words of the reference.
    #[error("cannot convert: no valid IP addresses")]
    NoAddressToReport {
        /// The config's version.
        version: SpecVersion,
    },
}

impl Error {
    /// This error after an attempt to undo what had been done before it.
    #[must_use]
    pub fn after_undoing<T>(self, undone: Result<T, impl Into<Self>>) -> Self {
        match undone {
            Ok(_) => self,
            Err(leftover) => Self::Leftover {
                error: Box::new(self),
                leftover: Box::new(leftover.into()),
            },
        }
    }

    /// What is good to know beside the message; may be empty.
    pub fn details(&self) -> String {
        match self {
            Self::UnsupportedVersion { .. } => {
                format!("supported versions: {}", SpecVersion::list())
            }
            Self::Foreign(error) => error.details().to_owned(),
            Self::SubnetFile { path, .. } => format!("subnetFile is {}", path.display()),
            Self::NoAddressToReport { version } => format!(
                "this attachment has no address, which a result of version {version} cannot express: set cniVersion to 0.3.1 or later"
            ),
            _ => String::new(),
        }
    }

    /// The error document.
    pub fn render(&self, version: SpecVersion) -> Object {
        let mut object = Object::default();
        object.set("cniVersion", version.as_str());
        object.set("code", self.code());
        // Paths, and what others said, may be of any length.
        object.set("msg", bounded(&self.to_string(), LONGEST));
        let details = bounded(&self.details(), LONGEST);
        if !details.is_empty() {
            object.set("details", details);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_of_the_document() {
        let error = Error::UnsupportedVersion {
            unknown: UnknownVersion("2.0.0".to_owned()),
        };
        assert_eq!(
            serde_json::to_string(&error.render(SpecVersion::NEWEST)).unwrap(),
            concat!(
                r#"{"cniVersion":"1.1.0","code":1,"#,
                r#""msg":"incompatible CNI versions: the config has cniVersion \"2.0.0\", this plugin speaks 0.1.0 to 1.1.0","#,
                r#""details":"supported versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"}"#
            )
        );
    }
}
