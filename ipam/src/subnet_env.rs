//! `subnet.env`, by which the daemon tells the CNI program (and flannel's, and docker's scripts) what this host has.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cidr::{IpCidr, Ipv4Cidr, Ipv6Cidr, shortened};
use crate::family::{PerFamily, Subnets};

#[cfg(test)]
mod tests;

/// Where flannel and its CNI program look for the file.
pub const DEFAULT_PATH: &str = "/run/flannel/subnet.env";

/// More than this is no subnet.env.
const LONGEST: u64 = 64 * 1024;

/// More than the file of a host with one network per family has.
const USUAL: usize = 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The pod network and this host's part of it, for every family in use; at least one.
    pub families: PerFamily<HostNetwork<Ipv4Cidr>, HostNetwork<Ipv6Cidr>>,
    /// MTU of the pods' interfaces in bytes.
    pub mtu: u32,
    /// Whether the daemon masquerades what pods send out of the pod network.
    pub ip_masq: bool,
}

/// The networks of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork<C> {
    /// The networks of all pods: one, unless an old daemon wrote the file. Without duplicates, never empty.
    pub networks: Vec<C>,
    /// The subnet of this host's pods.
    pub subnet: C,
}

/// Why subnet.env cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SubnetEnvError {
    /// A value is not of its type.
    #[error(
        "{key} in subnet.env must be {expected}, not \"{found}\"; restart flanneld, which writes the file anew"
    )]
    BadValue {
        /// The key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What stands there, cut when long.
        found: String,
    },
    /// The file is not there: no daemon has run since the host started.
    #[error("{} is not there yet; start flanneld on this host, or wait until it has a subnet (its log says what it waits for)", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Lines are missing.
    #[error("subnet.env lacks {}; wait for flanneld to write it, or restart flanneld", keys.join(", "))]
    Missing {
        /// What is missing.
        keys: Vec<&'static str>,
    },
    /// The file cannot be read.
    #[error("{} cannot be read: {source}; it must be a text file that flanneld wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {source}; make its directory writable for flanneld or choose another with --subnet-file", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

const NETWORK: &str = "FLANNEL_NETWORK";
const SUBNET: &str = "FLANNEL_SUBNET";
const IPV6_NETWORK: &str = "FLANNEL_IPV6_NETWORK";
const IPV6_SUBNET: &str = "FLANNEL_IPV6_SUBNET";
const MTU: &str = "FLANNEL_MTU";
const IP_MASQ: &str = "FLANNEL_IPMASQ";

impl SubnetEnv {
    /// Reads the text of the file, which flannel may have written.
    ///
    /// Lines that are no `key=value` are passed over, unknown keys too; entries of a list that are no subnets are
    /// skipped as long as one is left.
    ///
    /// # Errors
    ///
    /// [`SubnetEnvError::Missing`] and [`SubnetEnvError::BadValue`].
    pub fn parse(text: &str) -> Result<Self, SubnetEnvError> {
        let values = values(text);
        let families = PerFamily {
            v4: host_network(&values, NETWORK, SUBNET)?,
            v6: host_network(&values, IPV6_NETWORK, IPV6_SUBNET)?,
        };
        let mtu = number(&values)?;
        let ip_masq = switch(&values)?;
        let mut missing = Vec::new();
        if families.is_empty() {
            missing.extend([NETWORK, SUBNET]);
        }
        if mtu.is_none() {
            missing.push(MTU);
        }
        if ip_masq.is_none() {
            missing.push(IP_MASQ);
        }
        match (mtu, ip_masq) {
            (Some(mtu), Some(ip_masq)) if missing.is_empty() => Ok(Self {
                families,
                mtu,
                ip_masq,
            }),
            _ => Err(SubnetEnvError::Missing { keys: missing }),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`SubnetEnvError::Absent`] if it is not there, [`SubnetEnvError::Read`], and those of [`Self::parse`].
    pub fn read(path: &Path) -> Result<Self, SubnetEnvError> {
        Self::parse(&read(path)?)
    }

    /// The subnets that this host had when it last ran, as a wish for its next lease.
    ///
    /// A file that is not there or says nothing useful is no wish, as is a list of several subnets.
    #[must_use]
    pub fn previous_subnets(path: &Path) -> Subnets {
        let text = read(path).unwrap_or_default();
        let values = values(&text);
        Subnets {
            v4: only_subnet(&values, SUBNET),
            v6: only_subnet(&values, IPV6_SUBNET),
        }
    }

    /// The pod networks that this host was in when it last ran; none if the file does not tell.
    #[must_use]
    pub fn previous_networks(path: &Path) -> Vec<crate::Cidr> {
        let Ok(before) = Self::read(path) else {
            return Vec::new();
        };
        let v4 = before.families.v4.into_iter().flat_map(|v4| v4.networks);
        let v6 = before.families.v6.into_iter().flat_map(|v6| v6.networks);
        v4.map(crate::Cidr::V4)
            .chain(v6.map(crate::Cidr::V6))
            .collect()
    }

    /// This host's subnets.
    #[must_use]
    pub fn subnets(&self) -> Subnets {
        Subnets {
            v4: self.families.v4.as_ref().map(|v4| v4.subnet),
            v6: self.families.v6.as_ref().map(|v6| v6.subnet),
        }
    }

    /// Puts the file in place at once: a reader sees the old text or the new one, never a part.
    ///
    /// The directory is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`SubnetEnvError::Write`].
    pub fn write_atomic(&self, path: &Path) -> Result<(), SubnetEnvError> {
        self.replace(path).map_err(|source| SubnetEnvError::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
        let mut draft_name = std::ffi::OsString::from(".");
        draft_name.push(name);
        draft_name.push(".new");
        let draft_path = directory.join(draft_name);
        // A draft that a killed daemon left is simply written over.
        let mut draft = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&draft_path)?;
        // The umask does not count: every user may read the file, as with flannel.
        draft.set_permissions(Permissions::from_mode(0o644))?;
        draft.write_all(self.to_string().as_bytes())?;
        // Without this a power loss could leave the new name with an empty file.
        draft.sync_all()?;
        fs::rename(&draft_path, path)
    }
}

/// The text of the file as flannel writes it: order of the lines, the first address of the subnet instead of its network
/// address, LF at the end of every line.
impl fmt::Display for SubnetEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(v4) = &self.families.v4 {
            writeln!(f, "{NETWORK}={}", list(&v4.networks))?;
            writeln!(
                f,
                "{SUBNET}={}/{}",
                v4.subnet.first_address(),
                v4.subnet.prefix()
            )?;
        }
        if let Some(v6) = &self.families.v6 {
            writeln!(f, "{IPV6_NETWORK}={}", list(&v6.networks))?;
            writeln!(
                f,
                "{IPV6_SUBNET}={}/{}",
                v6.subnet.first_address(),
                v6.subnet.prefix()
            )?;
        }
        writeln!(f, "{MTU}={}", self.mtu)?;
        writeln!(f, "{IP_MASQ}={}", self.ip_masq)
    }
}

