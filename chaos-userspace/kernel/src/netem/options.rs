//! netem's parameters as the kernel reads them: `TCA_OPTIONS` of a netem qdisc (`linux/pkt_sched.h`), a `struct tc_netem_qopt`
//! with attributes behind it.

use crate::attributes::Attributes;
use murphy_fault::netem::{Chance, Netem, Share};
use murphy_fault::values::Nanos;

// `TCA_NETEM_…`.
const CORR: u16 = 1;
const DELAY_DIST: u16 = 2;
const REORDER: u16 = 3;
const CORRUPT: u16 = 4;
const LOSS: u16 = 5;
const RATE: u16 = 6;
const RATE64: u16 = 8;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;
const SLOT: u16 = 12;
/// Linux 6.6; older kernels pass over it.
const PRNG_SEED: u16 = 14;

// `NETEM_LOSS_…`, within `TCA_NETEM_LOSS`.
const GI: u16 = 1;
const GE: u16 = 2;

/// The bytes behind the kind of a netem qdisc. Without a table delays vary evenly.
pub(super) fn encode(netem: &Netem, table: Option<&[i16]>, seed: u64) -> Vec<u8> {
    let share = |share: Option<Share>| scaled(share.map_or(0, Share::get));
    let probability = |chance: Option<Chance>| scaled(chance.map_or(0, |chance| chance.p.get()));
    let correlation = |chance: Option<Chance>| share(chance.and_then(|chance| chance.correlation));
    let gap = netem.reorder.map_or(0, |reorder| reorder.gap.unwrap_or(1));

    let mut out = Attributes::default();
    // Delay and jitter in ticks are 0: the attributes in ns say them.
    out.words(&[
        0,
        netem.limit(),
        probability(netem.loss),
        gap,
        probability(netem.duplicate),
        0,
    ]);
    let nanos = |duration: Option<Nanos>| duration.unwrap_or_default().0.to_ne_bytes();
    out.put(LATENCY64, &nanos(netem.delay));
    out.put(JITTER64, &nanos(netem.jitter));
    out.put_words(
        CORR,
        &[
            share(netem.correlation),
            correlation(netem.loss),
            correlation(netem.duplicate),
        ],
    );
    if let Some(reorder) = netem.reorder {
        out.put_words(
            REORDER,
            &[scaled(reorder.p.get()), share(reorder.correlation)],
        );
    }
    if let Some(corrupt) = netem.corrupt {
        out.put_words(
            CORRUPT,
            &[scaled(corrupt.p.get()), share(corrupt.correlation)],
        );
    }
    loss(netem, &mut out);
    if let Some(rate) = netem.rate {
        let bytes = rate.bits / 8;
        out.put_words(
            RATE,
            &[
                // More than fits is said by the other attribute.
                u32::try_from(bytes).unwrap_or(u32::MAX),
                rate.overhead.unwrap_or_default().cast_unsigned(),
                rate.cell.unwrap_or_default(),
                rate.cell_overhead.unwrap_or_default().cast_unsigned(),
            ],
        );
        if u32::try_from(bytes).is_err() {
            out.put(RATE64, &bytes.to_ne_bytes());
        }
    }
    if let Some(slot) = netem.slot {
        let mut value = Vec::new();
        value.extend(slot.min.0.to_ne_bytes());
        value.extend(slot.max.unwrap_or(slot.min).0.to_ne_bytes());
        value.extend(slot.packets.unwrap_or_default().to_ne_bytes());
        value.extend(slot.bytes.unwrap_or_default().to_ne_bytes());
        // No distribution of their own.
        value.extend([0; 16]);
        out.put(SLOT, &value);
    }
    out.put(PRNG_SEED, &seed.to_ne_bytes());
    if let Some(table) = table {
        let bytes: Vec<_> = table.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
        out.put(DELAY_DIST, &bytes);
    }
    out.into_bytes()
}

/// The models of loss that have states; what was not said is as in tc (`tc/q_netem.c`).
fn loss(netem: &Netem, out: &mut Attributes) {
    let words = |shares: &[Share]| {
        shares
            .iter()
            .map(|share| scaled(share.get()))
            .collect::<Vec<_>>()
    };
    let none = Share::WHOLE.rest();
    let mut model = Attributes::default();
    if let Some(model_of) = netem.gemodel {
        let p = Share::from(model_of.p);
        // `struct tc_netem_gemodel`: p, r, h, k1, where h is what gets through in the bad state.
        let shares = [
            p,
            model_of.r.unwrap_or(p.rest()),
            model_of.bad.map_or(none, Share::rest),
            model_of.good.unwrap_or(none),
        ];
        model.put_words(GE, &words(&shares));
    } else if let Some(states) = netem.state {
        let p13 = Share::from(states.p13);
        // `struct tc_netem_gimodel`: p13, p31, p32, p14, p23.
        let shares = [
            p13,
            states.p31.unwrap_or(p13.rest()),
            states.p32.unwrap_or(none),
            states.p14.unwrap_or(none),
            states.p23.unwrap_or(Share::WHOLE),
        ];
        model.put_words(GI, &words(&shares));
    } else {
        return;
    }
    out.nest(LOSS, &model);
}

/// Parts per million as netem has probabilities: of `u32::MAX`.
fn scaled(ppm: u32) -> u32 {
    let whole = u64::from(Share::WHOLE.get());
    let scaled = (u64::from(ppm) * u64::from(u32::MAX) + whole / 2) / whole;
    // `ppm` is at most the whole.
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use murphy_fault::{Effect, Fault};

    fn encoded(text: &str) -> Vec<u8> {
        let fault: Fault = text.parse().unwrap();
        let Effect::Netem(netem) = fault.effect else {
            panic!("{text} is none of netem's");
        };
        encode(&netem, None, 7)
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn probabilities_use_the_whole_range() {
        assert_eq!(scaled(0), 0);
        assert_eq!(scaled(1_000_000), u32::MAX);
        assert_eq!(scaled(500_000), 1 << 31);
    }

    #[test]
    fn fixed_part_and_first_attribute() {
        let bytes = encoded("egress:delay=100ms:loss=50%:duplicate=100%:limit=42");
        assert_eq!(word(&bytes, 4), 42);
        assert_eq!(word(&bytes, 8), 1 << 31);
        assert_eq!(word(&bytes, 16), u32::MAX);
        // Length 12 and kind of the attribute, then 100 ms in ns.
        assert_eq!(bytes[24..28], [12, 0, 10, 0]);
        assert_eq!(bytes[28..36], 100_000_000_u64.to_ne_bytes());
    }

    #[test]
    fn a_rate_beyond_32_bits_has_an_attribute_of_its_own() {
        let long = encoded("egress:rate=100gbit").len();
        assert_eq!(long, encoded("egress:rate=1gbit").len() + 12);
    }
}
