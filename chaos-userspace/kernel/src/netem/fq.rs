//! fq in netem's place: it lets go of no packet before the time that is stamped on it, its earliest departure (`net/sched/sch_fq.c`).

use crate::attributes::Attributes;

// `TCA_FQ_…` (`linux/pkt_sched.h`).
const PLIMIT: u16 = 1;
const FLOW_PLIMIT: u16 = 2;
const QUANTUM: u16 = 3;
const INITIAL_QUANTUM: u16 = 4;
const RATE_ENABLE: u16 = 5;
/// Linux 5.8, as the next.
const HORIZON: u16 = 14;
const HORIZON_DROP: u16 = 15;

/// No packet is to depart later than this, in µs: twice the longest delay, as what its sender paces comes on top.
const FARTHEST: u32 = 120_000_000;

/// Bytes of a connection that leave before those of another: by itself fq goes some twenty rounds for one large segment.
const AT_ONCE: u32 = 1 << 18;

/// The bytes behind the kind of an fq qdisc that holds so many packets, of one connection or of many. What fq does by itself
/// is off: it paces no socket, and drops nothing for being late.
pub(super) fn encode(limit: u32) -> Vec<u8> {
    let mut out = Attributes::default();
    out.put_words(PLIMIT, &[limit]);
    out.put_words(FLOW_PLIMIT, &[limit]);
    out.put_words(QUANTUM, &[AT_ONCE]);
    out.put_words(INITIAL_QUANTUM, &[AT_ONCE]);
    out.put_words(RATE_ENABLE, &[0]);
    out.put_words(HORIZON, &[FARTHEST]);
    out.put(HORIZON_DROP, &[0]);
    out.into_bytes()
}