fn list<C: fmt::Display>(entries: &[C]) -> String {
    entries
        .iter()
        .map(C::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn read(path: &Path) -> Result<String, SubnetEnvError> {
    let unreadable = |source| SubnetEnvError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SubnetEnvError::Absent {
                path: path.to_owned(),
            });
        }
        Err(source) => return Err(unreadable(source)),
    };
    let mut bytes = vec![0; USUAL];
    // One read is enough for the usual file: one that gives less than asked for has met its end.
    let mut file = file.take(LONGEST);
    let length = file.read(&mut bytes).map_err(unreadable)?;
    bytes.truncate(length);
    if length == USUAL {
        file.read_to_end(&mut bytes).map_err(unreadable)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last value of every key. Flannel's reader takes dotenv syntax, so `export` and quotes are allowed.
fn values(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let key = key.strip_prefix("export ").unwrap_or(key).trim_start();
    let value = value.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((key, unquoted.unwrap_or(value)))
}

fn host_network<C: IpCidr>(
    values: &BTreeMap<&str, &str>,
    network_key: &'static str,
    subnet_key: &'static str,
) -> Result<Option<HostNetwork<C>>, SubnetEnvError> {
    let (networks, subnet) = match (values.get(network_key), values.get(subnet_key)) {
        (Some(networks), Some(subnet)) => (*networks, *subnet),
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(SubnetEnvError::Missing {
                keys: vec![network_key],
            });
        }
        (Some(_), None) => {
            return Err(SubnetEnvError::Missing {
                keys: vec![subnet_key],
            });
        }
    };
    let networks = subnets::<C>(networks);
    if networks.is_empty() {
        return Err(bad_value(
            network_key,
            "a subnet or a list of them joined by commas",
            values,
        ));
    }
    match subnets::<C>(subnet).as_slice() {
        &[subnet] => Ok(Some(HostNetwork { networks, subnet })),
        _ => Err(bad_value(subnet_key, "one subnet", values)),
    }
}

/// The entries of a list that are subnets of the family, host bits cleared, each once.
fn subnets<C: IpCidr>(list: &str) -> Vec<C> {
    let mut subnets = Vec::new();
    for entry in list.split(',') {
        let Ok(subnet) = C::parse_masked(entry.trim()) else {
            continue;
        };
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    subnets
}

fn only_subnet<C: IpCidr>(values: &BTreeMap<&str, &str>, key: &str) -> Option<C> {
    match subnets::<C>(values.get(key)?).as_slice() {
        &[subnet] => Some(subnet),
        _ => None,
    }
}

fn number(values: &BTreeMap<&str, &str>) -> Result<Option<u32>, SubnetEnvError> {
    let number = values.get(MTU).map(|text| text.parse()).transpose();
    number.map_err(|_| bad_value(MTU, "a number of bytes", values))
}

/// Go's `strconv.ParseBool`, by which flannel's CNI program reads the value.
fn switch(values: &BTreeMap<&str, &str>) -> Result<Option<bool>, SubnetEnvError> {
    match values.get(IP_MASQ).copied() {
        None => Ok(None),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(Some(true)),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(Some(false)),
        Some(_) => Err(bad_value(IP_MASQ, "true or false", values)),
    }
}

fn bad_value(
    key: &'static str,
    expected: &'static str,
    values: &BTreeMap<&str, &str>,
) -> SubnetEnvError {
    let found = shortened(values.get(key).copied().unwrap_or_default());
    SubnetEnvError::BadValue {
        key,
        expected,
        found,
    }
}
