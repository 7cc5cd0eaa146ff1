//! The tables by which netem draws delays that are not uniform.
//!
//! A table is the inverse of a cumulative distribution function with mean 0 and standard deviation 1, in units of 1/8192
//! (`NETEM_DIST_SCALE`), its entries equally likely. netem draws one, and multiplies it by the jitter. Sizes and formulas are
//! those of iproute2's tables (netem/normal.c, pareto.c, paretonormal.c, which are NIST Net's): 4096 entries; the Pareto
//! distribution has shape 3, is scaled by 4/3 about its mean of 3/2, and is cut where 16 bits end.

use murphy_fault::netem::Distribution;

/// `NETEM_DIST_SCALE` (`linux/pkt_sched.h`).
const SCALE: f64 = 8192.0;
const SIZE: u32 = 4096;
const SHAPE: f64 = 3.0;

/// The table of a distribution with a name; none for the uniform one, which netem draws without.
pub fn table(distribution: &Distribution) -> Option<Vec<i16>> {
    let entry: fn(f64) -> f64 = match distribution {
        Distribution::Uniform | Distribution::Table(_) => return None,
        Distribution::Normal => normal,
        Distribution::Pareto => pareto,
        Distribution::Paretonormal => |u| 0.25 * normal(u) + 0.75 * pareto(u),
    };
    Some(
        (0..SIZE)
            // The middle of each of as many equal parts.
            .map(|i| (f64::from(i) + 0.5) / f64::from(SIZE))
            // A cast from float saturates.
            .map(|u| (entry(u) * SCALE).round() as i16)
            .collect(),
    )
}

/// The inverse of 1 - x⁻³, shifted and scaled.
fn pareto(u: f64) -> f64 {
    let x = (1.0 - u).powf(-1.0 / SHAPE);
    ((x - 1.5) * 4.0 / 3.0).min(f64::from(i16::MAX) / SCALE)
}

/// The inverse of the normal distribution function by P. J. Acklam's rational approximation (2003), whose relative error is
/// below 1.15e-9, far below what 1/8192 can show.
fn normal(u: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    const TAIL: f64 = 0.024_25;
    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |u: f64| {
        let q = (-2.0 * u.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    };
    if u < TAIL {
        tail(u)
    } else if u > 1.0 - TAIL {
        -tail(1.0 - u)
    } else {
        let q = u - 0.5;
        q * horner(&A, q * q) / horner(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(table: &[i16]) -> (f64, f64) {
        let n = table.len() as f64;
        let mean = table.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = table
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / n;
        (mean / SCALE, variance.sqrt() / SCALE)
    }

    #[test]
    fn the_normal_table_is_the_normal_distribution() {
        let table = table(&Distribution::Normal).unwrap();
        let (mean, deviation) = moments(&table);
        assert!(
            mean.abs() < 1e-3 && (deviation - 1.0).abs() < 2e-3,
            "{mean} {deviation}"
        );
        // Quantiles as printed in any table of it.
        for (u, x) in [
            (0.5, 0.0),
            (0.841_345, 1.0),
            (0.977_25, 2.0),
            (0.998_65, 3.0),
            (0.158_655, -1.0),
        ] {
            assert!((normal(u) - x).abs() < 1e-4, "{u}: {}", normal(u));
        }
    }

    #[test]
    fn tables_rise_and_are_of_mean_zero() {
        for distribution in [
            Distribution::Normal,
            Distribution::Pareto,
            Distribution::Paretonormal,
        ] {
            let table = table(&distribution).unwrap();
            assert_eq!(table.len(), SIZE as usize);
            assert!(table.is_sorted(), "{distribution:?}");
            // The cut, at 4, takes that much away.
            let (mean, _) = moments(&table);
            assert!(mean.abs() < 0.04, "{distribution:?}: {mean}");
        }
        assert_eq!(table(&Distribution::Uniform), None);
    }

    #[test]
    fn the_pareto_table_agrees_with_its_formula() {
        let table = table(&Distribution::Pareto).unwrap();
        // P(X > x) = x⁻³: half of all are below 2^(1/3).
        let half = (2_f64.powf(1.0 / 3.0) - 1.5) * 4.0 / 3.0;
        assert!((f64::from(table[2048]) / SCALE - half).abs() < 1e-3);
    }
}
