//! What a measurement yields: one number a round, of one contender in one scene.

use serde::{Deserialize, Serialize};

use crate::statistics::Spread;

/// One measure of one contender in one scene, a number for each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The circumstances, such as "IPv4, 30 at a time, none before".
    pub(crate) scene: String,
    /// What was measured, such as "ADD p50".
    pub(crate) measure: String,
    /// Its unit, such as "ms"; empty for a number of things.
    pub(crate) unit: String,
    /// Whose number it is.
    pub(crate) contender: String,
    /// The contender whose number it is compared with; nobody for that one itself.
    pub(crate) beside: Option<String>,
    /// Each round's number.
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(&self.rounds)
    }

    /// How many times the number of the contender it stands beside.
    pub(crate) fn ratio(&self, all: &[Self]) -> Option<Spread> {
        let other = self.of_contender(self.beside.as_deref()?, all)?;
        Spread::of_ratios(&self.rounds, &other.rounds)
    }

    /// The same measure in the same scene of somebody else.
    pub(crate) fn of_contender<'a>(&self, contender: &str, all: &'a [Self]) -> Option<&'a Self> {
        all.iter().find(|other| {
            other.scene == self.scene
                && other.measure == self.measure
                && other.contender == contender
        })
    }
}

/// Who is measured, and beside whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    pub(crate) beside: Option<&'static str>,
}

/// Collects the numbers of the rounds of one scene.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Notes the number of one more round.
    pub(crate) fn note(&mut self, scene: &str, measure: &str, unit: &str, name: Name, value: f64) {
        let known = self.0.iter_mut().find(|figure| {
            figure.scene == scene && figure.measure == measure && figure.contender == name.text
        });
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.0.push(Figure {
                scene: scene.to_owned(),
                measure: measure.to_owned(),
                unit: unit.to_owned(),
                contender: name.text.to_owned(),
                beside: name.beside.map(str::to_owned),
                rounds: vec![value],
            }),
        }
    }

    /// All of them: those of one measure together, and the contenders always in the order in which they came first.
    pub(crate) fn finish(mut self) -> Vec<Figure> {
        let mut order: Vec<(String, String)> = Vec::new();
        let mut contenders: Vec<String> = Vec::new();
        for figure in &self.0 {
            let key = (figure.scene.clone(), figure.measure.clone());
            if !order.contains(&key) {
                order.push(key);
            }
            if !contenders.contains(&figure.contender) {
                contenders.push(figure.contender.clone());
            }
        }
        self.0
            .sort_by_key(|figure| contenders.iter().position(|one| *one == figure.contender));
        let place = |figure: &Figure| {
            order
                .iter()
                .position(|(scene, measure)| *scene == figure.scene && *measure == figure.measure)
        };
        self.0.sort_by_key(place);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Name = Name {
        text: "Loden",
        beside: None,
    };
    const PEER: Name = Name {
        text: "flannel",
        beside: Some("Loden"),
    };

    #[test]
    fn rounds_of_contenders_in_turn_become_one_figure_each() {
        let mut figures = Figures::default();
        for round in [1.0, 2.0] {
            for (name, factor) in [(OURS, 1.0), (PEER, 4.0)] {
                figures.note("alone", "ADD p50", "ms", name, round * factor);
            }
            // In another order, as in later rounds.
            for name in [PEER, OURS] {
                figures.note("alone", "DEL p50", "ms", name, round);
            }
        }
        let figures = figures.finish();
        let order: Vec<(&str, &str)> = figures
            .iter()
            .map(|figure| (figure.measure.as_str(), figure.contender.as_str()))
            .collect();
        assert_eq!(
            order,
            [
                ("ADD p50", "Loden"),
                ("ADD p50", "flannel"),
                ("DEL p50", "Loden"),
                ("DEL p50", "flannel"),
            ]
        );
        assert_eq!(figures[1].rounds, [4.0, 8.0]);
        assert_eq!(figures[1].ratio(&figures).unwrap().median, 4.0);
        assert_eq!(figures[0].ratio(&figures), None);
    }
}
