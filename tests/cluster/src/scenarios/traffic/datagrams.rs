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
    for address in addresses(&service) {
        for client in &clients {
            answered(bench, client, &address, "former")?;
        }
    }
    let second = backend(bench, "latter");
    bench.kubectl.apply(vec![second])?;
    bench.delete(&["pod", "former", "--wait=false"])?;
    bench.ready(&["latter".to_owned()], 120)?;
    let begun = Instant::now();
    let mut result = Ok(());
    for address in addresses(&service) {
        for client in &clients {
            result = result.and_then(|()| answered(bench, client, &address, "latter"));
        }
    }
    let value = format!("{:.1} s", begun.elapsed().as_secs_f64());
    bench.check_result("UDP whose backend is replaced", result)?;
    bench.report.figure(
        "UDP reaches the new backend after it is ready, at most",
        value,
    );
    Ok(())
}

/// Sends from one and the same port, so that it stays one flow, until this pod answers.
fn answered(bench: &mut Bench, client: &str, address: &str, from: &str) -> Result<()> {
    let address = address.trim_matches(['[', ']']);
    let script = format!("echo hostname | nc -u -w 1 -p 5555 {address} 81");
    bench.wait(
        &format!("{from} answers {client}"),
        Duration::from_secs(40),
        |bench| {
            let said = bench.in_pod(client, &script)?;
            Ok(if said == from {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            })
        },
    )
}
