//! The manifest of the project, with the image and the pod network of this cluster.

use anyhow::{Context, Result, bail};

use crate::args::Args;

/// Its namespace.
pub(crate) const NAMESPACE: &str = "kube-flannel";
/// Its DaemonSet.
pub(crate) const DAEMON_SET: &str = "kube-flannel-ds";
/// Its ConfigMap.
pub(crate) const CONFIG_MAP: &str = "kube-flannel-cfg";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// What is applied.
    pub(crate) text: String,
    /// The one beside it that takes everything away again.
    pub(crate) uninstall: String,
}

impl Manifest {
    /// The file, changed as an operator changes it.
    pub(crate) fn read(args: &Args, dual: bool) -> Result<Self> {
        let file = args.manifest.display();
        let text = std::fs::read_to_string(&args.manifest)
            .with_context(|| format!("cannot read the manifest {file}"))?;
        let uninstall = args.manifest.with_file_name("uninstall.yml");
        let uninstall = std::fs::read_to_string(&uninstall)
            .with_context(|| format!("cannot read {} beside the manifest", uninstall.display()))?;
        Self::changed(
            &text,
            &uninstall,
            args.image.as_deref(),
            &args.pod_network,
            dual,
        )
        .with_context(|| format!("{file}"))
    }

    fn changed(
        text: &str,
        uninstall: &str,
        image: Option<&str>,
        networks: &[String],
        dual: bool,
    ) -> Result<Self> {
        let its = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("image: "))
            .context("names no image")?;
        let image = image.unwrap_or(its).to_owned();
        let Some(v4) = networks.iter().find(|network| !network.contains(':')) else {
            bail!("--pod-network has no network of IPv4");
        };
        let mut network = format!("\"Network\": \"{v4}\"");
        if dual {
            let v6 = networks.iter().find(|network| network.contains(':'));
            let v6 = v6.context("the nodes have pod subnets of IPv6, --pod-network has none")?;
            network += &format!(",\n      \"EnableIPv6\": true,\n      \"IPv6Network\": \"{v6}\"");
        }
        let standard = "\"Network\": \"10.244.0.0/16\"";
        if !text.contains(standard) {
            bail!("has no {standard}");
        }
        Ok(Self {
            uninstall: uninstall.replace(its, &image),
            text: text.replace(its, &image).replace(standard, &network),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNINSTALL: &str = include_str!("../../../manifests/uninstall.yml");

    #[test]
    fn image_and_network_are_those_of_the_cluster() {
        let text = include_str!("../../../manifests/kube-flannel.yml");
        let networks = ["10.1.0.0/16".to_owned(), "fd00:1::/56".to_owned()];
        let manifest = Manifest::changed(
            text,
            UNINSTALL,
            Some("example.org/loden:2"),
            &networks,
            true,
        );
        let manifest = manifest.expect("the manifest is as expected");
        assert_eq!(
            manifest
                .text
                .matches("image: example.org/loden:2\n")
                .count(),
            2
        );
        assert!(!manifest.text.contains("localhost/loden"));
        assert!(!manifest.uninstall.contains("localhost/loden"));
        assert!(manifest.text.contains("\"Network\": \"10.1.0.0/16\",\n"));
        assert!(
            manifest
                .text
                .contains("\"IPv6Network\": \"fd00:1::/56\",\n")
        );
        let single = Manifest::changed(text, UNINSTALL, None, &networks, false).expect("as above");
        assert!(!single.text.contains("EnableIPv6"));
        assert!(single.text.contains("image: localhost/loden:0.1.0\n"));
    }

    #[test]
    fn a_network_of_ipv6_is_needed_for_both_families() {
        let text = include_str!("../../../manifests/kube-flannel.yml");
        let networks = ["10.1.0.0/16".to_owned()];
        let error = Manifest::changed(text, UNINSTALL, None, &networks, true).expect_err("no IPv6");
        assert!(error.to_string().contains("--pod-network has none"));
    }
}
