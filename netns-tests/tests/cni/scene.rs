//! A host with a subnet, conflists, and calls of the program with any environment and any stdin.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{Endpoint, Host, Lab, Snapshot, programs};
use serde_json::{Value, json};

/// flannel's default conflist, as its manifest has it.
pub(crate) const FLANNEL: &str = include_str!("flannel.conflist");

/// The conflist of this project.
pub(crate) const OURS: &str = include_str!("../../../manifests/10-flannel.conflist");

/// `subnet.env` of a host with the subnet 10.244.1.0/24.
pub(crate) const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// The same with the subnet fd00:0:0:1::/64 beside it.
pub(crate) const DUAL_STACK_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
    FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n\
    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// The config of the routed attachment.
pub(crate) fn routed() -> Value {
    json!({"type": "flannel", "delegate": {"type": "ptp"}})
}

/// The config of the bridge attachment, as flannel's manifest has it.
pub(crate) fn bridge() -> Value {
    json!({"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}})
}

/// A conflist of one plugin.
pub(crate) fn alone(plugin: &Value) -> String {
    json!({"name": "cbr0", "cniVersion": "1.1.0", "plugins": [plugin]}).to_string()
}

/// A lab with one host that has a subnet.
pub(crate) fn host() -> Result<(Lab, Host)> {
    let lab = Lab::new()?;
    let host = lab.host("node")?;
    give_subnet(&host, SUBNET_ENV)?;
    Ok((lab, host))
}

/// A lab with a host for each attachment.
pub(crate) fn both() -> Result<(Lab, [(Host, Value); 2])> {
    let lab = Lab::new()?;
    let [one, other] = lab.hosts(["routed", "bridged"])?;
    give_subnet(&one, SUBNET_ENV)?;
    give_subnet(&other, SUBNET_ENV)?;
    Ok((lab, [(one, routed()), (other, bridge())]))
}

/// The host after a first pod has come and gone: what is left then is there to stay (directories, the bridge).
pub(crate) fn used(host: &Host, conflist: &str) -> Result<Snapshot> {
    host.pod_spec("first")
        .conflist(conflist)
        .attach()?
        .delete()?;
    host.snapshot()
}

/// An error that shows what has changed on the host, if something has; the pool's index does not count, which grows with
/// the number of addresses that were ever in use, nor do host-local's lock and its last address.
pub(crate) fn unchanged(host: &Host, before: &Snapshot) -> Result<()> {
    let mut difference = host.snapshot()?.diff(before);
    for lines in [&mut difference.gone, &mut difference.new] {
        lines.retain(|line| {
            !line.contains("/cbr0/slots-")
                && !line.contains("/cbr0/lock ")
                && !line.contains("/cbr0/last_reserved_ip.")
        });
    }
    ensure!(difference.is_empty(), "the host changed:\n{difference}");
    Ok(())
}

/// What `ip` tells with these arguments.
pub(crate) fn ip_json(place: &impl Endpoint, arguments: &[&str]) -> Result<Value> {
    let mut words = vec!["ip", "-j", "-d"];
    words.extend(arguments);
    Ok(serde_json::from_str(&place.exec(words)?)?)
}

/// Writes what the daemon would.
pub(crate) fn give_subnet(host: &Host, text: &str) -> Result<()> {
    let path = host.path("/run/flannel/subnet.env");
    fs::create_dir_all(path.parent().context("no directory")?)?;
    Ok(fs::write(path, text)?)
}

/// One call of the program.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    environment: BTreeMap<String, String>,
    stdin: String,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Call {
    /// A complete call about `eth0` of container `c1`.
    pub(crate) fn new(verb: &str, netns: &str, plugin: &Value) -> Self {
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", netns),
            ("CNI_PATH", "/usr/lib/cni"),
        ];
        let mut config = plugin.clone();
        config["name"] = json!("cbr0");
        if config["cniVersion"].is_null() {
            config["cniVersion"] = json!("1.1.0");
        }
        Self {
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            stdin: config.to_string(),
        }
    }

    /// With this variable; an empty value is none.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without this variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// With this on stdin.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    /// Runs it on the host.
    pub(crate) fn run(&self, host: &Host) -> Result<Answer> {
        self.run_by(host, &[])
    }

    /// Runs it on the host by another program, such as `strace`.
    pub(crate) fn run_by(&self, host: &Host, wrapper: &[&str]) -> Result<Answer> {
        let mut words: Vec<_> = wrapper.iter().map(PathBuf::from).collect();
        words.push(programs::find("flannel")?);
        self.start(host, &words)
    }

    /// Runs Debian's reference plugin of this name instead.
    pub(crate) fn run_reference(&self, host: &Host, plugin: &str) -> Result<Answer> {
        self.start(host, &[PathBuf::from("/usr/lib/cni").join(plugin)])
    }

    fn start(&self, host: &Host, words: &[PathBuf]) -> Result<Answer> {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = host.run(|| command.spawn())??;
        if let Some(mut stdin) = child.stdin.take() {
            // Whoever refuses without reading closes it.
            let _ = stdin.write_all(self.stdin.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Answer {
            status: output.status,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }
}

impl Answer {
    /// The result of a successful ADD.
    pub(crate) fn result(&self) -> Result<Value> {
        ensure!(self.status.success(), "{self:?}");
        self.document()
    }

    /// Success without a word.
    pub(crate) fn silent(&self) -> Result<()> {
        ensure!(self.status.success() && self.stdout.is_empty(), "{self:?}");
        Ok(())
    }

    /// A refusal with this code; its message.
    pub(crate) fn refusal(&self, code: u64) -> Result<String> {
        ensure!(!self.status.success(), "not refused: {self:?}");
        let document = self.document()?;
        if document["code"] != json!(code) {
            bail!("expected code {code}: {document}");
        }
        let message = document["msg"].as_str().context("no msg")?;
        ensure!(!message.is_empty(), "{document}");
        Ok(message.to_owned())
    }

    /// Exactly one JSON document on stdout.
    fn document(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("stdout is not one document: {self:?}"))
    }
}
