//! Bytes that tables hold, counted where memory is taken and where it is given back.
//!
//! An account counts what is charged to it, and adds it to the account above: one per table, one for the state. A
//! [`Charge`] lies beside the memory that it stands for and gives the bytes back when it is dropped, whoever drops the
//! last reference: apply, or the snapshot thread with a frozen state. So copies on write and chunks that only a frozen
//! state still holds are counted as long as they are there. Two relaxed additions per chunk of 16 KiB, none per row.
//!
//! **A limit, and who gives way.** The topmost account may have a limit. What only frozen states hold (*left* charges:
//! copied or dropped by apply since) is room that tables may have whenever they need it: before a charge would lead beyond
//! the limit, every frozen state is let go, on the spot. So the bytes are within the limit at every moment as long as the
//! tables alone are, and nobody has to guess how many chunks rows may copy.
//!
//! **Blocks are kept.** What ordinary chunks gave back stays with the topmost account for the next chunk, on whichever thread;
//! it counts towards the limit, and is the first to go when there is no room.
//!
//! What is charged is what the allocator sets aside, not what was asked for: [`allocated`].

use super::chunk::{Block, CHUNK_WORDS, chunk_bytes};
use super::frozen::Frozen;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// A place where bytes are counted; the default one counts nothing, for scratch memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    bytes: AtomicUsize,
    above: Account,
    /// Of the topmost: bytes that nobody may lead beyond, while there is a frozen state to let go,
    limit: AtomicUsize,
    /// bytes that only frozen states hold,
    left: AtomicUsize,
    /// the frozen states,
    frozen: Mutex<Vec<Weak<Frozen>>>,
    /// and blocks for the next ordinary chunks, with how many bytes they take.
    kept: Mutex<Vec<Block>>,
    kept_bytes: AtomicUsize,
    /// The least that these were since somebody asked.
    kept_least: AtomicUsize,
    /// The most that there were since somebody asked.
    #[cfg(test)]
    peak: AtomicUsize,
}

impl Book {
    fn below(above: Account) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            above,
            limit: AtomicUsize::new(usize::MAX),
            left: AtomicUsize::new(0),
            frozen: Mutex::default(),
            kept: Mutex::default(),
            kept_bytes: AtomicUsize::new(0),
            kept_least: AtomicUsize::new(0),
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

    /// Bytes charged to the topmost account.
    pub(crate) fn all_bytes(&self) -> usize {
        self.top().map_or(0, |book| book.bytes.load(Ordering::Relaxed))
    }

    /// Of these, bytes that only frozen states hold.
    pub(crate) fn left_bytes(&self) -> usize {
        self.top().map_or(0, |book| book.left.load(Ordering::Relaxed))
    }

    /// Bytes that may be charged in all.
    pub(crate) fn limit(&self) -> usize {
        self.top().map_or(usize::MAX, |book| book.limit.load(Ordering::Relaxed))
    }

    /// Whether so many bytes more are within the limit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.all_bytes().saturating_add(bytes) <= self.limit()
    }

    /// Sets the limit; what is beyond it already stays.
    pub(crate) fn set_limit(&self, bytes: usize) {
        if let Some(book) = self.top() {
            book.limit.store(bytes, Ordering::Relaxed);
        }
    }

    /// Charges bytes until the charge is dropped.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        let mut charge = Charge { account: self.clone(), bytes: AtomicUsize::new(0) };
        charge.set(bytes);
        charge
    }

    /// Knows of a frozen state that gives way.
    pub(crate) fn gives_way(&self, frozen: &Arc<Frozen>) {
        let Some(book) = self.top() else { return };
        let mut known = book.frozen.lock();
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(frozen));
    }

    /// Whether a frozen state is there.
    pub(crate) fn is_shared(&self) -> bool {
        self.top().is_some_and(|book| book.frozen.lock().iter().any(|frozen| frozen.strong_count() > 0))
    }

    /// Gives kept blocks back and lets frozen states go when so many bytes more would lead beyond the limit.
    pub(crate) fn make_room(&self, bytes: usize) {
        if let Some(book) = self.top()
            && book.lacks_room(bytes)
            && !book.trim(|| !book.lacks_room(bytes))
        {
            book.let_go();
            book.trim(|| !book.lacks_room(bytes));
        }
    }

    /// A block for an ordinary chunk.
    pub(crate) fn take_kept(&self) -> Option<Block> {
        let book = self.top()?;
        let block = book.kept.lock().pop()?;
        let before = book.kept_bytes.fetch_sub(BLOCK_BYTES, Ordering::Relaxed);
        book.kept_least.fetch_min(before - BLOCK_BYTES, Ordering::Relaxed);
        Some(block)
    }

    /// Keeps the block of an ordinary chunk for the next one.
    pub(crate) fn keep(&self, block: Block) {
        if let Some(book) = self.top() {
            debug_assert_eq!(block.slice.len(), CHUNK_WORDS, "blocks are of one size");
            book.kept_bytes.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
            book.kept.lock().push(block);
        }
    }

    /// Gives kept blocks back that nobody took since this was called last, at most so many.
    pub(crate) fn trim(&self, blocks: usize) {
        let Some(book) = self.top() else { return };
        let kept = book.kept_bytes.load(Ordering::Relaxed);
        let mut left = (book.kept_least.swap(kept, Ordering::Relaxed).min(kept) / BLOCK_BYTES).min(blocks);
        book.trim(|| {
            let enough = left == 0;
            left = left.saturating_sub(1);
            enough
        });
    }

    fn top(&self) -> Option<&Book> {
        self.books().last()
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

/// What a kept block is counted for.
const BLOCK_BYTES: usize = chunk_bytes(CHUNK_WORDS);

impl Book {
    /// Whether so many bytes more lead beyond the limit.
    fn lacks_room(&self, bytes: usize) -> bool {
        let held = self.bytes.load(Ordering::Relaxed) + self.kept_bytes.load(Ordering::Relaxed);
        held.saturating_add(bytes) > self.limit.load(Ordering::Relaxed)
    }

    /// Gives kept blocks back until it is enough; false when there were not enough of them.
    #[cold]
    fn trim(&self, mut enough: impl FnMut() -> bool) -> bool {
        while !enough() {
            let Some(block) = self.kept.lock().pop() else { return false };
            self.kept_bytes.fetch_sub(BLOCK_BYTES, Ordering::Relaxed);
            drop(block);
        }
        true
    }

    #[cold]
    fn let_go(&self) {
        let known = std::mem::take(&mut *self.frozen.lock());
        known.iter().filter_map(Weak::upgrade).for_each(|frozen| frozen.let_go());
    }
}

/// Bytes charged to an account, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    account: Account,
    /// With [`LEFT`] when only frozen states hold what it stands for.
    bytes: AtomicUsize,
}

