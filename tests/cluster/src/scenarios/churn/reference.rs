//! Sandbox times of our conflist beside those of the reference plugins, in turn on one and the same node.

use anyhow::Result;
use serde_json::{Value, json};

use super::{deployment, gone, running, scale};
use crate::bench::Bench;
use crate::sandboxes;

/// Where Debian's package has them, and most images of nodes.
const DIRECTORIES: &str = "/usr/lib/cni /opt/cni/bin";
const PLUGINS: &str = "bridge host-local portmap";
const CONFLIST: &str = "/etc/cni/net.d/00-loden-cluster-test.conflist";
const PREFIX: &str = "loden-cluster-test-";

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let name = "sandbox times beside the reference plugins";
    if !bench.has_node_exec(&[name])? {
        return Ok(());
    }
    let Ok(since) = bench.log_ends() else {
        bench.skip(name, "no CONTAINERD_LOG");
        return Ok(());
    };
    let node = bench.nodes[0].name.clone();
    // Names of our own, so that neither ours nor anybody's programs are in the way.
    let copy = format!(
        "for p in {PLUGINS}; do for d in {DIRECTORIES}; do [ -x $d/$p ] && ! strings -n 8 $d/$p 2>/dev/null | grep -q LodenIP \
         && cp $d/$p /opt/cni/bin/{PREFIX}$p && continue 2; done; exit 1; done"
    );
    if !bench.on_node(&node, &copy)?.success {
        bench.skip(
            name,
            &format!("{PLUGINS} are not in {DIRECTORIES} of {node}"),
        );
        return Ok(());
    }
    let at = node.clone();
    bench.undo("the reference plugins", move |bench| {
        let remove = format!(
            "rm -rf {CONFLIST} /opt/cni/bin/{PREFIX}* /var/lib/cni/networks/{PREFIX}net; ip link del lodentest0; true"
        );
        bench.on_node(&at, &remove)?.ok("NODE_EXEC").map(drop)
    });
    let pods = bench.args.pods;
    bench.args.pods = pods.div_ceil(bench.nodes.len());
    let result = both(bench, &node, &since);
    bench.args.pods = pods;
    result
}

fn both(bench: &mut Bench, node: &str, since: &[usize]) -> Result<()> {
    let only = deployment(bench, &[node.to_owned()]);
    bench.kubectl.apply(vec![only])?;
    let ours = times(bench, since)?;
    let write = format!("printf %s '{}' > {CONFLIST}", conflist());
    bench.on_node(node, &write)?.ok("NODE_EXEC")?;
    let since = bench.log_ends()?;
    let theirs = times(bench, &since);
    bench
        .on_node(node, &format!("rm {CONFLIST}"))?
        .ok("NODE_EXEC")?;
    let pods = bench.args.pods;
    bench.report.figure(
        &format!("{pods} pods at once on {node}, sandboxes with Loden"),
        ours,
    );
    bench.report.figure(
        "the same with the reference's bridge, host-local and portmap",
        theirs?,
    );
    Ok(())
}

fn times(bench: &mut Bench, since: &[usize]) -> Result<String> {
    let pods = bench.args.pods;
    scale(bench, pods)?;
    running(bench, &mut |_| Ok(()))?;
    scale(bench, 0)?;
    gone(bench, &mut || Ok(()))?;
    let text = sandboxes::told(&bench.sandboxes(since, "churn-")?);
    Ok(text)
}

fn conflist() -> Value {
    json!({
        "name": format!("{PREFIX}net"), "cniVersion": "1.0.0",
        "plugins": [
            {"type": format!("{PREFIX}bridge"), "bridge": "lodentest0", "isGateway": true, "hairpinMode": true,
             "ipam": {"type": format!("{PREFIX}host-local"), "ranges": [[{"subnet": "198.18.0.0/22"}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": format!("{PREFIX}portmap"), "capabilities": {"portMappings": true}},
        ]
    })
}
