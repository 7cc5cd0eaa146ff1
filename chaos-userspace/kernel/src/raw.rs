//! Values of the wire format as maps hold them.

use aya::Pod;
use chaos_common::Plain;

/// A value of the wire format in a map, as its bytes: [`Pod`] is aya's trait, and the wire format
/// does not depend on aya.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Raw<T>(pub(super) T);

// SAFETY: `Plain` asks for what `Pod` asks for, and the representation is that of the value.
unsafe impl<T: Plain> Pod for Raw<T> {}
