//! The doorway to crc32fast: which polynomial, by name, and how a running checksum is taken.
//!
//! CRC-32 (IEEE 802.3) and CRC-32C (Castagnoli) are different polynomials; a file header names the one its file uses and readers refuse any other.

/// The polynomial, as file headers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ChecksumKind {
    /// CRC-32 as in IEEE 802.3, zlib and PNG: reflected, polynomial 0x04C11DB7.
    Crc32Ieee = 1,
}

impl ChecksumKind {
    /// The kind of this number in a file header.
    pub fn from_number(number: u32) -> Option<Self> {
        (number == Self::Crc32Ieee as u32).then_some(Self::Crc32Ieee)
    }
}

/// A running CRC-32 (IEEE).
#[derive(Debug, Clone, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a finished checksum, as if its bytes stood before.
    pub fn resume(crc: u32) -> Self {
        Self(crc32fast::Hasher::new_with_initial(crc))
    }

    /// Takes bytes in.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// The checksum of all bytes taken in.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }

    /// The checksum of one slice.
    pub fn of(bytes: &[u8]) -> u32 {
        Self::new().with(bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_ieee_and_not_castagnoli() {
        // Check values of "123456789" from the CRC catalogue: CRC-32 is CBF43926, CRC-32C would be E3069283.
        assert_eq!(Checksum::of(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_resumed_checksum_equals_the_whole() {
        assert_eq!(Checksum::resume(Checksum::of(b"12345")).with(b"6789").finish(), Checksum::of(b"123456789"));
    }
}
