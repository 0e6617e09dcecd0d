//! Sandbox times of our conflist beside those of the reference plugins, in turn on one and the same node.

use anyhow::Result;
use serde_json::{Value, json};

use super::{deployment, gone, running, scale};
use crate::bench::Bench;
use crate::sandboxes::{self, Times};

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
    if bench.args.hooks.containerd_log.is_none() {
        bench.skip(name, "no CONTAINERD_LOG");
        return Ok(());
    }
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
    // Two turns of each.
    bench.args.pods = pods.div_ceil(2 * bench.nodes.len());
    let result = in_turn(bench, &node);
    bench.args.pods = pods;
    result
}

/// What was measured of one conflist.
#[derive(Default)]
struct Measured {
    sandboxes: Vec<f64>,
    network: Times,
}

/// Ours, theirs, theirs, ours: what the machine does meanwhile, and what a turn leaves for the next, concerns both.
fn in_turn(bench: &mut Bench, node: &str) -> Result<()> {
    let only = deployment(bench, &[node.to_owned()]);
    bench.kubectl.apply(vec![only])?;
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    turn(bench, &mut ours)?;
    let write = format!("printf %s '{}' > {CONFLIST}", conflist());
    bench.on_node(node, &write)?.ok("NODE_EXEC")?;
    let result = turn(bench, &mut theirs).and_then(|()| turn(bench, &mut theirs));
    let remove = format!("rm {CONFLIST}");
    bench.on_node(node, &remove)?.ok("NODE_EXEC")?;
    result?;
    turn(bench, &mut ours)?;
    let pods = bench.args.pods;
    let whose = [
        ("Loden", ours),
        ("the reference's bridge, host-local and portmap", theirs),
    ];
    for (whose, measured) in whose {
        let name = format!("twice {pods} pods at once on {node} with {whose}");
        bench.report.figure(
            &format!("{name}, sandboxes"),
            sandboxes::told(&measured.sandboxes),
        );
        bench
            .report
            .figure(&format!("{name}, their network"), measured.network.told());
    }
    Ok(())
}

fn turn(bench: &mut Bench, measured: &mut Measured) -> Result<()> {
    let since = bench.log_ends()?;
    let counted = bench.network_times();
    let pods = bench.args.pods;
    scale(bench, pods)?;
    running(bench, &mut |_| Ok(()))?;
    let times = bench.sandboxes(&since, "churn-")?;
    measured.sandboxes.extend(times);
    scale(bench, 0)?;
    gone(bench, &mut || Ok(()))?;
    // Without metrics there are the times of the log.
    match counted {
        Ok(counted) => bench.add_network_times(&mut measured.network, &counted),
        Err(_) => Ok(()),
    }
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
