//! Bytes written once can be read for ever: two segments in `tests/golden/`, written by the helper below where there is
//! none, or anew with `STREAMGAUGE_WRITE_GOLDEN=1`. Both formats, of segments and of frames, are in the folder's name.

use super::*;
use crate::storage::{Disk, Storage};
use crate::wal::frame::FRAME_FORMAT;

/// Writes the fixture of these formats if the repository does not hold it yet, or is told to.
fn fixture() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/wal-{FORMAT}-{FRAME_FORMAT}/000000000001.seg"));
    let rewrite = std::env::var_os("STREAMGAUGE_WRITE_GOLDEN").is_some();
    if rewrite && path.exists() {
        Disk.remove(&path).unwrap();
    }
    if !path.exists() {
        let folder = path.parent().unwrap();
        let (mut writer, handle) = WalWriter::start(Disk, folder, Start::Fresh { log: LOG }, small(), 1_795_146_062_000_000).unwrap();
        for kind in 1..=FrameKind::MARK.0 {
            let parts = FrameParts {
                kind: FrameKind(kind),
                flags: kind,
                row_count: u32::from(kind) - 1,
                now_us: 1_795_146_062_000_000 + i64::from(kind),
                positions: b"positions",
                body: &[&[1, 2], &[u64::from(kind)]],
            };
            writer.append([parts]).unwrap();
            handle.sync_now().unwrap();
        }
        // A second segment, with a head.
        writer.set_head(b"what is declared");
        handle.prepare().unwrap();
        let now_us = 1_795_146_062_000_006;
        writer.append([FrameParts { kind: FrameKind::SKIP, flags: 0, row_count: 0, now_us, positions: &[], body: &[&[1]] }]).unwrap();
        writer.close(1_795_146_063_000_000).unwrap();
        assert_eq!(handle.head_before(12).unwrap(), SegmentHead { first_lsn: 12, text: b"what is declared".to_vec() });
    }
    path
}

#[test]
fn a_segment_written_by_the_first_build_opens() {
    let path = fixture();
    let folder = path.parent().unwrap();
    let survey = WalSurvey::look(&Disk, folder, Some(LOG.log_id)).unwrap();
    assert_eq!((survey.log(), survey.skipped()), (Some(LOG), [1].as_slice()));
    let mut reader = WalReader::open(Disk, survey, FIRST_LSN, 0).unwrap();
    for (kind, first_lsn) in [(1_u8, 1), (2, 2), (3, 3), (4, 5), (5, 8)] {
        let frame = reader.next().unwrap().unwrap();
        assert_eq!((frame.kind, frame.flags, frame.row_count, frame.first_lsn), (FrameKind(kind), kind, u32::from(kind) - 1, first_lsn));
        assert_eq!(frame.now_us, 1_795_146_062_000_000 + i64::from(kind));
        assert_eq!((frame.positions, frame.body), (b"positions".as_slice(), [1, 2, u64::from(kind)].as_slice()));
        assert_eq!(frame.durable_lsn, first_lsn - 1);
    }
    assert_eq!(reader.next().unwrap().unwrap().kind, FrameKind::SKIP);
    assert_eq!(reader.next().unwrap().unwrap().kind, FrameKind::CLOSE);
    assert_eq!(reader.next().unwrap(), None);
    assert_eq!(reader.tail().unwrap().end, TailEnd::Sealed { synced: true });
    assert_eq!(Disk.list(folder).unwrap().len(), 2);
}
