//! The firewall's part of the comparison: first the rules stand where they should, then they go where they should not.

use hostnet::nft::Family;

use super::{Action, Object, Planner, Step};
use crate::iptables;

impl Planner<'_> {
    pub(super) fn firewall(&mut self) {
        let wrong = self.tables_drift();
        let rules = self
            .desired
            .iptables
            .as_ref()
            .map(|wanted| iptables::plan(wanted, &self.observed.iptables));
        let settled = wrong.is_empty() && rules.as_ref().is_none_or(|rules| rules.settled);
        if !wrong.is_empty() {
            self.plan.steps.push(Step {
                object: Object::Firewall,
                action: Action::Firewall,
                reason: wrong.join(", "),
            });
        }
        let rules = rules.unwrap_or_default();
        self.rewrite(rules.active);
        if settled {
            self.unwanted_tables();
            self.rewrite(rules.others);
        } else {
            // Until then the rules of the other mode do the work.
            self.plan.unfinished = true;
        }
    }

    /// What is wrong about the tables wanted.
    fn tables_drift(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for table in &self.desired.firewall {
            let found = self.observed.firewall.iter().find(|found| {
                (found.family(), found.name()) == (table.family, table.name.as_str())
            });
            match table.compile() {
                Ok(wanted) => wrong.extend(wanted.drift(found).iter().map(ToString::to_string)),
                // Writing it says the same, and that is where refusals are told.
                Err(error) => wrong.push(error.to_string()),
            }
        }
        wrong
    }

    fn unwanted_tables(&mut self) {
        let is_there = |(family, name): &&(Family, String)| {
            self.observed
                .firewall
                .iter()
                .any(|found| (found.family(), found.name()) == (*family, name.as_str()))
        };
        let tables: Vec<_> = self
            .desired
            .no_firewall
            .iter()
            .filter(is_there)
            .cloned()
            .collect();
        if !tables.is_empty() {
            self.plan.steps.push(Step {
                object: Object::Firewall,
                action: Action::DeleteTables(tables),
                reason: "the rules are kept elsewhere, or not wanted".to_owned(),
            });
        }
    }

    fn rewrite(&mut self, restores: Vec<iptables::Restore>) {
        self.plan
            .steps
            .extend(restores.into_iter().map(|restore| Step {
                object: Object::Iptables(restore.place),
                reason: restore.reason.clone(),
                action: Action::Iptables(restore),
            }));
    }
}

#[cfg(test)]
mod tests;
