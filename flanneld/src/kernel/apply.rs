//! Doing the steps of a plan, and saying what was done.

use std::collections::BTreeSet;

use hostnet::nft;
use hostnet::{Change, LinkName, NewLink, NewLinkKind, Refused, sysctl};
use tracing::{debug, warn};

use super::worker::Worker;
use crate::desired::Desired;
use crate::reconcile::{Action, DEFAULT_PORT, Object, Plan, Step};

/// So many steps are logged one by one; more are counted.
pub(super) const STEPS_TOLD: usize = 24;

/// Why a comparison is made, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something else is wanted.
    Wanted,
    /// The kernel was changed, or a timer ran out.
    #[default]
    Changed,
}

/// What became of the steps of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: BTreeSet<Object>,
    pub(super) refused: Option<String>,
    /// How many steps were refused.
    refusals: usize,
}

impl Outcome {
    fn refuse(&mut self, reason: String) {
        self.refusals += 1;
        self.refused = Some(match self.refused.take() {
            None => reason,
            Some(before) => format!("{before}; {reason}"),
        });
    }
}

impl Worker {
    /// Does the steps, all of those that can be done.
    pub(super) fn apply(&mut self, desired: &Desired, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        let (steps, changes): (Vec<&Step>, Vec<Change>) = plan
            .steps
            .iter()
            .filter_map(|step| Some((step, step.change()?)))
            .unzip();
        let mut failed = BTreeSet::new();
        if let Err(refusals) = self.netlink.apply(&changes) {
            for refusal in &refusals {
                // What is already gone, or came back in the meantime, the next comparison sees.
                if refusal.is_not_found() {
                    continue;
                }
                failed.insert(refusal.index);
                match changes.get(refusal.index) {
                    Some(Change::SetLink(change)) if change.vxlan.is_some() => {
                        if let LinkName::Index(index) = change.link {
                            self.observed.unalterable.insert(index);
                        }
                    }
                    Some(Change::AddLink(NewLink {
                        kind: NewLinkKind::Vxlan(vxlan),
                        ..
                    })) if refusal.error.is_address_in_use() => {
                        outcome.refuse(port_in_use(refusal, vxlan.port));
                    }
                    _ => outcome.refuse(refusal.to_string()),
                }
            }
        }
        let made = steps.iter().enumerate();
        let made = made.filter(|(position, _)| !failed.contains(position));
        outcome
            .done
            .extend(made.map(|(_, step)| step.object.clone()));
        for step in &plan.steps {
            let result = match &step.action {
                Action::Kernel(_) => continue,
                Action::Sysctl { path, value } => match sysctl::write(path, value) {
                    Err(error) if error.is_locked() => {
                        // A precaution only: no router advertisement comes through a tunnel that floods nothing.
                        if path.ends_with("/accept_ra") {
                            debug!("{error}; going on without it");
                        } else {
                            warn!("{error}; going on without it");
                        }
                        self.locked.insert(path.clone());
                        continue;
                    }
                    other => other.map(drop).map_err(|error| error.to_string()),
                },
                Action::Firewall => self
                    .nftables
                    .replace(&desired.firewall)
                    .map_err(|error| error.to_string()),
                Action::DeleteTables(tables) => self
                    .delete_tables(tables)
                    .map_err(|error| error.to_string()),
                Action::Iptables(restore) => {
                    self.rules.write(restore).map_err(|error| error.to_string())
                }
            };
            match result {
                Ok(()) => drop(outcome.done.insert(step.object.clone())),
                Err(error) => outcome.refuse(error),
            }
        }
        self.told.meter.refused(outcome.refusals);
        outcome
    }

    fn delete_tables(&mut self, tables: &[(nft::Family, String)]) -> Result<(), nft::Error> {
        let tables: Vec<_> = tables
            .iter()
            .map(|(family, name)| (*family, name.as_str()))
            .collect();
        self.nftables.delete(&tables)
    }
}

/// The port 0 stands for the kernel's own.
fn port_in_use(refusal: &Refused, port: u16) -> String {
    let port = if port == 0 { DEFAULT_PORT } else { port };
    format!(
        "{refusal}; another program or VXLAN device has UDP port {port}: find it by `ss -lunp sport = :{port}` and \
         `ip -d link show type vxlan` and end it, or choose another Port in Backend, the same on all nodes"
    )
}

/// A step after a lease changed is told with the lease; a repair is news of its own.
pub(super) fn tell(steps: &[Step], cause: Cause) {
    for step in steps.iter().take(STEPS_TOLD) {
        match cause {
            Cause::Wanted => debug!("{step}"),
            Cause::Changed => warn!("repaired: {step}"),
        }
    }
    if steps.len() > STEPS_TOLD {
        let more = steps.len() - STEPS_TOLD;
        match cause {
            Cause::Wanted => debug!("… and {more} steps more"),
            Cause::Changed => warn!("… and {more} repairs more"),
        }
    }
}
