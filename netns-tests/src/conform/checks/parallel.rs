//! Many calls at once, as after a node's restart.

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, require};
use crate::conform::checks::add::unique;
use crate::conform::kernel;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;

/// How many at once: enough to collide, few enough for a small machine.
const MANY: usize = 16;

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "parallel.first-adds",
        Verb::Add,
        "plugins#366, #369",
        "the very first ADDs of a host may come all at once",
        first_adds,
    ),
    Check::expected(
        "parallel.unique",
        Verb::Add,
        "spec: ADD",
        "ADDs at once give different addresses",
        unique_addresses,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::expected(
        "parallel.dels",
        Verb::Del,
        "spec: DEL",
        "DELs at once succeed and leave nothing",
        dels,
    ),
    Check::expected(
        "parallel.mixed",
        Verb::Add,
        "plugins#335, #418",
        "ADDs and DELs at once succeed",
        mixed,
    ),
    Check::expected(
        "parallel.same-del",
        Verb::Del,
        "containerd's retries",
        "the same DEL twice at once succeeds",
        same_del,
    ),
];

/// Attaches many containers at once.
fn attach_many(scene: &Scene<'_>) -> Verdict<Vec<Attached>> {
    let containers: Vec<_> = (0..MANY)
        .map(|_| scene.container())
        .collect::<anyhow::Result<_>>()?;
    Scene::at_once(&containers, |container| {
        let result = scene.call(Verb::Add, container).run()?.document()?;
        Ok(Attached {
            container: container.clone(),
            result,
        })
    })
}

fn first_adds(scene: &Scene<'_>) -> Verdict {
    for attached in attach_many(scene)? {
        if scene.subject.kind == Kind::Ipam {
            continue;
        }
        let ifname = &attached.container.ifname;
        let link = kernel::link_named(&attached.container, ifname)?;
        require(link.is_some_and(|link| link.up), || {
            format!("{ifname} of {} is not up", attached.container.id)
        })?;
    }
    Ok(())
}

fn unique_addresses(scene: &Scene<'_>) -> Verdict {
    scene.attached()?;
    let attached = needed("ADD at once", attach_many(scene))?;
    unique(attached.iter().map(|attached| &attached.result))
}

fn dels(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    let attached = needed("ADD at once", attach_many(scene))?;
    Scene::at_once(&attached, |attached| scene.detach(attached)?.success())?;
    scene.host.state()?.same_as(&before)
}

fn mixed(scene: &Scene<'_>) -> Verdict {
    scene.settled()?;
    let attached = needed("ADD at once", attach_many(scene))?;
    let fresh: Vec<_> = (0..MANY)
        .map(|_| scene.container())
        .collect::<anyhow::Result<_>>()?;
    let pairs: Vec<_> = attached.iter().zip(&fresh).collect();
    Scene::at_once(&pairs, |(old, new)| {
        let (add, del) = std::thread::scope(|scope| {
            let add = scope.spawn(|| scene.call(Verb::Add, new).run());
            let del = scene.detach(old);
            (add.join(), del)
        });
        let add = add.map_err(|_| anyhow::anyhow!("a thread of the runner panicked"))??;
        add.success()?;
        del?.success()
    })?;
    Ok(())
}

fn same_del(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let twice = [&attached, &attached, &attached];
    Scene::at_once(&twice, |attached| scene.detach(attached)?.success())?;
    Ok(())
}
