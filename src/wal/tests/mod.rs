//! Tests of the log as a whole, on the simulated disk: the decision table, crashes by seed, every flipped bit and every length, golden bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod crafted;
mod crashes;
mod flips;
mod full_disks;
mod golden;
mod running;
mod tails;
mod verdicts;

use std::path::{Path, PathBuf};

use super::frame::{FRAME_BODY_BYTES_MAX, Link, encode};
use super::segment::{SegmentHeader, segment_path};
use super::*;
use crate::storage::SimulatedDisk;

/// A frame as read, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    kind: FrameKind,
    first_lsn: u64,
    row_count: u32,
    now_us: i64,
    positions: Vec<u8>,
    body: Vec<u64>,
}

impl Owned {
    fn of(frame: &Frame<'_>) -> Self {
        Self {
            kind: frame.kind,
            first_lsn: frame.first_lsn,
            row_count: frame.row_count,
            now_us: frame.now_us,
            positions: frame.positions.to_vec(),
            body: frame.body.to_vec(),
        }
    }

    fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.row_count).max(1) - 1
    }
}

const LOG: LogIdentity = LogIdentity { log_id: 0x5354_5245_414D_4741_5547_4500_0000_0001, hash_seed: 0xFEED };

fn folder() -> &'static Path {
    Path::new("data/wal")
}

fn small() -> WalOptions {
    WalOptions { segment_bytes: 4096, ..WalOptions::default() }
}

fn fresh(disk: &SimulatedDisk) -> (WalWriter<SimulatedDisk>, WalHandle<SimulatedDisk>) {
    let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::Fresh { log: LOG }, small(), 1).unwrap();
    // Every segment but the first has a head.
    writer.set_head(HEAD);
    (writer, handle)
}

/// Longer than a sector, so that a crash may keep a header and lose its head.
const HEAD: &[u8] = &[b'h'; 400];

/// What the syncer does when it comes round: a sync, and the next segment.
fn attend(handle: &WalHandle<SimulatedDisk>) {
    handle.sync_now().unwrap();
    handle.prepare().unwrap();
}

/// Appends one frame whose content follows from its LSN.
fn append_rows(writer: &mut WalWriter<SimulatedDisk>, rows: u32, words: usize) -> Result<Owned, WalError> {
    let first_lsn = writer.next_lsn();
    let body: Vec<u64> = (0..words as u64).map(|word| first_lsn.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word).collect();
    let positions = first_lsn.to_le_bytes()[..(first_lsn % 8) as usize].to_vec();
    let now_us = 1_000_000 * first_lsn.cast_signed();
    let (one, other) = body.split_at(words / 2);
    writer.append([FrameParts { kind: FrameKind::ROWS, flags: 0, row_count: rows, now_us, positions: &positions, body: &[one, other] }])?;
    Ok(Owned { kind: FrameKind::ROWS, first_lsn, row_count: rows, now_us, positions, body })
}

fn read_from(disk: &SimulatedDisk, from_lsn: u64, durable_lsn: u64) -> Result<(Vec<Owned>, WalTail), WalOpenError> {
    let survey = WalSurvey::look(disk, folder(), None)?;
    let mut reader = WalReader::open(disk.clone(), survey, from_lsn, durable_lsn)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push(Owned::of(&frame));
    }
    Ok((frames, reader.tail().unwrap()))
}

fn read_all(disk: &SimulatedDisk) -> Result<(Vec<Owned>, WalTail), WalOpenError> {
    read_from(disk, FIRST_LSN, 0)
}

/// Only frames that carry rows; marks and close frames come and go with timing.
fn rows_only(frames: &[Owned]) -> Vec<Owned> {
    frames.iter().filter(|frame| frame.kind == FrameKind::ROWS).cloned().collect()
}

/// Segments written byte by byte, for states that a writer never leaves behind.
struct Raw {
    bytes: Vec<u8>,
    prev_crc: u32,
    next_lsn: u64,
    durable_lsn: u64,
    log: LogIdentity,
}

impl Raw {
    fn new(number: u64, first_lsn: u64, prev_crc: u32) -> Self {
        Self::of(LOG, number, first_lsn, prev_crc)
    }

    fn of(log: LogIdentity, number: u64, first_lsn: u64, prev_crc: u32) -> Self {
        let header = SegmentHeader { log, writer_epoch: 1, number, first_lsn, created_us: 0, prev_crc, head_bytes: 0 };
        Self { bytes: header.encode().to_vec(), prev_crc, next_lsn: first_lsn, durable_lsn: 0, log }
    }

    fn frame(mut self, kind: FrameKind) -> Self {
        self.push(kind, 1, &[self.next_lsn, 7, 8]);
        self
    }

    fn push(&mut self, kind: FrameKind, row_count: u32, body: &[u64]) {
        let parts = FrameParts { kind, flags: 0, row_count, now_us: 5, positions: b"p", body: &[body] };
        let link = Link { first_lsn: self.next_lsn, durable_lsn: self.durable_lsn, prev_crc: self.prev_crc, salt: self.log.salt() };
        self.prev_crc = encode(&mut self.bytes, &parts, link);
        self.next_lsn += parts.lsns();
    }

    fn zeroes(mut self, bytes: usize) -> Self {
        self.bytes.resize(self.bytes.len() + bytes, 0);
        self
    }

    fn place(self, disk: &SimulatedDisk, number: u64) -> PathBuf {
        let path = segment_path(folder(), number);
        disk.place(&path, self.bytes);
        path
    }
}

#[test]
fn a_frame_beyond_its_bound_is_refused_and_changes_nothing() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    let body = vec![0_u64; FRAME_BODY_BYTES_MAX / 8 + 1];
    let parts = FrameParts { kind: FrameKind::ROWS, flags: 0, row_count: 1, now_us: 0, positions: &[], body: &[&body] };
    assert!(matches!(writer.append([parts]), Err(WalError::FrameTooLarge { .. })));
    assert_eq!(append_rows(&mut writer, 1, 2).unwrap().first_lsn, 1);
}
