//! What may follow a kill. Each has to end with an empty pool and the host as before.

use anyhow::{Result, ensure};
use netns_tests::cni::{self, CniError};
use netns_tests::{Address, Pod, skip};
use serde_json::json;

use crate::scene::{Scene, scenes};
use crate::strike::{Moment, Verb, everywhere};

/// The error code of a verb that a program does not have.
const NO_SUCH_VERB: u64 = 4;

/// The error code for what is attached already.
const ATTACHED: u64 = 101;

/// How many tests share the kills of a long run.
const TESTS: usize = 7;

const BOTH: [Verb; 2] = [Verb::Add, Verb::Del];

fn all(verbs: &[Verb], repair: impl Fn(&Scene, &mut Pod, &Moment) -> Result<()>) -> Result<()> {
    let (_lab, scenes) = scenes()?;
    scenes.iter().try_for_each(|scene| {
        everywhere(
            scene,
            verbs,
            || Ok(()),
            |pod, moment| repair(scene, pod, moment),
            TESTS * scenes.len(),
        )
    })
}

pub(crate) fn a_del_repairs() -> Result<()> {
    all(&BOTH, |_, pod, _| pod.detach())
}

pub(crate) fn a_del_without_netns_repairs() -> Result<()> {
    all(&BOTH, |_, pod, _| {
        pod.lose_netns()?;
        pod.detach()
    })
}

/// As with kubelet: it tries again with a new container, and the old one is detached at some time.
pub(crate) fn the_next_container_repairs() -> Result<()> {
    all(&BOTH, |scene, pod, _| {
        let mut next = scene.container()?;
        next.add()?;
        pod.detach()?;
        next.delete()
    })
}

/// As with Nomad: it tries again with the same container and namespace, without a DEL in between. Only what an ADD had told
/// its runtime, and noted that it had, is an attachment like any other, which is not made twice.
pub(crate) fn the_same_container_again_repairs() -> Result<()> {
    all(&[Verb::Add], |_, pod, moment| {
        let added = pod.add();
        if moment.finished {
            let code = CniError::expected_in(added)?.code;
            ensure!(code == ATTACHED, "refused with code {code}");
        } else {
            added?;
            ensure!(!pod.address().is_unspecified(), "no address");
        }
        pod.detach()
    })
}

pub(crate) fn a_gc_repairs() -> Result<()> {
    all(&BOTH, |scene, pod, _| {
        let mut config = scene.config();
        config["cni.dev/valid-attachments"] = json!([]);
        pod.lose_netns()?;
        let place = netns_tests::Endpoint::namespaces(&scene.host);
        let input = config.to_string();
        let collected = cni::run_plugin(place, "flannel", "GC", pod.attachment(), &input);
        match collected {
            Ok(said) => {
                ensure!(said.is_empty(), "GC said {said}");
                Ok(())
            }
            Err(error) => match error.downcast_ref::<CniError>() {
                Some(refusal) if refusal.code == NO_SUCH_VERB => skip("the program has no GC yet"),
                _ => Err(error),
            },
        }
    })
}

/// What the daemon does when it starts: an ADD that nobody was told of is undone at once, and where a DEL was killed the sandbox
/// is gone too, sooner or later.
pub(crate) fn a_daemon_start_repairs() -> Result<()> {
    let (_lab, scenes) = scenes()?;
    scenes.iter().try_for_each(|scene| {
        let share = 2 * TESTS * scenes.len();
        let after_add = |pod: &mut Pod, moment: &Moment| {
            scene.start_of_the_daemon()?;
            // An attachment like any other stays while there is a pod.
            if moment.finished {
                pod.detach()
            } else {
                Ok(())
            }
        };
        everywhere(scene, &[Verb::Add], || Ok(()), after_add, share)?;
        let after_del = |pod: &mut Pod, _: &Moment| {
            pod.lose_netns()?;
            scene.end_links()?;
            scene.start_of_the_daemon()
        };
        everywhere(scene, &[Verb::Del], || Ok(()), after_del, share)
    })
}

/// The first ADD on a host also makes the pool's directories and the bridge. A killed one may leave them in any state, but
/// the next container finds them well, or puts them right.
pub(crate) fn the_first_container_of_a_host_may_die() -> Result<()> {
    let (_lab, scenes) = scenes()?;
    scenes.iter().try_for_each(|scene| {
        let repair = |pod: &mut Pod, _: &Moment| {
            pod.detach()?;
            scene.use_once()
        };
        let anew = || scene.forget();
        everywhere(scene, &[Verb::Add], anew, repair, TESTS * scenes.len())
    })
}
