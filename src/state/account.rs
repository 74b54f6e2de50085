//! Bytes that tables hold, counted where memory is taken and where it is given back.
//!
//! An account counts what is charged to it, and adds it to the account above: one per table, one for the state. A
//! [`Charge`] lies beside the memory that it stands for and gives the bytes back when it is dropped, whoever drops the
//! last reference: apply, or the snapshot thread with a frozen state. So copies on write and chunks that only a frozen
//! state still holds are counted as long as they are there. Two relaxed additions per chunk of 16 KiB, none per row.
//!
//! What is charged is what the allocator sets aside, not what was asked for: [`allocated`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A place where bytes are counted; the default one counts nothing, for scratch memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    bytes: AtomicUsize,
    above: Account,
    /// The most that there were since somebody asked.
    #[cfg(test)]
    peak: AtomicUsize,
}

impl Book {
    fn below(above: Account) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            above,
            #[cfg(test)]
            peak: AtomicUsize::new(0),
        }
    }
}

impl Account {
    /// An account at zero.
    pub(crate) fn open() -> Self {
        Self(Some(Arc::new(Book::below(Self(None)))))
    }

    /// An account at zero whose bytes are this one's too.
    pub(crate) fn below(&self) -> Self {
        Self(Some(Arc::new(Book::below(self.clone()))))
    }

    /// Bytes charged and not given back.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |book| book.bytes.load(Ordering::Relaxed))
    }

    /// Charges bytes until the charge is dropped.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        let mut charge = Charge { account: self.clone(), bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// The most bytes that there were since this was asked last.
    #[cfg(test)]
    pub(crate) fn take_peak(&self) -> usize {
        self.0.as_ref().map_or(0, |book| book.peak.swap(self.bytes(), Ordering::Relaxed))
    }

    fn books(&self) -> impl Iterator<Item = &Book> {
        std::iter::successors(self.0.as_deref(), |book| book.above.0.as_deref())
    }
}

/// Bytes charged to an account, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    /// Bytes charged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same account with as many bytes more.
    pub(crate) fn again(&self) -> Self {
        self.account.charge(self.bytes)
    }

    /// Charges more, or gives a part back.
    pub(crate) fn set(&mut self, bytes: usize) {
        for book in self.account.books() {
            if bytes >= self.bytes {
                let _before = book.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
                #[cfg(test)]
                book.peak.fetch_max(_before + bytes - self.bytes, Ordering::Relaxed);
            } else {
                let before = book.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
                assert!(before >= self.bytes - bytes, "an account gives back {} of {before} bytes", self.bytes - bytes);
            }
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes that the allocator (mimalloc) sets aside for a request: sizes come in four steps per doubling up to 512 KiB,
/// then in pages. 16 KiB are exactly 16 KiB; one byte more is 20 KiB.
pub(crate) const fn allocated(bytes: usize) -> usize {
    const WORD: usize = 8;
    const PAGE: usize = 4096;
    const STEPPED_MAX: usize = 512 << 10;
    let words = bytes.div_ceil(WORD);
    if words <= 8 {
        return words * WORD;
    }
    if bytes > STEPPED_MAX {
        return bytes.div_ceil(PAGE) * PAGE;
    }
    let step = 1 << ((words - 1).ilog2() - 2);
    words.div_ceil(step) * step * WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_leaves_every_account_above() {
        let state = Account::open();
        let (cards, users) = (state.below(), state.below());
        let mut card = cards.charge(100);
        let user = users.charge(30);
        let copy = card.again();
        assert_eq!((state.bytes(), cards.bytes(), users.bytes()), (230, 200, 30));
        card.set(40);
        drop(copy);
        assert_eq!((state.bytes(), cards.bytes(), users.bytes()), (70, 40, 30));
        // On another thread, after the table is gone.
        drop(cards);
        std::thread::spawn(move || drop((card, user))).join().unwrap_or_else(|_| unreachable!("a drop does not panic"));
        assert_eq!(state.bytes(), 0);
    }

    #[test]
    fn the_default_account_counts_nothing() {
        let charge = Account::default().charge(100);
        assert_eq!((charge.bytes(), charge.account.bytes()), (100, 0));
    }

    #[test]
    fn sizes_come_in_four_steps_per_doubling() {
        let cases = [
            (0, 0),
            (1, 8),
            (64, 64),
            (65, 80),
            (80, 80),
            (129, 160),
            (16_384, 16_384),
            (16_385, 20_480),
            (20_481, 24_576),
            (24_577, 28_672),
            (28_673, 32_768),
            (512 << 10, 512 << 10),
            ((512 << 10) + 1, (512 << 10) + 4096),
        ];
        for (bytes, expected) in cases {
            assert_eq!(allocated(bytes), expected, "{bytes} bytes");
        }
        for bytes in 1..100_000 {
            let rounded = allocated(bytes);
            assert!(rounded >= bytes && rounded <= bytes.max(32) * 5 / 4 + 8, "{bytes} bytes: {rounded}");
            assert_eq!(allocated(rounded), rounded, "{bytes} bytes");
        }
    }
}
