//! The buffer in which kernel programs tell of their decisions.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Map, MapData, MapError, RingBuf};
use chaos_common::event::{Event, SIZE};

/// The reading end. Its descriptor is readable when there are events; what is in the
/// buffer stays readable after the programs have gone.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn new(map: MapData) -> Result<Self, MapError> {
        Ok(Self(Map::RingBuf(map).try_into()?))
    }

    /// The oldest event that was not taken yet.
    pub fn take(&mut self) -> Option<Event> {
        loop {
            let item = self.0.next()?;
            let bytes: &[u8] = &item;
            if bytes.len() >= SIZE {
                // SAFETY: `SIZE` bytes are there, and an `Event` is integers only.
                return Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
