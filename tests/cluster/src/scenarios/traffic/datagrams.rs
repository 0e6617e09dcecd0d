//! A stream of UDP to a Service whose only backend is replaced: the kernel's record of the former one must not swallow the stream.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::bench::Bench;
use crate::workload::{addresses, host_name, pod, service};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.nodes[1].name.clone();
    let target = service("replaced", ("app", "replaced"), json!({}));
    let backend =
        |bench: &Bench, name: &str| pod(&bench.args, name, &node, json!({"app": "replaced"}));
    let first = backend(bench, "former");
    bench.kubectl.apply(vec![target, first])?;
    bench.ready(&["former".to_owned()], 120)?;
    let service = bench.our("service", "replaced")?;
    let clients = [
        format!("pod-{}", bench.nodes[0].name),
        host_name(&bench.nodes[0].name),
    ];
    let targets = addresses(&service);
    for client in &clients {
        let at = client.clone();
        bench.undo("the stream of UDP", move |bench| {
            bench.in_pod(&at, "rm -f /tmp/flows").map(drop)
        });
        bench.in_pod(client, &flow(&targets))?;
    }
    each(bench, &clients, &targets, "former")?;
    let second = backend(bench, "latter");
    bench.kubectl.apply(vec![second])?;
    bench.delete(&["pod", "former", "--wait=false"])?;
    bench.ready(&["latter".to_owned()], 120)?;
    let begun = Instant::now();
    let result = each(bench, &clients, &targets, "latter");
    let value = format!("{:.1} s", begun.elapsed().as_secs_f64());
    bench.check_result("UDP whose backend is replaced", result)?;
    bench.report.figure(
        "UDP reaches the new backend after it is ready, at most",
        value,
    );
    Ok(())
}

/// Sends for as long as `/tmp/flows` is there, to each target from one and the same port, so that it stays one flow, and
/// notes each answer in a line.
fn flow(targets: &[String]) -> String {
    let mut script = "touch /tmp/flows; rm -f /tmp/flow.*;".to_owned();
    for (i, target) in targets.iter().enumerate() {
        let target = target.trim_matches(['[', ']']);
        script += &format!(
            " (while [ -e /tmp/flows ]; do {{ echo hostname | nc -u -w 1 -p 5555 {target} 81; echo; }} >>/tmp/flow.{i} 2>/dev/null; sleep 0.2; done) \
             </dev/null >/dev/null 2>&1 &"
        );
    }
    script
}

/// Waits until the newest answer to each stream is this pod's.
fn each(bench: &mut Bench, clients: &[String], targets: &[String], from: &str) -> Result<()> {
    for client in clients {
        for i in 0..targets.len() {
            bench.wait(
                &format!("{from} answers {client}"),
                Duration::from_secs(40),
                |bench| {
                    let said = bench.in_pod(client, &format!("tail -n 1 /tmp/flow.{i}"))?;
                    Ok(if said.trim() == from {
                        Ok(())
                    } else {
                        Err(format!("{said:?}"))
                    })
                },
            )?;
        }
    }
    Ok(())
}
