//! The command line of `flanneld`: flannel's flags with flannel's defaults, and the `FLANNELD_` variables.
//!
//! What the values mean together is checked in [`crate::app`] and by the store; here a flag is only read.

pub mod goflags;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, Parser};

use self::goflags::{Normalised, parse_bool};
use crate::logging::Format;

/// Where flannel's documentation, unit files and manifests expect the file that the CNI program reads.
pub const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// The flags of `flanneld`. Each name, default and meaning is flannel's.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "flanneld",
    about = "Leases this node a subnet of the pod network and keeps the kernel's tunnels, routes and rules true",
    disable_version_flag = true,
    args_override_self = true,
    after_help = "Every flag may be written with one dash or two, and be given as a variable instead: FLANNELD_ETCD_PREFIX for \
                  --etcd-prefix. The command line goes before the variable.\n\
                  Commands, each with --help: status, plan, trace, doctor, install-cni, uninstall-cni, cleanup.\n\
                  Exit status: 0 stopped on request, 1 could not do its work (a supervisor should start it again), 2 wrong flags."
)]
pub struct Args {
    /// etcd servers, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        action = ArgAction::Set,
        num_args = 1,
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379"
    )]
    pub etcd_endpoints: Vec<String>,
    /// Root of all keys in etcd
    #[arg(long, default_value = "/coreos.com/network")]
    pub etcd_prefix: String,
    /// Client key for etcd (PEM file)
    #[arg(long, default_value = "")]
    pub etcd_keyfile: String,
    /// Client certificate for etcd (PEM file)
    #[arg(long, default_value = "")]
    pub etcd_certfile: String,
    /// Certificate authority that etcd's certificate is checked against (PEM file); works without a client certificate
    #[arg(long, default_value = "")]
    pub etcd_cafile: String,
    /// User name for etcd
    #[arg(long, default_value = "")]
    pub etcd_username: String,
    /// Password for etcd; better given as FLANNELD_ETCD_PASSWORD, because other users can read command lines
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etcd_password: String,
    /// Interface (name or address) that carries the traffic between hosts; may be given several times, the first that fits is taken
    #[arg(long)]
    pub iface: Vec<String>,
    /// Pattern for that interface's addresses or name; taken after every --iface
    #[arg(long)]
    pub iface_regex: Vec<regex_lite::Regex>,
    /// Take the interface through which this address is reached
    #[arg(long, value_parser = optional::<std::net::IpAddr>, default_value = "")]
    pub iface_can_reach: OptionalArg<std::net::IpAddr>,
    /// File that tells the CNI program the subnet
    #[arg(long, default_value = SUBNET_FILE)]
    pub subnet_file: PathBuf,
    /// IPv4 address that the other hosts send to
    #[arg(long, value_parser = optional::<Ipv4Addr>, default_value = "")]
    pub public_ip: OptionalArg<Ipv4Addr>,
    /// IPv6 address that the other hosts send to
    #[arg(long, value_parser = optional::<Ipv6Addr>, default_value = "")]
    pub public_ipv6: OptionalArg<Ipv6Addr>,
    /// Minutes before a lease's end at which it is renewed (1 to 1439)
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1439))]
    pub subnet_lease_renew_margin: u16,
    /// Masquerade what leaves the pod network
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub ip_masq: bool,
    /// Let the kernel choose masqueraded ports in its plain order
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub ip_masq_fully_random_disable: bool,
    /// Take subnet and peers from the Kubernetes API instead of etcd
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub kube_subnet_mgr: bool,
    /// Address of the Kubernetes API server, outside a cluster
    #[arg(long, default_value = "")]
    pub kube_api_url: String,
    /// kubeconfig file, outside a cluster
    #[arg(long, default_value = "")]
    pub kubeconfig_file: String,
    /// Prefix of the annotations on Nodes
    #[arg(long, default_value = "flannel.alpha.coreos.com")]
    pub kube_annotation_prefix: String,
    /// Address on which health is served
    #[arg(long, value_parser = any_address, default_value = "0.0.0.0")]
    pub healthz_ip: std::net::IpAddr,
    /// Port on which health is served; 0 serves none
    #[arg(long, default_value_t = 0)]
    pub healthz_port: u16,
    /// Local socket on which `flanneld status` and its like ask the daemon; empty for none
    #[arg(long, default_value = crate::http::socket::DEFAULT_PATH)]
    pub status_socket: PathBuf,
    /// How many peers are asked every 30 seconds, by an echo through the overlay, whether they answer; 0 asks none
    #[arg(long, default_value_t = 16)]
    pub probe_peers: u16,
    /// Seconds between two full comparisons of the rules with the kernel
    #[arg(long, default_value_t = 5)]
    pub iptables_resync: u64,
    /// Accept the pod network's packets in the forward chain
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub iptables_forward_rules: bool,
    /// Keep a blackhole route for this node's own subnet
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub ip_blackhole_route: bool,
    /// Network configuration file (with --kube-subnet-mgr)
    #[arg(long, default_value = "/etc/kube-flannel/net-conf.json")]
    pub net_config_path: PathBuf,
    /// Clear the Node's NetworkUnavailable condition once the network works
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub set_node_network_unavailable: bool,
    /// Print the version and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, action = ArgAction::Set)]
    pub version: bool,
    /// How much is logged: 0 changes and what is wrong, 1 also what is being done, 2 and more everything
    #[arg(long = "v", default_value_t = 0)]
    pub verbosity: u32,
    /// Form of the log: text for people, json for programs (one object a line)
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
    /// Accepted for flannel's sake, without effect
    #[arg(long, hide = true, default_value = "")]
    pub vmodule: String,
    /// Accepted for flannel's sake, without effect
    #[arg(
        long = "log_backtrace_at",
        alias = "log-backtrace-at",
        hide = true,
        default_value = ""
    )]
    pub log_backtrace_at: String,
}

