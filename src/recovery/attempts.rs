//! How many starts have died while they replayed the same frame.
//!
//! A panic in `State::apply` ends the process, and the next start applies the same frame: a crash loop. So a start writes down where
//! it is *before* it applies, and reads what the one before wrote. Whatever ended that (a panic, an abort, a signal, the kernel),
//! the words are in the page cache; nothing is synced, and what a power cut takes of it only makes the count start again.
//!
//! ```text
//! DATA/replaying, 64 bytes
//!   0  "SGREPLAY"             8  u64 hash of the program's version    16  u64 LSN where a stretch or frame begins, 0 = not replaying
//!  24  u64 1 = that frame alone, 0 = a stretch of STRETCH_FRAMES      32  u64 LSN that starts died at, 0 = none
//!  40  u64 1 = in that frame, 0 = in a stretch                        48  u64 how many starts    56  u64 CRC-32 of bytes 0 to 56
//! ```
//! One small write per [`STRETCH_FRAMES`] frames; in the stretch that a start died in, one per frame. So the first death gives the stretch
//! (and counts for whichever frame of it the next one dies in), the second the frame, and the start after the third ([`DEATHS_MAX`])
//! stops in front of it. A program of another version starts to count anew: it may have the mend. Counting never prevents a start: a
//! file that cannot be written is told and left alone.

use crate::storage::{Checksum, IoError, Storage, StorageFile};
use std::path::Path;

/// So many starts may die in one frame.
pub const DEATHS_MAX: u64 = 3;
/// Frames between two writes.
pub const STRETCH_FRAMES: u64 = 256;

const MAGIC: u64 = u64::from_le_bytes(*b"SGREPLAY");
const WORDS: usize = 8;

/// A place in the log: a frame, or the stretch of frames that begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    lsn: u64,
    exact: bool,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    /// Where the process is, or was when it died.
    at: Option<Place>,
    /// Where starts before it died, and how many.
    suspect: Option<(Place, u64)>,
}

impl Mark {
    /// What a start makes of the words of the one before: where that died, and how many have died there now.
    fn suspects(self) -> Option<(Place, u64)> {
        let Some(at) = self.at else { return self.suspect };
        let deaths = match self.suspect {
            // A frame is marked alone only in the stretch that the start before died in: it is the same death, seen closer.
            Some((place, deaths)) if place == at || (at.exact && !place.exact) => deaths + 1,
            _ => 1,
        };
        Some((at, deaths))
    }

    fn encode(self, program: u64) -> [u64; WORDS] {
        let place = |place: Option<Place>| place.map_or((0, 0), |place| (place.lsn, u64::from(place.exact)));
        let (at, exact) = place(self.at);
        let (suspect, alone) = place(self.suspect.map(|(place, _)| place));
        let mut words = [MAGIC, program, at, exact, suspect, alone, self.suspect.map_or(0, |(_, deaths)| deaths), 0];
        words[WORDS - 1] = check(&words);
        assert_eq!(Self::parse(&words, program), Some(self), "what one start writes the next one reads");
        words
    }

    /// None for words that are not whole, not ours, or of another program: nothing is known then.
    fn parse(words: &[u64; WORDS], program: u64) -> Option<Self> {
        let [magic, written_by, at, exact, suspect, alone, deaths, sum] = *words;
        if magic != MAGIC || written_by != program || sum != check(words) {
            return None;
        }
        let place = |lsn: u64, exact: u64| (lsn > 0).then_some(Place { lsn, exact: exact == 1 });
        Some(Self { at: place(at, exact), suspect: place(suspect, alone).map(|place| (place, deaths)) })
    }
}

fn check(words: &[u64; WORDS]) -> u64 {
    u64::from(Checksum::of(bytemuck::cast_slice(&words[..WORDS - 1])))
}

/// The file, and where this start is.
#[derive(Debug)]
pub struct Attempts<F> {
    /// None when it cannot be had: nothing is counted then.
    file: Option<F>,
    program: u64,
    mark: Mark,
    /// Frames until the next write; 0 = now.
    until_write: u64,
    /// Frames still marked one by one.
    one_by_one: u64,
}

impl<F: StorageFile> Attempts<F> {
    /// Reads what the start before left in the data folder.
    pub fn open<S: Storage<File = F>>(storage: &S, data: &Path, version: &str) -> Self {
        let program = u64::from(Checksum::of(version.as_bytes()));
        let (file, mark) = match Self::read(storage, data, program) {
            Ok((file, mark)) => (Some(file), mark),
            Err(error) => {
                tracing::warn!(kind = "recovery.not_counted", %error, "starts that die in one frame cannot be counted");
                (None, Mark::default())
            }
        };
        Self { file, program, mark: Mark { at: None, suspect: mark.suspects() }, until_write: 0, one_by_one: 0 }
    }

    fn read<S: Storage<File = F>>(storage: &S, data: &Path, program: u64) -> Result<(F, Mark), IoError> {
        let path = data.join("replaying");
        let file = match storage.open(&path) {
            Err(error) if error.missing() => storage.create(&path)?,
            other => other?,
        };
        let mut words = [0_u64; WORDS];
        file.read_at(bytemuck::cast_slice_mut(&mut words), 0)?;
        Ok((file, Mark::parse(&words, program).unwrap_or_default()))
    }

