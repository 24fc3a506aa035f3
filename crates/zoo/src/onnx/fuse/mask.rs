//! Which keys the queries of an attention see, read from the numbers that were added to the scores.

/// What a mask of zeros and very negative numbers amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Whether query `i` of `s` sees only the keys up to `i + t - s` of `t`.
    pub(super) causal: bool,
    /// Keys that a query sees, itself included.
    pub(super) window: Option<u64>,
}

/// Numbers below this hide a key: the smallest half float, doubled by nobody.
const HIDDEN: f32 = -1e4;

/// The sum of what is added to the scores `[s, t]`.
#[derive(Debug)]
pub(super) struct Mask {
    s: usize,
    t: usize,
    /// Whether each pair is hidden; empty while all are seen.
    hidden: Vec<bool>,
}

impl Mask {
    pub(super) const fn none(s: u64, t: u64) -> Self {
        Self { s: s as usize, t: t as usize, hidden: Vec::new() }
    }

    /// The place of pair `at` in numbers of the extents `dims`, the last two of which are those of the scores or 1.
    fn place(&self, dims: &[u64], at: usize) -> Option<usize> {
        let (row, column) = (at / self.t, at % self.t);
        let (before, rows, columns) = match dims {
            [before @ .., rows, columns] => (before, *rows as usize, *columns as usize),
            [columns] => (&[][..], 1, *columns as usize),
            [] => (&[][..], 1, 1),
        };
        let fits =
            (rows == 1 || rows == self.s) && (columns == 1 || columns == self.t) && before.iter().all(|n| *n == 1);
        fits.then(|| (if rows == 1 { 0 } else { row }) * columns + if columns == 1 { 0 } else { column })
    }

    /// Adds numbers, each of which is zero or hides a pair.
    pub(super) fn add(&mut self, dims: &[u64], numbers: &[f32]) -> Option<()> {
        let mut hidden = vec![false; self.s * self.t];
        for (at, hide) in hidden.iter_mut().enumerate() {
            let number = *numbers.get(self.place(dims, at)?)?;
            if number != 0.0 && number > HIDDEN {
                return None;
            }
            *hide = number <= HIDDEN || self.hidden.get(at).copied().unwrap_or(false);
        }
        self.hidden = hidden;
        Some(())
    }

    /// Takes factors of zero and one into account: a pair whose score is lost must be hidden.
    pub(super) fn keeps(&self, dims: &[u64], numbers: &[f32]) -> Option<()> {
        for at in 0..self.s * self.t {
            let number = *numbers.get(self.place(dims, at)?)?;
            let hidden = self.hidden.get(at).copied().unwrap_or(false);
            let kept = (number - 1.0).abs() <= f32::EPSILON;
            let lost = number == 0.0 && hidden;
            if !(kept || lost) {
                return None;
            }
        }
        Some(())
    }

    /// The form of the mask, if it is one that attention has.
    pub(super) fn sight(&self) -> Option<Sight> {
        if !self.hidden.contains(&true) {
            return Some(Sight { causal: false, window: None });
        }
        let shift = self.t.checked_sub(self.s)?;
        let seen = |row: usize| (0..self.t).filter(move |column| !self.hidden[row * self.t + column]);
        let window = (0..self.s).map(|row| seen(row).count()).max()?;
        let whole = (0..self.s).all(|row| {
            let last = row + shift;
            seen(row).eq((last + 1).saturating_sub(window)..=last)
        });
        whole.then_some(Sight { causal: true, window: (window < self.t).then_some(window as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Mask, Sight};

    fn sight(s: u64, t: u64, seen: impl Fn(usize, usize) -> bool) -> Option<Sight> {
        let numbers: Vec<f32> = (0..s as usize)
            .flat_map(|row| (0..t as usize).map(move |column| (row, column)))
            .map(|(row, column)| if seen(row, column) { 0.0 } else { f32::MIN })
            .collect();
        let mut mask = Mask::none(s, t);
        mask.add(&[1, s, t], &numbers)?;
        mask.sight()
    }

    #[test]
    fn forms_are_told_apart() {
        let causal = |window| Some(Sight { causal: true, window });
        assert_eq!(sight(3, 3, |_, _| true), Some(Sight { causal: false, window: None }));
        assert_eq!(sight(4, 4, |row, column| column <= row), causal(None));
        assert_eq!(sight(4, 6, |row, column| column <= row + 2), causal(None));
        assert_eq!(sight(5, 5, |row, column| column <= row && column + 2 > row), causal(Some(2)));
        assert_eq!(sight(4, 4, |row, column| column != 2 || row == 0), None);
        let mut soft = Mask::none(2, 2);
        assert!(soft.add(&[2, 2], &[0.0, -3.0, 0.0, 0.0]).is_none(), "a number that only weakens is no mask");
    }
}