/// What the program was called to do.
#[derive(Debug)]
pub struct Invocation {
    /// The flags, variables merged in.
    pub args: Args,
    /// Sentences about variables that could not be used; start-up goes on without them, as flannel's does.
    pub warnings: Vec<String>,
}

/// An optional value whose absence Go writes as the empty string (`--public-ip=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalArg<T>(pub Option<T>);

impl Invocation {
    /// Reads the command line (`words`, without the program's name) and the `FLANNELD_` variables among `variables`.
    ///
    /// # Errors
    /// clap's own error: wrong flags, or the help text that was asked for.
    pub fn read<W, V>(words: W, variables: V) -> Result<Self, clap::Error>
    where
        W: IntoIterator<Item = String>,
        V: IntoIterator<Item = (String, String)>,
    {
        let command = Args::command();
        let takes_no_word = |name: &str| {
            command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(name))
                .is_none_or(clap::Arg::is_require_equals_set)
        };
        let line = Normalised::from_words(words, takes_no_word);
        if let Some(word) = line.rest.first() {
            return Err(Args::command().error(
                clap::error::ErrorKind::UnknownArgument,
                format!(
                    "'{word}' is neither a flag nor a command of flanneld; see flanneld --help"
                ),
            ));
        }
        // The version is asked for before the environment is looked at, as in flannel.
        let mut warnings = Vec::new();
        let mut flags = line.flags.clone();
        for (name, value) in variables {
            let Some(flag) = name.strip_prefix("FLANNELD_").map(flag_of_variable) else {
                continue;
            };
            if value.is_empty() || line.has(&flag) {
                continue;
            }
            let candidate = format!("--{flag}={value}");
            match Args::try_parse_from(["flanneld".to_owned(), candidate.clone()]) {
                Ok(_) => flags.push(candidate),
                Err(error) => warnings.push(format!(
                    "the variable {name} is ignored: {}",
                    error
                        .to_string()
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                )),
            }
        }
        let args = Args::try_parse_from(std::iter::once("flanneld".to_owned()).chain(flags))?;
        Ok(Self { args, warnings })
    }
}

/// The empty text stands for every address, as in Go.
fn any_address(text: &str) -> Result<std::net::IpAddr, std::net::AddrParseError> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    text.parse()
}

fn flag_of_variable(rest: &str) -> String {
    match rest {
        // The one flag with underscores in its name.
        "LOG_BACKTRACE_AT" => "log_backtrace_at".to_owned(),
        _ => rest.to_ascii_lowercase().replace('_', "-"),
    }
}

fn optional<T>(text: &str) -> Result<OptionalArg<T>, T::Err>
where
    T: std::str::FromStr,
{
    if text.is_empty() {
        return Ok(OptionalArg(None));
    }
    text.parse().map(|value| OptionalArg(Some(value)))
}

#[cfg(test)]
mod tests;
