//! Lines of the kernel programs, for `-vvv`: how many, and how they are counted.

/// The most lines a second, in any second.
pub const LINES: u32 = 1000;

/// How many of them are for connects and packets of others than targets, at most.
pub const LINES_OF_OTHERS: u32 = 100;

/// A second, in ns.
pub const SECOND_NS: u64 = 1_000_000_000;

/// What the map `LOG_COUNTS` counts.
pub mod count {
    /// Operations of which there is a line to say, written or not.
    pub const ALL: u32 = 0;
    /// Lines about targets that were written. Their number says which entry of `LOG_TIMES` is next.
    pub const OF_TARGETS: u32 = 1;
    /// The same about others, which have the last entries.
    pub const OF_OTHERS: u32 = 2;
    /// Number of these counts.
    pub const COUNTS: u32 = 3;
}
