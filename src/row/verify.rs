//! Whether a batch that a file brought says of its rows what a builder says.
//!
//! The layout was measured when the batch was taken ([`Rows::from_words`]), and cells are read within bounds
//! whatever they hold. Here is what is searched or counted with, and stands beside the rows: runs of offsets, which
//! begin at rows in order and name positions of the frame, and rows ahead of their clock, in order and each once.
//! Called by recovery, once per batch; never per row.

use super::rows::Rows;

impl Rows {
    /// Whether runs and rows ahead are in order and within the batch. `positions` is how many the frame has.
    ///
    /// # Errors
    /// Says what is not.
    pub fn verify(&self, positions: usize) -> Result<(), String> {
        let rows = self.len() as u64;
        let mut before = None;
        for run in self.runs() {
            let first = u64::from(run.first_row);
            if first >= rows || before.is_some_and(|before| first <= before) {
                return Err(format!("a run of offsets begins at row {first} of {rows}, the one before it at {before:?}"));
            }
            if run.position as usize >= positions {
                return Err(format!("a run of offsets names position {} of {positions}", run.position));
            }
            if run.first_offset < 0 || run.first_offset.checked_add_unsigned(rows).is_none() {
                return Err(format!("a run of offsets begins at offset {}", run.first_offset));
            }
            before = Some(first);
        }
        let mut before = None;
        for &[row, us] in self.ahead() {
            if row >= rows || before.is_some_and(|before| row <= before) {
                return Err(format!("row {row} of {rows} is said to be ahead of its clock, the one before it was {before:?}"));
            }
            if us.cast_signed() <= 0 {
                return Err(format!("row {row} is said to be {} us ahead of its clock", us.cast_signed()));
            }
            before = Some(row);
        }
        Ok(())
    }
}
