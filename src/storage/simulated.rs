//! The simulated disk for tests: durable bytes, pending writes, and everything a disk does wrong, chosen by a seed.
//!
//! Each file has the bytes a reader sees and the bytes that would survive a power cut, with the list of changes between the two. A sync makes a file's
//! changes durable; a folder sync makes its names durable. [`SimulatedDisk::crash`] keeps a seed-chosen subset of pending writes, each torn into
//! 512-byte sectors that live or die alone, and a prefix of the pending name changes (journalling file systems order those).
//!
//! Not here: time. A sync that hangs is a thread test, not a disk test.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Entry, IoError, Operation, Space, Storage, StorageFile};

/// A sector is written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What goes wrong while the disk runs. The default is a disk without faults.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes the disk has in all; nothing is unlimited.
    pub capacity_bytes: Option<u64>,
    /// Every operation fails from this one on (counted from 0), as if the process had been killed before it.
    pub stop_at: Option<u64>,
    /// The sync with this number (counted from 0) and every later one fails with EIO.
    pub fail_sync_at: Option<u64>,
    /// The write with this number (counted from 0) fails with EIO.
    pub fail_write_at: Option<u64>,
    /// Every write and every reservation answers that there is no room, also inside of a file: a file size limit, or a file system that
    /// copies on write.
    pub refuse_writes: bool,
    /// The read with this number (counted from 0) and every later one fails with EIO.
    pub fail_read_at: Option<u64>,
    /// Syncs answer "done" and do nothing.
    pub lying_sync: bool,
    /// The longest write that succeeds whole; longer ones are short.
    pub write_bytes_max: Option<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    reserved: u64,
}

#[derive(Debug, Default)]
struct World {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Name states after each change since the last folder sync; a crash keeps one of them.
    name_history: Vec<BTreeMap<PathBuf, u64>>,
    next_inode: u64,
    operations: u64,
    syncs: u64,
    writes: u64,
    reads: u64,
    faults: Faults,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<World>>);

/// An open file of a simulated disk.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    path: PathBuf,
}

/// splitmix64: the next number of a seed (Steele, Lea, Flood 2014).
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn write_into(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(written);
    }
}

impl Inode {
    fn settle(&mut self) {
        self.durable.clone_from(&self.seen);
        self.pending.clear();
    }

    fn crash(&mut self, seed: &mut u64) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Length(len) if next_random(seed).is_multiple_of(2) => self.durable.resize(len, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    let survives_whole = next_random(seed).is_multiple_of(4);
                    let mut at = 0;
                    while at < bytes.len() {
                        // Sectors are aligned on the disk, not in the write.
                        let until = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                        let sector = bytes.get(at..until.min(bytes.len())).unwrap_or_default();
                        if survives_whole || next_random(seed).is_multiple_of(2) {
                            write_into(&mut self.durable, offset + at, sector);
                        }
                        at += sector.len().max(1);
                    }
                }
            }
        }
        self.seen.clone_from(&self.durable);
        self.reserved = self.seen.len() as u64;
    }
}

