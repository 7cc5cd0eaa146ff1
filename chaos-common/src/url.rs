//! Paths that requests by HTTP ask for, spelt for a longest prefix match.
//!
//! The key is the bank, then the path as it is in the request, up to its query, with a 0 behind it. So what
//! begins with `/api/` is an entry of these bytes, and `/health` alone one with the 0.

/// How much of a path is compared, in bytes, the 0 at its end among them.
pub const COMPARED: usize = 128;
/// Bytes of a key.
pub const KEY: usize = 1 + COMPARED;
