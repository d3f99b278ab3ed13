//! Noise without state: a hash of where and when, so that any moment can be asked for in any order.
//!
//! Only integer mixing and IEEE basic operations are used, no `sin` or `exp`, so the same
//! arguments give the same bits on every machine.

/// Mixes `value` so that near inputs give unrelated outputs (the finaliser of SplitMix64).
pub const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key for a name: 64-bit FNV-1a, then mixed.
pub fn key(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// White noise: uniform in -1 to 1, unrelated from one `index` to the next.
pub fn white(key: u64, index: i64) -> f64 {
    // The top 53 bits, which an f64 holds exactly.
    let unit = (mix(key ^ mix(index.cast_unsigned())) >> 11) as f64 / (1_u64 << 53) as f64;
    2.0 * unit - 1.0
}

/// Slow noise in -1 to 1: white noise at each multiple of `period_ms`, joined smoothly.
pub fn slow(key: u64, at_ms: i64, period_ms: i64) -> f64 {
    let index = at_ms.div_euclid(period_ms);
    let part = at_ms.rem_euclid(period_ms) as f64 / period_ms as f64;
    let smooth = part * part * (3.0 - 2.0 * part);
    let (from, to) = (white(key, index), white(key, index.saturating_add(1)));
    from + (to - from) * smooth
}

/// A wave in -1 to 1 with its zero, rising, at `at_ms` = 0: two parabolas, which differ from a
/// sine by at most 6 %.
pub fn wave(at_ms: i64, period_ms: i64) -> f64 {
    let phase = at_ms.rem_euclid(period_ms) as f64 / period_ms as f64;
    if phase < 0.5 { 16.0 * phase * (0.5 - phase) } else { -16.0 * (phase - 0.5) * (1.0 - phase) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_splitmix64() {
        // First outputs of the reference generator with the seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn white_noise_fills_its_range_evenly() {
        let values: Vec<f64> = (0..10_000).map(|index| white(key("d1"), index)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!(values.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert!(values.iter().any(|value| *value > 0.99));
        assert!(values.iter().any(|value| *value < -0.99));
    }

    #[test]
    fn slow_noise_has_no_jumps() {
        let step = (0..100_000_i64)
            .map(|at_ms| (slow(7, at_ms + 1, 1000) - slow(7, at_ms, 1000)).abs())
            .fold(0.0, f64::max);
        assert!(step < 0.004, "largest step {step}");
    }

    #[test]
    fn extreme_times_are_fine() {
        for at_ms in [i64::MIN, -1, 0, i64::MAX] {
            assert!(slow(1, at_ms, 1000).abs() <= 1.0);
            assert!(wave(at_ms, 86_400_000).abs() <= 1.0);
        }
    }

    #[test]
    fn the_wave_has_its_crest_at_a_quarter() {
        assert_eq!(wave(0, 1000), 0.0);
        assert_eq!(wave(250, 1000), 1.0);
        assert_eq!(wave(750, 1000), -1.0);
    }
}
