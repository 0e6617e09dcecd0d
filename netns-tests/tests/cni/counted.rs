//! What the CNI program leaves behind of its calls, for the daemon's metrics.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use ipam::operations::{Operations, Verb};
use netns_tests::{Endpoint, Host};

use crate::scene::{Call, both};

/// How many calls of a verb ended with a code.
type Counts = BTreeMap<(Verb, u32), u64>;

fn counts(host: &Host) -> Result<Counts> {
    let counted = Operations::at(&host.path("/run/loden/operations")).read()?;
    let mut counts = Counts::new();
    for one in counted {
        ensure!(!one.tally.duration().is_zero(), "no time passed: {one:?}");
        counts.insert((one.verb, one.code), one.tally.count());
    }
    Ok(counts)
}

pub(crate) fn calls_are_counted_with_their_codes() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        ensure!(counts(&host)?.is_empty(), "{:?}", counts(&host)?);
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
        // The container is attached already.
        Call::new("ADD", &netns, &plugin).run(&host)?.refusal(101)?;
        Call::new("STATUS", "", &plugin).run(&host)?.silent()?;
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        Call::new("ADD", "/run/netns/none", &plugin)
            .run(&host)?
            .refusal(3)?;
        Call::new("ADD", &netns, &plugin)
            .stdin("{")
            .run(&host)?
            .refusal(6)?;
        Call::new("FETCH", &netns, &plugin).run(&host)?.refusal(4)?;
        Call::new("VERSION", "", &plugin).run(&host)?.result()?;
        let expected = Counts::from([
            ((Verb::Add, 0), 1),
            ((Verb::Add, 3), 1),
            ((Verb::Add, 6), 1),
            ((Verb::Add, 101), 1),
            ((Verb::Del, 0), 2),
            ((Verb::Status, 0), 1),
            ((Verb::Unknown, 4), 1),
        ]);
        let counted = counts(&host)?;
        ensure!(counted == expected, "{counted:?}");
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn a_place_for_counters_that_is_none_disturbs_no_call() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        // A file where the directory should be.
        host.sh("mkdir -p /run/loden && echo mine > /run/loden/operations")?;
        Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        let left = host.sh("cat /run/loden/operations")?;
        ensure!(left.trim() == "mine", "{left}");
        pod.delete()?;
    }
    Ok(())
}
