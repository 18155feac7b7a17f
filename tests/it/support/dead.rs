//! The dead letters of a buffer, bodies and all.

use hookcache::buffer::{DeadLetter, DeadLetters, Ruling, Taker, Unavailable, Walk, Which};

/// Up to `max` of them; they stay where they are.
pub async fn dead_letters(taker: &Taker, max: usize) -> Result<Vec<DeadLetter>, Unavailable> {
    let mut letters = Vec::new();
    let walk = Walk { which: Which::All, letters_max: max };
    let keep = |letter: &DeadLetter| {
        letters.push(letter.clone());
        Ruling::Leave
    };
    DeadLetters::of(taker).walk(&walk, keep).await?;
    Ok(letters)
}
