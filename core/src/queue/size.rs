//! Numbers of records and of their bytes.

/// A number of records, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The number of records.
    pub records: u64,
    /// The records' bytes, as they were pushed.
    pub bytes: u64,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, more: Self) {
        self.records += more.records;
        self.bytes += more.bytes;
    }
}

impl std::ops::SubAssign for Size {
    fn sub_assign(&mut self, less: Self) {
        self.records -= less.records;
        self.bytes -= less.bytes;
    }
}
