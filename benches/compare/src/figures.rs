//! Medians and ratios of rounds.

/// One figure per round.
#[derive(Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Round by round, as both were measured under the same load of the machine.
    fn with(&self, other: &Self, of: fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| of(*ours, *theirs)).collect())
    }

    pub fn over(&self, other: &Self) -> Self {
        self.with(other, |ours, theirs| ours / theirs)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, |ours, theirs| ours - theirs)
    }

    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, |ours, theirs| ours + theirs)
    }

    pub fn times(&self, other: &Self) -> Self {
        self.with(other, |ours, theirs| ours * theirs)
    }

    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|figure| figure * factor).collect())
    }

    /// The median, and in parentheses the least and the most.
    pub fn spread(&self, digits: usize) -> String {
        let sorted = self.sorted();
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) => {
                format!("{:.digits$} ({least:.digits$} to {most:.digits$})", self.median())
            }
            _ => "-".to_owned(),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}
