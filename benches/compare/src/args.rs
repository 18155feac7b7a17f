//! What may be said on the command line.

pub const USAGE: &str = "usage: benches/compare/run [--quick] [--rounds N] [--seconds N] [--only SECTION]...\n  sections: \
                         gets, latency, sets, sizes, quoted\n  Only a whole run of at least 5 rounds is written to \
                         benches/RESULTS.md; others are printed.";
/// Odd, so that one of them is the median.
const ROUNDS: usize = 5;
const SECONDS: u64 = 5;
/// Fewer don't tell a median from a chance.
pub const ROUNDS_TO_KEEP_MIN: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Gets,
    Latency,
    Sets,
    Sizes,
    Quoted,
}

impl Section {
    const ALL: [(&str, Self); 5] = [
        ("gets", Self::Gets),
        ("latency", Self::Latency),
        ("sets", Self::Sets),
        ("sizes", Self::Sizes),
        ("quoted", Self::Quoted),
    ];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(of, _)| *of == name).map(|(_, section)| section)
    }
}

pub struct Args {
    pub rounds: usize,
    /// Of one round of one subject.
    pub seconds: u64,
    pub sections: Vec<Section>,
}

impl Args {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut this = Self { rounds: ROUNDS, seconds: SECONDS, sections: Vec::new() };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => (this.rounds, this.seconds) = (1, 1),
                "--rounds" => this.rounds = number(&value()?)?,
                "--seconds" => this.seconds = number(&value()?)? as u64,
                "--only" => {
                    let name = value()?;
                    this.sections.push(Section::of(&name).ok_or(format!("there is no section {name}"))?);
                }
                _ => return Err(format!("unknown argument: {arg}")),
            }
        }
        if this.sections.is_empty() {
            this.sections = Section::ALL.map(|(_, section)| section).to_vec();
        }
        Ok(this)
    }

    /// Is it a run whose figures may stand in the repository?
    pub fn is_to_be_kept(&self) -> bool {
        self.rounds >= ROUNDS_TO_KEEP_MIN && self.sections.len() == Section::ALL.len()
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or(format!("not a number above 0: {text}"))
}
