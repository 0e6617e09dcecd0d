//! STATUS: whether an ADD would succeed.

use std::time::Duration;

use serde_json::Value;

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::scene::Scene;
use crate::conform::spec::Verb;
use crate::conform::subject::{Kind, SMALL_POOL_SIZE};
use crate::endpoint::Endpoint;

const STATUS: &str = "spec: STATUS";

/// containerd asks under a lock and without a deadline of its own; this leaves room for a busy machine.
const QUICK: Duration = Duration::from_secs(1);

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "status.ready",
        Verb::Status,
        STATUS,
        "STATUS succeeds when ADD does",
        ready,
    ),
    Check::expected(
        "status.silent",
        Verb::Status,
        "libcni",
        "STATUS prints nothing to standard output",
        silent,
    ),
    Check::must(
        "status.no-container-variables",
        Verb::Status,
        STATUS,
        "STATUS needs no variable about a container",
        no_container_variables,
    ),
    Check::expected(
        "status.changes-nothing",
        Verb::Status,
        STATUS,
        "STATUS changes nothing",
        changes_nothing,
    ),
    Check::quality(
        "status.quick",
        Verb::Status,
        "containerd, CRI-O",
        "STATUS answers within a second",
        quick,
    ),
    Check::must(
        "status.exhausted",
        Verb::Status,
        STATUS,
        "STATUS fails with code 50 or 51 when there is no address left",
        exhausted,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::must(
        "status.not-ready",
        Verb::Status,
        STATUS,
        "STATUS fails with code 50 or 51 when the plugin's daemon has not done its part",
        not_ready,
    ),
];

fn ready(scene: &Scene<'_>) -> Verdict {
    scene.bare(Verb::Status).run()?.success()?;
    scene.attached()?;
    scene.bare(Verb::Status).run()?.success()
}

fn silent(scene: &Scene<'_>) -> Verdict {
    let answer = scene.bare(Verb::Status).run()?;
    needed("STATUS", answer.success())?;
    answer.silent()
}

fn no_container_variables(scene: &Scene<'_>) -> Verdict {
    // None is set by `bare`.
    scene.bare(Verb::Status).run()?.success()
}

fn changes_nothing(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    needed("STATUS", scene.bare(Verb::Status).run()?.success())?;
    scene.host.state()?.same_as(&before)
}

fn quick(scene: &Scene<'_>) -> Verdict {
    let answer = scene.bare(Verb::Status).run()?;
    needed("STATUS", answer.success())?;
    require(answer.elapsed < QUICK, || {
        format!("it took {} ms", answer.elapsed.as_millis())
    })
}

fn exhausted(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    needed("STATUS", scene.bare(Verb::Status).run()?.success())?;
    let attached: Vec<Value> = (0..SMALL_POOL_SIZE)
        .map(|_| scene.attached().map(|attached| attached.result))
        .collect::<Verdict<_>>()?;
    drop(attached);
    let answer = scene.bare(Verb::Status).run()?;
    answer.refused_with(&[50, 51]).map(drop)
}

fn not_ready(scene: &Scene<'_>) -> Verdict {
    let Some(line) = scene.subject.unready else {
        return inapplicable("the runner does not know how to make this plugin unable to ADD");
    };
    scene.host.sh(line)?;
    let answer = scene.bare(Verb::Status).run()?;
    answer.refused_with(&[50, 51]).map(drop)
}