impl World {
    fn step(&mut self, operation: Operation, path: &Path) -> Result<(), IoError> {
        let number = self.operations;
        self.operations += 1;
        if self.faults.stop_at.is_some_and(|stop| number >= stop) {
            return Err(IoError::new(operation, path, io::Error::other("the simulated process has been killed")));
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        let named: std::collections::BTreeSet<u64> = self.names.values().copied().collect();
        named.iter().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.reserved).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.faults.capacity_bytes.map_or(u64::MAX / 4, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn names_changed(&mut self) {
        self.name_history.push(self.names.clone());
    }

    fn sync_names(&mut self, path: &Path) -> Result<(), IoError> {
        self.sync_step(path)?;
        if !self.faults.lying_sync {
            self.durable_names.clone_from(&self.names);
            self.name_history.clear();
        }
        Ok(())
    }

    fn sync_step(&mut self, path: &Path) -> Result<(), IoError> {
        self.step(Operation::Sync, path)?;
        let number = self.syncs;
        self.syncs += 1;
        if self.faults.fail_sync_at.is_some_and(|first| number >= first) {
            return Err(IoError::new(Operation::Sync, path, io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }

    fn inode(&mut self, inode: u64, operation: Operation, path: &Path) -> Result<&mut Inode, IoError> {
        self.inodes.get_mut(&inode).ok_or_else(|| IoError::new(operation, path, io::Error::from(io::ErrorKind::NotFound)))
    }
}

fn no_room(operation: Operation, path: &Path) -> IoError {
    IoError::new(operation, path, io::Error::from_raw_os_error(28))
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the faults; the counts of operations, syncs, writes and reads begin again at 0.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.0.lock();
        world.faults = faults;
        (world.operations, world.syncs, world.writes, world.reads) = (0, 0, 0, 0);
    }

    /// Bytes taken on the disk, reserved ones included.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Syncs of files and folders since the last [`SimulatedDisk::set_faults`].
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Operations since the last [`SimulatedDisk::set_faults`].
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Power cut: what a reader sees afterwards is what survived. Faults are gone.
    pub fn crash(&self, mut seed: u64) {
        let mut world = self.0.lock();
        let world = &mut *world;
        let kept = usize::try_from(next_random(&mut seed)).unwrap_or_default() % (world.name_history.len() + 1);
        if let Some(names) = kept.checked_sub(1).and_then(|last| world.name_history.get(last)) {
            world.durable_names = names.clone();
        }
        world.name_history.clear();
        world.names.clone_from(&world.durable_names);
        for inode in world.inodes.values_mut() {
            inode.crash(&mut seed);
        }
        world.faults = Faults::default();
    }

    /// The process is killed and the machine lives on: everything written is seen. Faults are gone.
    pub fn kill(&self) {
        self.0.lock().faults = Faults::default();
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.0.lock();
        world.names.get(path).and_then(|inode| world.inodes.get(inode)).map(|inode| inode.seen.clone())
    }

    /// Replaces or adds a durable file, as a disk fault or a copy from elsewhere would.
    pub fn place(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.0.lock();
        let inode = world.next_inode;
        world.next_inode += 1;
        let reserved = bytes.len() as u64;
        world.inodes.insert(inode, Inode { durable: bytes.clone(), seen: bytes, pending: Vec::new(), reserved });
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }

    fn open_any(&self, path: &Path) -> Result<SimulatedFile, IoError> {
        let mut world = self.0.lock();
        world.step(Operation::Open, path)?;
        let missing = || IoError::new(Operation::Open, path, io::Error::from(io::ErrorKind::NotFound));
        let inode = world.names.get(path).copied().ok_or_else(missing)?;
        Ok(SimulatedFile { disk: self.clone(), inode, path: path.to_owned() })
    }
}

impl Storage for SimulatedDisk {
    type File = SimulatedFile;

    fn create_folder(&self, folder: &Path) -> Result<(), IoError> {
        self.0.lock().step(Operation::Create, folder)
    }

    fn create(&self, path: &Path) -> Result<SimulatedFile, IoError> {
        let mut world = self.0.lock();
        world.step(Operation::Create, path)?;
        if world.names.contains_key(path) {
            return Err(IoError::new(Operation::Create, path, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let inode = world.next_inode;
        world.next_inode += 1;
        world.inodes.insert(inode, Inode::default());
        world.names.insert(path.to_owned(), inode);
        world.names_changed();
        world.sync_names(path)?;
        Ok(SimulatedFile { disk: self.clone(), inode, path: path.to_owned() })
    }

    fn open(&self, path: &Path) -> Result<SimulatedFile, IoError> {
        self.open_any(path)
    }

    fn open_read(&self, path: &Path) -> Result<SimulatedFile, IoError> {
        self.open_any(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<Entry>, IoError> {
        let mut world = self.0.lock();
        world.step(Operation::List, folder)?;
        let within = |path: &&PathBuf| path.parent() == Some(folder);
        let mut entries = Vec::new();
        for path in world.names.keys().filter(within) {
            let len = world.names.get(path).and_then(|inode| world.inodes.get(inode)).map_or(0, |inode| inode.seen.len() as u64);
            entries.push(Entry { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), len });
        }
        entries.sort();
        Ok(entries)
    }

    fn folders(&self, folder: &Path) -> Result<Vec<String>, IoError> {
        let mut world = self.0.lock();
        world.step(Operation::List, folder)?;
        let inside = |path: &PathBuf| {
            let mut parts = path.strip_prefix(folder).ok()?.components();
            let first = parts.next()?;
            parts.next().is_some().then(|| first.as_os_str().to_string_lossy().into_owned())
        };
        let names: std::collections::BTreeSet<String> = world.names.keys().filter_map(inside).collect();
        Ok(names.into_iter().collect())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        {
            let mut world = self.0.lock();
            if world.names.contains_key(to) {
                world.step(Operation::Rename, from)?;
                return Err(IoError::new(Operation::Rename, from, io::Error::from(io::ErrorKind::AlreadyExists)));
            }
        }
        self.rename(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut world = self.0.lock();
        world.step(Operation::Rename, from)?;
        let missing = || IoError::new(Operation::Rename, from, io::Error::from(io::ErrorKind::NotFound));
        let inode = world.names.remove(from).ok_or_else(missing)?;
        world.names.insert(to.to_owned(), inode);
        world.names_changed();
        world.sync_names(to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let mut world = self.0.lock();
        world.step(Operation::Remove, path)?;
        if world.names.remove(path).is_none() {
            return Err(IoError::new(Operation::Remove, path, io::Error::from(io::ErrorKind::NotFound)));
        }
        world.names_changed();
        world.sync_names(path)
    }

    fn overwrite_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        let file = {
            let mut world = self.0.lock();
            world.step(Operation::Create, path)?;
            let inode = match world.names.get(path) {
                Some(inode) => *inode,
                None => {
                    let inode = world.next_inode;
                    world.next_inode += 1;
                    world.inodes.insert(inode, Inode::default());
                    world.names.insert(path.to_owned(), inode);
                    world.names_changed();
                    inode
                }
            };
            SimulatedFile { disk: self.clone(), inode, path: path.to_owned() }
        };
        file.set_len(0)?;
        file.write_all_at(bytes, 0)
    }

    fn space(&self, _folder: &Path) -> Result<Space, IoError> {
        let world = self.0.lock();
        Ok(Space { free_bytes: world.free_bytes(), total_bytes: world.faults.capacity_bytes.unwrap_or(u64::MAX / 4) })
    }
}

impl StorageFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, IoError> {
        let mut world = self.disk.0.lock();
        world.step(Operation::Write, &self.path)?;
        let number = world.writes;
        world.writes += 1;
        if world.faults.refuse_writes {
            return Err(no_room(Operation::Write, &self.path));
        }
        if world.faults.fail_write_at == Some(number) {
            return Err(IoError::new(Operation::Write, &self.path, io::Error::from_raw_os_error(5)));
        }
        let (free, longest) = (world.free_bytes(), world.faults.write_bytes_max.unwrap_or(usize::MAX));
        let inode = world.inode(self.inode, Operation::Write, &self.path)?;
        let room = (inode.reserved + free).saturating_sub(offset);
        let fits = bytes.len().min(longest).min(usize::try_from(room).unwrap_or(usize::MAX));
        if fits == 0 && !bytes.is_empty() {
            return Err(no_room(Operation::Write, &self.path));
        }
        let written = bytes.get(..fits).unwrap_or_default();
        let start = usize::try_from(offset).map_err(|_| no_room(Operation::Write, &self.path))?;
        inode.reserved = inode.reserved.max(offset + fits as u64);
        write_into(&mut inode.seen, start, written);
        inode.pending.push(Change::Write { offset: start, bytes: written.to_vec() });
        Ok(fits)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let mut world = self.disk.0.lock();
        world.step(Operation::Read, &self.path)?;
        let number = world.reads;
        world.reads += 1;
        if world.faults.fail_read_at.is_some_and(|first| number >= first) {
            return Err(IoError::new(Operation::Read, &self.path, io::Error::from_raw_os_error(5)));
        }
        let inode = world.inode(self.inode, Operation::Read, &self.path)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(inode.seen.len());
        let available = inode.seen.get(from..).unwrap_or_default();
        let got = available.len().min(bytes.len());
        if let (Some(to), Some(source)) = (bytes.get_mut(..got), available.get(..got)) {
            to.copy_from_slice(source);
        }
        Ok(got)
    }

    fn sync(&self) -> Result<(), IoError> {
        let mut world = self.disk.0.lock();
        if let Err(error) = world.sync_step(&self.path) {
            if world.faults.fail_sync_at.is_some() {
                // fsyncgate: the pages are clean now, and no later sync will write them.
                if let Some(inode) = world.inodes.get_mut(&self.inode) {
                    inode.pending.clear();
                }
            }
            return Err(error);
        }
        if !world.faults.lying_sync {
            world.inode(self.inode, Operation::Sync, &self.path)?.settle();
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        let mut world = self.disk.0.lock();
        world.step(Operation::Resize, &self.path)?;
        let size = usize::try_from(len).map_err(|_| no_room(Operation::Resize, &self.path))?;
        let inode = world.inode(self.inode, Operation::Resize, &self.path)?;
        inode.seen.resize(size, 0);
        inode.reserved = inode.reserved.min(len);
        inode.pending.push(Change::Length(size));
        Ok(())
    }

    fn preallocate(&self, len: u64) -> Result<(), IoError> {
        let mut world = self.disk.0.lock();
        world.step(Operation::Resize, &self.path)?;
        if world.faults.refuse_writes {
            return Err(no_room(Operation::Resize, &self.path));
        }
        let free = world.free_bytes();
        let size = usize::try_from(len).map_err(|_| no_room(Operation::Resize, &self.path))?;
        let inode = world.inode(self.inode, Operation::Resize, &self.path)?;
        if len > inode.reserved + free {
            return Err(no_room(Operation::Resize, &self.path));
        }
        inode.reserved = inode.reserved.max(len);
        if inode.seen.len() < size {
            inode.seen.resize(size, 0);
            inode.pending.push(Change::Length(size));
        }
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, IoError> {
        let mut world = self.disk.0.lock();
        world.step(Operation::Inspect, &self.path)?;
        Ok(world.inode(self.inode, Operation::Inspect, &self.path)?.seen.len() as u64)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_survive_every_crash_and_unsynced_sectors_live_or_die_alone() {
        let mut mixed = 0;
        for seed in 0..50 {
            let disk = SimulatedDisk::new();
            let path = Path::new("d/f");
            let file = disk.create(path).unwrap();
            file.write_all_at(&[1; 700], 0).unwrap();
            file.sync().unwrap();
            file.write_all_at(&[2; 4096], 700).unwrap();
            disk.crash(seed);
            let bytes = disk.bytes(path).unwrap();
            assert_eq!(&bytes[..700], &[1; 700]);
            let twos = bytes[700..].iter().filter(|byte| **byte == 2).count();
            mixed += usize::from(twos > 0 && twos < 4096);
        }
        assert!(mixed > 10, "torn writes must be common, saw {mixed}");
    }

    #[test]
    fn a_full_disk_writes_short_and_then_nothing() {
        let disk = SimulatedDisk::new();
        disk.set_faults(Faults { capacity_bytes: Some(1000), ..Faults::default() });
        let file = disk.create(Path::new("f")).unwrap();
        assert_eq!(file.write_at(&[1; 600], 0).unwrap(), 600);
        assert_eq!(file.write_at(&[1; 600], 600).unwrap(), 400);
        assert!(file.write_at(&[1; 600], 1000).unwrap_err().full());
        assert!(disk.create(Path::new("g")).unwrap().preallocate(1).unwrap_err().full());
        file.set_len(0).unwrap();
        assert_eq!(file.write_at(&[1; 600], 0).unwrap(), 600);
    }
}
