//! Everything that can go wrong, with its CNI error code and a text for the operator.
//!
//! Most runtimes print only `msg`, so the remedy is part of the message; `details` holds what helps to find the cause.
//! The codes are mapped in [`Error::code`] and nowhere else.

use std::io;
use std::path::PathBuf;

use super::args::Verb;
use super::json::Object;
use super::version::{SpecVersion, UnknownVersion};

/// An error of the CNI program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `CNI_COMMAND` is none of the specification's verbs.
    // libcni looks for the first two words to recognise plugins older than VERSION.
    #[error("unknown CNI_COMMAND {command:?}: it must be ADD, DEL, CHECK, GC, STATUS or VERSION")]
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
    #[error("{name} is {value:?}: {rule}")]
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
        "the network name is {name:?}: `name` must begin with a letter or a digit and hold only letters, digits, '_', '.' and '-'"
    )]
    NetworkName {
        /// What it is.
        name: String,
    },
    /// A member of the config makes no sense.
    #[error("{key} in the network configuration is {value:?}: {reason}")]
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
    #[error("{key} = {value} is not supported: {remedy}")]
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
        "incompatible CNI versions: the config has cniVersion {:?}, this plugin speaks 0.1.0 to 1.1.0",
        unknown.0
    )]
    UnsupportedVersion {
        /// The config's version.
        unknown: UnknownVersion,
    },
    /// The verb did not exist yet in the config's version.
    #[error("config version {version} does not allow {verb}: it needs cniVersion {since} or later")]
    VerbTooNew {
        /// The verb.
        verb: Verb,
        /// The config's version.
        version: SpecVersion,
        /// The first one that has the verb.
        since: SpecVersion,
    },
    /// A verb of the specification that is not built in.
    #[error("{verb} is not implemented by this version of the plugin")]
    VerbNotImplemented {
        /// The verb.
        verb: Verb,
    },
    /// Results before 0.3.0 cannot say "no address".
    #[error(
        "this attachment has no address, which a result of version {version} cannot express: set cniVersion to 0.3.1 or later"
    )]
    NoAddressToReport {
        /// The config's version.
        version: SpecVersion,
    },
}

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
            | Self::UnknownCommand { .. }
            | Self::VerbNotImplemented { .. } => 4,
            Self::Stdin(_) => 5,
            Self::StdinEmpty
            | Self::StdinTooLong
            | Self::Undecodable { .. }
            | Self::WrongType { .. } => 6,
            Self::InvalidConfig { .. } | Self::MissingKey { .. } | Self::NetworkName { .. } => 7,
            Self::SubnetFile { .. } => 11,
        }
    }

    /// What is good to know beside the message; may be empty.
    pub fn details(&self) -> String {
        match self {
            Self::UnsupportedVersion { .. } => {
                format!("supported versions: {}", SpecVersion::list())
            }
            Self::SubnetFile { path, .. } => format!("subnetFile is {}", path.display()),
            _ => String::new(),
        }
    }

    /// The error document.
    pub fn render(&self, version: SpecVersion) -> Object {
        let mut object = Object::default();
        object.set("cniVersion", version.as_str());
        object.set("code", self.code());
        object.set("msg", self.to_string());
        let details = self.details();
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
