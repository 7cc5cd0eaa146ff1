//! Looks at programs and links in the kernel, of all processes: for tests and benchmarks, which
//! need not depend on aya for it.

pub use aya::maps::MapInfo;
pub use aya::programs::{
    ProgramInfo, SchedClassifier, TestRun, TestRunOptions, loaded_links, loaded_programs,
};
pub use aya::sys::{Stats, enable_stats};