const LEFT: usize = 1 << (usize::BITS - 1);

impl Charge {
    /// Bytes charged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) & !LEFT
    }

    /// Where they are charged.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// The same account with as many bytes more.
    pub(crate) fn again(&self) -> Self {
        self.account.charge(self.bytes())
    }

    /// Only frozen states hold from here on what it stands for.
    pub(crate) fn leave(&self) {
        let before = self.bytes.fetch_or(LEFT, Ordering::Relaxed);
        if before & LEFT == 0
            && let Some(book) = self.account.top()
        {
            book.left.fetch_add(before, Ordering::Relaxed);
        }
    }

    /// Charges more, or gives a part back.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = *self.bytes.get_mut();
        assert!(before & LEFT == 0 && bytes & LEFT == 0, "what only frozen states hold does not change");
        if bytes > before {
            self.account.make_room(bytes - before);
        }
        self.change(before, bytes);
        *self.bytes.get_mut() = bytes;
    }

    fn change(&self, from: usize, to: usize) {
        for book in self.account.books() {
            if to >= from {
                let _before = book.bytes.fetch_add(to - from, Ordering::Relaxed);
                #[cfg(test)]
                book.peak.fetch_max(_before + to - from, Ordering::Relaxed);
            } else {
                let before = book.bytes.fetch_sub(from - to, Ordering::Relaxed);
                assert!(before >= from - to, "an account gives back {} of {before} bytes", from - to);
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let (bytes, left) = (self.bytes(), *self.bytes.get_mut() & LEFT != 0);
        self.change(bytes, 0);
        if let Some(book) = self.account.top().filter(|_| left) {
            let before = book.left.fetch_sub(bytes, Ordering::Relaxed);
            assert!(before >= bytes, "frozen states give back {bytes} of {before} bytes");
        }
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
    fn what_only_frozen_states_hold_is_counted_apart_until_it_is_dropped() {
        let state = Account::open();
        let cards = state.below();
        let (held, shared) = (cards.charge(100), cards.charge(30));
        shared.leave();
        shared.leave();
        assert_eq!((state.bytes(), state.left_bytes(), cards.left_bytes()), (130, 30, 30));
        drop(shared);
        assert_eq!((state.bytes(), state.left_bytes(), held.bytes()), (100, 0, 100));
    }

    #[test]
    fn blocks_are_kept_for_the_next_chunk_until_nobody_wants_them_or_there_is_no_room() {
        use super::super::chunk::Chunk;
        let state = Account::open();
        let chunk = || Chunk::zeroed(&state, CHUNK_WORDS);
        let kept = || state.top().map(|book| book.kept.lock().len());
        let three = [chunk(), chunk(), chunk()];
        let bytes = state.bytes();
        drop(three);
        assert_eq!((state.bytes(), kept()), (0, Some(3)));
        let mut one = chunk();
        one.words_mut().fill(7);
        drop(one);
        assert!(chunk().words().iter().all(|&word| word == 0), "a block that was used before begins as zeroes");
        assert_eq!((state.bytes(), kept()), (0, Some(3)));
        // Two of three were not wanted since; then none was.
        state.trim(64);
        state.trim(1);
        assert_eq!(kept(), Some(2));
        state.trim(64);
        assert_eq!(kept(), Some(0));
        // They count towards the limit, and go first.
        drop([chunk(), chunk(), chunk()]);
        state.set_limit(bytes);
        let large = state.charge(BLOCK_BYTES * 2);
        assert_eq!((state.bytes(), kept()), (large.bytes(), Some(1)));
    }

    #[test]
    fn the_default_account_counts_nothing() {
        let charge = Account::default().charge(100);
        assert_eq!((charge.bytes(), charge.account().bytes()), (100, 0));
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
