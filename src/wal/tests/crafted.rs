//! Segments with right checksums and any numbers in them, as somebody else could write them: refused, or a log that goes on.
//! Never a panic, and never a frame that is not in them.

use super::*;
use crate::wal::segment::{FOOTER_BYTES, Footer};
use std::panic::{AssertUnwindSafe, catch_unwind};

const ODD: [u64; 9] = [0, 1, 2, 3, 1 << 32, 1 << 60, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// SplitMix64: the same changes for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ word >> 31) % sides as u64) as usize
    }

    /// The number as it should be, or nearly, or another one altogether.
    fn odd(&mut self, right: u64) -> u64 {
        match self.roll(12) {
            0 => ODD[self.roll(ODD.len())],
            1 => right.wrapping_add(1),
            2 => right.wrapping_sub(1),
            _ => right,
        }
    }

    fn odd_u32(&mut self, right: u32) -> u32 {
        self.odd(right.into()) as u32
    }
}

/// A segment of a few frames, with a footer or without.
fn segment(dice: &mut Dice, number: u64, first_lsn: u64, prev_crc: u32) -> (Vec<u8>, u64, u32) {
    let header = SegmentHeader {
        log: LOG,
        writer_epoch: dice.odd(1),
        number: dice.odd(number),
        first_lsn: dice.odd(first_lsn),
        created_us: dice.odd(5).cast_signed(),
        prev_crc: dice.odd_u32(prev_crc),
        head_bytes: dice.odd(0),
    };
    let mut bytes = header.encode().to_vec();
    let (mut next_lsn, mut crc, frames) = (header.first_lsn, header.prev_crc, dice.roll(4) as u32);
    for _ in 0..frames {
        let kinds = [FrameKind::ROWS, FrameKind::MARK, FrameKind::CLOSE, FrameKind::SKIP, FrameKind(200)];
        let kind = kinds[[0, 0, 0, 1, 2, 3, 4][dice.roll(7)]];
        let row_count = if kind == FrameKind::ROWS { 1 + dice.roll(3) as u32 } else { 0 };
        let body = [next_lsn, 7, dice.odd(8)];
        let parts = FrameParts {
            kind,
            flags: 0,
            row_count: dice.odd_u32(row_count),
            now_us: dice.odd(5).cast_signed(),
            positions: &b"position"[..dice.roll(9)],
            body: &[&body],
        };
        let (first_lsn, durable_lsn) = (dice.odd(next_lsn), dice.odd(next_lsn.saturating_sub(1)));
        // What a frame says of its own numbers is part of its soundness: none that contradicts itself has a right checksum.
        if durable_lsn >= first_lsn || first_lsn.checked_add(parts.lsns()).is_none() {
            continue;
        }
        crc = encode(&mut bytes, &parts, Link { first_lsn, durable_lsn, prev_crc: dice.odd_u32(crc), salt: LOG.salt() });
        next_lsn = next_lsn.wrapping_add(u64::from(row_count).max(1));
    }
    if dice.roll(2) == 0 {
        let footer = Footer {
            frames: dice.odd_u32(frames),
            first_lsn: dice.odd(header.first_lsn),
            last_lsn: dice.odd(next_lsn.wrapping_sub(1)),
            durable_lsn: dice.odd(next_lsn.wrapping_sub(1)),
            offset: dice.odd(bytes.len() as u64),
            last_crc: dice.odd_u32(crc),
        };
        bytes.extend_from_slice(&footer.encode(LOG.salt()));
        assert!(bytes.len() > FOOTER_BYTES);
    } else {
        bytes.resize(bytes.len() + 64 * dice.roll(4), 0);
    }
    (bytes, next_lsn, crc)
}

#[test]
fn a_crafted_log_is_refused_or_goes_on() {
    let (mut taken, all) = (0, 20_000);
    for seed in 0..all {
        let mut dice = Dice(seed);
        let disk = SimulatedDisk::new();
        let (mut next_lsn, mut crc) = (1, 0);
        let first = dice.odd(1).min(u64::MAX - 4);
        for number in first..=first + dice.roll(3) as u64 {
            let bytes;
            (bytes, next_lsn, crc) = segment(&mut dice, number, next_lsn, crc);
            disk.place(&segment_path(folder(), number), bytes);
        }
        let (from_lsn, durable_lsn) = (dice.odd(1), dice.odd(0));
        let attempt = || {
            let Ok((frames, tail)) = read_from(&disk, from_lsn.max(1), durable_lsn) else { return false };
            // A log whose LSNs have no room for more is one that nobody can write on.
            if tail.last_lsn > 1 << 60 {
                return false;
            }
            let start = Start::After(Box::new(tail));
            let Ok((mut writer, handle)) = WalWriter::start(disk.clone(), folder(), start, small(), 1) else { return false };
            append_rows(&mut writer, 1, 4).unwrap();
            handle.sync_now().unwrap();
            drop(writer);
            assert!(frames.iter().all(|frame| frame.body.len() == 3), "a frame that nobody wrote");
            true
        };
        match catch_unwind(AssertUnwindSafe(attempt)) {
            Ok(went) => taken += u64::from(went),
            Err(_) => panic!("seed {seed}"),
        }
    }
    assert!(taken > all / 100 && taken < all, "{taken} of {all} were taken");
}
