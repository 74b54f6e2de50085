//! Every flipped bit and every length of a small log of two segments: refused, or an exact prefix. Never another answer, never a panic.

use super::*;

fn two_segments() -> (SimulatedDisk, Vec<Owned>) {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    handle.prepare().unwrap();
    while handle.status().segments < 2 {
        written.push(append_rows(&mut writer, 2, 60).unwrap());
        handle.sync_now().unwrap();
    }
    for _ in 0..3 {
        written.push(append_rows(&mut writer, 2, 20).unwrap());
    }
    handle.sync_now().unwrap();
    writer.append_mark(1).unwrap();
    (disk, written)
}

/// Checks one altered file: `Ok` with the number of frames, or the refusal.
fn check(number: u64, bytes: Vec<u8>, others: &SimulatedDisk, written: &[Owned], what: &str) -> Result<usize, WalOpenError> {
    let disk = SimulatedDisk::new();
    for segment in 1..=2 {
        let path = segment_path(folder(), segment);
        disk.place(&path, if segment == number { bytes.clone() } else { others.bytes(&path).unwrap() });
    }
    let (frames, tail) = read_all(&disk)?;
    let frames = rows_only(&frames);
    assert!(written.starts_with(&frames), "{what}: not a prefix");
    let (writer, _) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 3).unwrap();
    drop(writer);
    assert_eq!(rows_only(&read_all(&disk).unwrap().0), frames, "{what}: the settled log reads differently");
    Ok(frames.len())
}

#[test]
fn every_flipped_bit_is_seen() {
    let (disk, written) = two_segments();
    let (mut refused, mut prefixes) = (0, 0);
    for number in 1..=2 {
        let bytes = disk.bytes(&segment_path(folder(), number)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match check(number, flipped, &disk, &written, &format!("bit {bit} of segment {number}")) {
                Err(_) => refused += 1,
                Ok(_) => {
                    assert_eq!(number, 2, "bit {bit} of the sealed segment was not seen");
                    prefixes += 1;
                }
            }
        }
    }
    assert!(refused > 30_000 && prefixes > 10_000, "{refused} refused, {prefixes} prefixes");
}

#[test]
fn every_length_gives_a_prefix_or_a_refusal() {
    let (disk, written) = two_segments();
    for number in 1..=2 {
        let bytes = disk.bytes(&segment_path(folder(), number)).unwrap();
        for len in 0..bytes.len() {
            let result = check(number, bytes[..len].to_vec(), &disk, &written, &format!("length {len} of segment {number}"));
            // The last four bytes of a sealed file are zeroes, as is what a reader sees behind its end; and without its footer nothing is missing.
            if number == 1 && (len >= bytes.len() - 4 || len == bytes.len() - 56) {
                assert_eq!(result, Ok(written.len()), "length {len} of the sealed segment");
            } else if number == 1 {
                assert!(result.is_err(), "length {len} of segment {number}");
            }
            // Of the last one every length is an exact prefix or refused: that is checked on the way.
        }
    }
}

#[test]
fn blocks_that_are_zeroed_swapped_or_stale_are_seen() {
    let (disk, written) = two_segments();
    for number in 1..=2 {
        let bytes = disk.bytes(&segment_path(folder(), number)).unwrap();
        let other = disk.bytes(&segment_path(folder(), 3 - number)).unwrap();
        for block in 0..bytes.len() / 512 {
            let here = block * 512..(block + 1) * 512;
            for source in [vec![0; 512], bytes[..512].to_vec(), other.get(here.clone()).unwrap_or(&[9; 512]).to_vec()] {
                let mut altered = bytes.clone();
                altered[here.clone()].copy_from_slice(&source);
                if altered != bytes {
                    drop(check(number, altered, &disk, &written, &format!("block {block} of segment {number}")));
                }
            }
        }
    }
}