    /// This frame is applied next. Returns how many starts have died in it when that were too many.
    pub fn before(&mut self, first_lsn: u64) -> Option<u64> {
        assert!(first_lsn > 0, "LSNs begin at 1");
        if let Some((place, deaths)) = self.mark.suspect.filter(|(place, _)| place.lsn == first_lsn) {
            if place.exact && deaths >= DEATHS_MAX {
                return Some(deaths);
            }
            (self.one_by_one, self.until_write) = (STRETCH_FRAMES, 0);
        }
        let exact = self.one_by_one > 0;
        if exact || self.until_write == 0 {
            self.write(Mark { at: Some(Place { lsn: first_lsn, exact }), ..self.mark });
            self.until_write = STRETCH_FRAMES;
        }
        assert!(self.until_write > 0 && self.one_by_one <= STRETCH_FRAMES, "{} and {}", self.until_write, self.one_by_one);
        self.until_write -= 1;
        if exact {
            self.one_by_one -= 1;
            // What comes behind the stretch is no longer this frame.
            self.until_write = if self.one_by_one == 0 { 0 } else { self.until_write };
        }
        None
    }

    /// The replay ended with a refusal: nobody died, and what is known stays known.
    pub fn refused(&mut self) {
        self.write(Mark { at: None, ..self.mark });
    }

    /// The state stands: no frame ends a start any more.
    pub fn done(&mut self) {
        self.write(Mark::default());
    }

    fn write(&mut self, mark: Mark) {
        self.mark = mark;
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(bytemuck::cast_slice(&mark.encode(self.program)), 0) {
            tracing::warn!(kind = "recovery.not_counted", %error, "starts that die in one frame cannot be counted");
            self.file = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::storage::{Faults, SimulatedDisk, SimulatedFile};

    fn open(disk: &SimulatedDisk, version: &str) -> Attempts<SimulatedFile> {
        Attempts::open(disk, Path::new("data"), version)
    }

    /// A start over frames with these first LSNs that dies in one of them; `Err` when it stopped in front of one.
    fn start(disk: &SimulatedDisk, frames: &[u64], dies_in: Option<u64>) -> Result<(), (u64, u64)> {
        let mut attempts = open(disk, "1");
        for lsn in frames {
            if let Some(deaths) = attempts.before(*lsn) {
                attempts.refused();
                return Err((*lsn, deaths));
            }
            if dies_in == Some(*lsn) {
                return Ok(());
            }
        }
        attempts.done();
        Ok(())
    }

    #[test]
    fn the_start_after_the_third_that_died_in_one_frame_stops_in_front_of_it() {
        let frames: Vec<u64> = (0..2000).map(|number| 1 + number * 3).collect();
        for dies in [0, 1, 255, 256, 257, 1000, 1999] {
            let disk = SimulatedDisk::new();
            let lsn = frames[dies];
            for _ in 0..DEATHS_MAX {
                assert_eq!(start(&disk, &frames, Some(lsn)), Ok(()), "frame {dies}");
            }
            for _ in 0..3 {
                assert_eq!(start(&disk, &frames, Some(lsn)), Err((lsn, DEATHS_MAX)), "frame {dies}: and it stays so");
            }
        }
    }

    #[test]
    fn deaths_in_other_places_and_starts_that_stand_break_the_row() {
        let frames: Vec<u64> = (1..1000).collect();
        let disk = SimulatedDisk::new();
        // A killed start here and there is no loop.
        for lsn in [700, 10, 700, 701, 10, 700, 300] {
            assert_eq!(start(&disk, &frames, Some(lsn)), Ok(()));
        }
        // Two deaths, then it stands.
        let disk = SimulatedDisk::new();
        for _ in 0..3 {
            assert_eq!(start(&disk, &frames, Some(500)), Ok(()));
            assert_eq!(start(&disk, &frames, Some(500)), Ok(()));
            assert_eq!(start(&disk, &frames, None), Ok(()));
        }
    }

    #[test]
    fn a_frame_behind_the_stretch_that_was_looked_at_closely_is_not_taken_for_its_last() {
        let frames: Vec<u64> = (1..1000).collect();
        let disk = SimulatedDisk::new();
        start(&disk, &frames, Some(10)).unwrap();
        // The first stretch is marked frame by frame; these die behind it, each in another frame.
        for lsn in [300, 301, 302, 400, 500] {
            start(&disk, &frames, Some(lsn)).unwrap();
            let died = Attempts::<SimulatedFile>::read(&disk, Path::new("data"), u64::from(Checksum::of(b"1"))).unwrap().1.at.unwrap();
            assert!(died.lsn > STRETCH_FRAMES, "{died:?} for {lsn}");
        }
    }

    #[test]
    fn another_program_tries_again() {
        let frames = [1, 2, 3];
        let disk = SimulatedDisk::new();
        for _ in 0..DEATHS_MAX {
            start(&disk, &frames, Some(2)).unwrap();
        }
        assert_eq!(start(&disk, &frames, None), Err((2, DEATHS_MAX)));
        let mut mended = open(&disk, "2");
        assert!(frames.iter().all(|lsn| mended.before(*lsn).is_none()));
    }

    #[test]
    fn a_file_that_is_torn_or_cannot_be_written_prevents_nothing() {
        let frames = [1, 2, 3];
        let path = Path::new("data/replaying");
        for bytes in [vec![], vec![7; 64], vec![0; 200], MAGIC.to_le_bytes().to_vec()] {
            let disk = SimulatedDisk::new();
            disk.place(path, bytes);
            start(&disk, &frames, None).unwrap();
        }
        let disk = SimulatedDisk::new();
        disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
        for _ in 0..10 {
            start(&disk, &frames, Some(2)).unwrap();
        }
    }

    #[test]
    fn one_write_per_stretch_and_none_is_synced() {
        let frames: Vec<u64> = (1..=10 * STRETCH_FRAMES).collect();
        let disk = SimulatedDisk::new();
        start(&disk, &frames, None).unwrap();
        disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
        let before = disk.operations();
        start(&disk, &frames, None).unwrap();
        // Opening and reading, ten stretches, and the end.
        assert_eq!(disk.operations() - before, 2 + 10 + 1);
    }
}
