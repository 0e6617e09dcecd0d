//! What is written down of a group: machine, figures with their spread, ratios, goals.

use anyhow::Result;
use serde::Serialize;

use crate::figure::Figure;
use crate::goals::{self, Goal};
use crate::machine::Machine;
use crate::options::Group;
use crate::statistics::Spread;

/// The figures of a group.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) group: Group,
    pub(crate) figures: Vec<Figure>,
}

impl Measured {
    pub(crate) fn new(group: Group) -> Self {
        Self {
            group,
            figures: Vec::new(),
        }
    }
}

/// The file of a group.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of this file; another one when a member changes its meaning.
    pub(crate) format: u32,
    pub(crate) group: Group,
    /// Whether this was the smallest form, whose numbers mean nothing.
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Goal>,
}

/// A figure with what follows from it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) figure: Figure,
    pub(crate) value: Option<Spread>,
    /// How many times the number of the contender it stands beside.
    pub(crate) ratio: Option<Spread>,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool, measured: Measured) -> Self {
        let Measured { group, figures } = measured;
        let row = |figure: &Figure| Row {
            figure: figure.clone(),
            value: figure.spread(),
            ratio: figure.ratio(&figures),
        };
        Self {
            format: 1,
            group,
            quick,
            machine,
            rows: figures.iter().map(row).collect(),
            goals: goals::of(group, &figures),
        }
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
