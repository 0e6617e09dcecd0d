//! Feeding a target: the kept inputs, then mutations of them. What is fed depends on the seed and on nothing else.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::Target;
use crate::mutation::mutate;
use crate::random::Random;

/// Inputs that are made of mutated ones, so that changes add up.
const RECENT: usize = 64;

/// Of what a panic says so many characters are told: it may show a whole input.
const MOST_SAID: usize = 2000;

/// How much is fed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many mutated inputs a plain target gets.
    pub runs: u64,
    /// What the mutations depend on.
    pub seed: u64,
    /// A file, or a folder of files, to feed in place of everything else.
    pub only: Option<PathBuf>,
}

impl Settings {
    /// What the environment asks for: `LODEN_FUZZ_RUNS`, `LODEN_FUZZ_SEED`, `LODEN_FUZZ_INPUT`.
    ///
    /// # Errors
    ///
    /// A sentence on a variable that is no number.
    pub fn from_environment() -> Result<Self, String> {
        Ok(Self {
            runs: number("LODEN_FUZZ_RUNS", 10_000)?,
            seed: number("LODEN_FUZZ_SEED", 1)?,
            only: std::env::var_os("LODEN_FUZZ_INPUT").map(PathBuf::from),
        })
    }
}

fn number(variable: &str, default: u64) -> Result<u64, String> {
    let Some(text) = std::env::var_os(variable) else {
        return Ok(default);
    };
    let number = text
        .to_str()
        .and_then(|text| text.replace('_', "").parse().ok());
    number.ok_or_else(|| format!("{variable} must be a number, not {text:?}"))
}

/// One target and what it is fed with.
#[derive(Debug)]
pub struct Campaign<'a> {
    target: &'a Target,
    settings: Settings,
    corpus: PathBuf,
    finds: PathBuf,
}

impl<'a> Campaign<'a> {
    /// Of the folder `corpus` the target's own subfolder is fed. An input that breaks a promise is left in `finds`.
    #[must_use]
    pub fn new(target: &'a Target, settings: Settings, corpus: &Path, finds: &Path) -> Self {
        Self {
            target,
            settings,
            corpus: corpus.join(target.name),
            finds: finds.to_owned(),
        }
    }

    /// Feeds everything; the number of inputs.
    ///
    /// # Errors
    ///
    /// What promise was broken, by which input, and how to feed it again.
    pub fn run(&self) -> Result<u64, String> {
        if let Some(only) = &self.settings.only {
            let inputs = read(only)?;
            for (name, input) in &inputs {
                self.feed(input, &format!("the only input {name}"))?;
            }
            return Ok(inputs.len() as u64);
        }
        let kept = read(&self.corpus)?;
        for (name, input) in &kept {
            self.feed(input, &format!("the kept input {name}"))?;
        }
        let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
        let runs = self.settings.runs / u64::from(self.target.cost.max(1));
        self.mutations(&inputs, runs)?;
        Ok(inputs.len() as u64 + runs)
    }

    fn mutations(&self, kept: &[Vec<u8>], runs: u64) -> Result<(), String> {
        let mut random = Random::new(self.settings.seed);
        let mut recent: Vec<Vec<u8>> = Vec::new();
        for run in 0..runs {
            let from = if random.below(4) == 0 { &recent } else { kept };
            let mut input = random.pick(from).cloned().unwrap_or_default();
            mutate(&mut random, &mut input, kept, self.target.dictionary);
            self.feed(
                &input,
                &format!("mutation {run} of seed {}", self.settings.seed),
            )?;
            if recent.len() < RECENT {
                recent.push(input);
            } else {
                let place = random.below(RECENT);
                recent[place] = input;
            }
        }
        Ok(())
    }

    fn feed(&self, input: &[u8], what: &str) -> Result<(), String> {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))) else {
            return Ok(());
        };
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        let said: String = said.chars().take(MOST_SAID).collect();
        let name = self.target.name;
        let file = self.finds.join(format!("{name}-find"));
        let kept = fs::create_dir_all(&self.finds).and_then(|()| fs::write(&file, input));
        let again = match kept {
            Ok(()) => format!(
                "feed it again with LODEN_FUZZ_INPUT={} cargo test -p loden-fuzz {name}",
                file.display()
            ),
            Err(error) => format!("it could not be kept in {}: {error}", file.display()),
        };
        Err(format!("{name}: {what} breaks a promise: {said}\n{again}"))
    }
}

/// A file, or all files of a folder, by name, so that their order is the same everywhere.
fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let refused = |error| format!("{} cannot be read: {error}", path.display());
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(refused)?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        files = paths.collect::<Result<_, _>>().map_err(refused)?;
        files.sort();
    }
    if files.is_empty() {
        return Err(format!("{} has no inputs", path.display()));
    }
    let name = |file: &Path| Some(file.file_name()?.to_string_lossy().into_owned());
    let input = |file: PathBuf| Ok((name(&file).unwrap_or_default(), fs::read(&file)?));
    let inputs = files.into_iter().map(input);
    inputs.collect::<Result<_, _>>().map_err(refused)
}
