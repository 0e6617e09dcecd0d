//! The scenarios, in the order in which an operator meets them, and what surrounds each.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, NAMESPACE};
use crate::manifest::{self, DAEMON_SET};
use crate::report::Outcome;
use crate::{interrupt, workload};

mod churn;
mod install;
mod mistakes;
mod nodes;
mod operations;
mod reboot;
mod traffic;
mod uninstall;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) about: &'static str,
    /// How long it takes on a cluster with nothing else to do.
    pub(crate) expected: Duration,
    run: fn(&mut Bench) -> Result<()>,
}

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "install",
        about: "kubectl apply on nodes without a pod network",
        expected: Duration::from_secs(30),
        run: install::run,
    },
    Scenario {
        name: "traffic",
        about: "every way from everywhere to everywhere",
        expected: Duration::from_secs(120),
        run: traffic::run,
    },
    Scenario {
        name: "churn",
        about: "many pods made and deleted at once, also while flanneld is killed",
        expected: Duration::from_secs(420),
        run: churn::run,
    },
    Scenario {
        name: "operations",
        about: "restart, upgrade, outages under a stream of packets",
        expected: Duration::from_secs(400),
        run: operations::run,
    },
    Scenario {
        name: "reboot",
        about: "of a node, twice, once without the API server",
        expected: Duration::from_secs(150),
        run: reboot::run,
    },
    Scenario {
        name: "nodes",
        about: "that come back with another subnet, without one, or are new",
        expected: Duration::from_secs(180),
        run: nodes::run,
    },
    Scenario {
        name: "mistakes",
        about: "of users: each is told where one looks first",
        expected: Duration::from_secs(240),
        run: mistakes::run,
    },
    Scenario {
        name: "uninstall",
        about: "the documented way; nodes are as before the install",
        expected: Duration::from_secs(60),
        run: uninstall::run,
    },
];

/// Runs these, and puts back whatever they changed.
pub(crate) fn run(bench: &mut Bench, scenarios: &[Scenario]) {
    let prepared = prepare(bench);
    match prepared {
        Ok(()) => {
            for scenario in scenarios {
                one(bench, scenario);
            }
        }
        Err(error) => {
            bench
                .report
                .begin("prepare", "a namespace and a pod on each node's network");
            bench
                .report
                .check("prepared", Outcome::Failed(format!("{error:#}")));
        }
    }
    bench.put_back(0);
}

fn one(bench: &mut Bench, scenario: &Scenario) {
    if interrupt::asked() {
        return;
    }
    bench.report.begin(scenario.name, scenario.about);
    // What install does stays for the others.
    let mark = if scenario.name == "install" {
        usize::MAX
    } else {
        bench.mark()
    };
    let result = if scenario.name == "install" || installed(bench).unwrap_or(false) {
        (scenario.run)(bench)
    } else {
        bench.skip(
            "all of it",
            "there is no pod network; the scenario install was not run or failed",
        );
        Ok(())
    };
    if let Err(error) = result {
        bench
            .report
            .check("to the end", Outcome::Failed(format!("{error:#}")));
    }
    bench.put_back(mark);
    bench.report.end();
}

fn prepare(bench: &mut Bench) -> Result<()> {
    let remove = |bench: &mut Bench| {
        let words = [
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--wait=false",
        ];
        bench.kubectl.run(&words)?;
        bench.wait_gone(NAMESPACE, Duration::from_secs(180))
    };
    // Of a run that was killed.
    remove(bench)?;
    bench.undo("the namespace", remove);
    bench.kubectl.apply(vec![workload::namespace()])?;
    let hosts = bench
        .nodes
        .iter()
        .map(|node| workload::host(&bench.args, &node.name));
    bench.kubectl.apply(hosts.collect())?;
    let names: Vec<String> = bench
        .nodes
        .iter()
        .map(|node| workload::host_name(&node.name))
        .collect();
    bench.ready(&names, 120).map(drop)
}

/// Whether there is a DaemonSet of ours or of flannel's.
pub(crate) fn installed(bench: &Bench) -> Result<bool> {
    let words = [
        "get",
        "daemonset",
        "-n",
        manifest::NAMESPACE,
        DAEMON_SET,
        "--ignore-not-found",
        "-o",
        "name",
    ];
    Ok(!bench.kubectl.run(&words)?.is_empty())
}
