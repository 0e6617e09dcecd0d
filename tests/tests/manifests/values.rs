//! The chart's values, one by one and together.

use anyhow::{Context, Result, ensure};
use flanneld::args::Invocation;
use ipam::{Backend, NetConf, Vni};
use loden_tests::kube::NAMESPACE;
use loden_tests::kube::render::{chart, documents};
use serde_json::{Value, json};

use crate::Programs;
use crate::object::{Objects, objects};

/// A set of values with what it must do to the objects.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) values: &'static str,
    holds: fn(&Rendered) -> bool,
}

/// What the tests look at.
pub(crate) struct Rendered {
    conf: NetConf,
    /// The DaemonSet's pod.
    pod: Value,
    flags: Vec<String>,
}

impl Rendered {
    fn container(&self) -> &Value {
        &self.pod["containers"][0]
    }

    fn mounts_host(&self, name: &str) -> Option<&str> {
        let volumes = self.pod["volumes"].as_array()?;
        let volume = volumes.iter().find(|volume| volume["name"] == name)?;
        volume["hostPath"]["path"].as_str()
    }
}

pub(crate) const CASES: [Case; 14] = [
    Case {
        name: "as it is",
        values: "",
        holds: |r| {
            matches!(r.conf.backend, Backend::Vxlan(_))
                && r.flags == ["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"]
                && r.pod.get("imagePullSecrets").is_none()
        },
    },
    Case {
        name: "dual stack",
        values: "podCidrv6: fd00:10:244::/56",
        holds: |r| r.conf.networks.v4.is_some() && r.conf.networks.v6.is_some(),
    },
    Case {
        name: "IPv6 alone",
        values: "{podCidr: '', podCidrv6: 'fd00:10:244::/56'}",
        holds: |r| r.conf.networks.v4.is_none() && r.conf.networks.v6.is_some(),
    },
    Case {
        name: "host-gw",
        values: "flannel: {backend: host-gw}",
        holds: |r| matches!(r.conf.backend, Backend::HostGw),
    },
    Case {
        name: "alloc",
        values: "flannel: {backend: alloc}",
        holds: |r| matches!(r.conf.backend, Backend::Alloc),
    },
    Case {
        name: "vxlan in detail",
        values: "flannel: {backendPort: 4789, vni: 7, mtu: 1400, GBP: true, directRouting: true}",
        holds: |r| match &r.conf.backend {
            Backend::Vxlan(vxlan) => {
                (vxlan.port, Some(vxlan.vni), vxlan.mtu) == (4789, Vni::new(7), Some(1400))
                    && vxlan.gbp
                    && vxlan.direct_routing
            }
            _ => false,
        },
    },
    Case {
        name: "iptables",
        values: "flannel: {enableNFTables: false}",
        holds: |r| r.conf.enable_nftables == Some(false),
    },
    Case {
        name: "nf_tables",
        values: "flannel: {enableNFTables: true}",
        holds: |r| r.conf.enable_nftables == Some(true),
    },
    Case {
        name: "no conflist",
        values: "flannel: {skipCNIConfigInstallation: true}",
        holds: |r| r.pod["initContainers"][0]["command"][2] == "--skip-conflist",
    },
    Case {
        name: "no probes",
        values: "flannel: {healthz: {port: 0}}",
        holds: |r| {
            let probes = ["startupProbe", "livenessProbe", "readinessProbe", "ports"];
            probes
                .iter()
                .all(|probe| r.container().get(probe).is_none())
                && r.flags == ["--ip-masq", "--kube-subnet-mgr"]
        },
    },
    Case {
        name: "other probes",
        values: "flannel: {healthz: {port: 9999, livenessProbe: {periodSeconds: 7}}}",
        holds: |r| {
            r.container()["livenessProbe"]["periodSeconds"] == 7
                && r.container()["ports"][0]["containerPort"] == 9999
                && r.flags.contains(&"--healthz-port=9999".to_owned())
        },
    },
    Case {
        name: "a private registry",
        values: "{global: {imagePullSecrets: [{name: a}, {name: b}]}, flannel: {image: {repository: registry.example.org/loden, tag: v2}}}",
        holds: |r| {
            let image = "registry.example.org/loden:v2";
            r.pod["imagePullSecrets"] == json!([{"name": "a"}, {"name": "b"}])
                && r.container()["image"] == image
                && r.pod["initContainers"][0]["image"] == image
        },
    },
    Case {
        name: "the node's directories, and more flags",
        values: "flannel: {cniBinDir: /usr/libexec/cni, cniConfDir: /var/cni, args: [--kube-subnet-mgr, '--iface-regex=eth[0-9]', -v=1]}",
        holds: |r| {
            r.mounts_host("cni-bin") == Some("/usr/libexec/cni")
                && r.mounts_host("cni-conf") == Some("/var/cni")
                && r.flags[1] == "--iface-regex=eth[0-9]"
        },
    },
    Case {
        name: "where and how it runs",
        values: "flannel: {nodeSelector: {a: b}, tolerations: [{key: k, operator: Exists}], resources: {limits: {memory: 99Mi}}, maxUnavailable: 3}",
        holds: |r| {
            r.pod["nodeSelector"] == json!({"a": "b"})
                && r.pod["tolerations"] == json!([{"key": "k", "operator": "Exists"}])
                && r.container()["resources"]["limits"]["memory"] == "99Mi"
        },
    },
];

pub(crate) fn each_reaches_its_object(programs: &Programs) -> Result<()> {
    for case in CASES {
        let yaml = chart(&programs[0], NAMESPACE, case.values).context(case.name)?;
        let rendered = look(&objects(documents(&yaml)?)?).context(case.name)?;
        ensure!((case.holds)(&rendered), "{}: {yaml}", case.name);
    }
    Ok(())
}

/// Reads the objects as the daemon and the kubelet do.
fn look(objects: &Objects) -> Result<Rendered> {
    let object = |key: &str| objects.get(key).with_context(|| format!("no {key}"));
    let data = &object("ConfigMap kube-flannel-cfg")?["data"];
    let conf = NetConf::parse(data["net-conf.json"].to_string().as_bytes())?;
    ensure!(data["cni-conf.json"]["plugins"].is_array(), "no conflist");
    let pod = object("DaemonSet kube-flannel-ds")?["spec"]["template"]["spec"].clone();
    let flags: Vec<String> = serde_json::from_value(pod["containers"][0]["args"].clone())?;
    Invocation::read(flags.clone(), [])?;
    Ok(Rendered { conf, pod, flags })
}
