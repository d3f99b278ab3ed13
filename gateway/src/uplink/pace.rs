//! When the next frame may be sent, so that a broker never has to throttle: two token buckets, one over
//! publishes and one over bytes.
//!
//! Pure: the time is an argument. In no window of one second is more sent than the limit, as long as
//! packets keep to `packet_bytes_max`; a larger one waits like the others and is paid off afterwards.
//!
//! A bucket that holds a burst of B and fills at R a second lets B + R through in the worst second. So B
//! is a tenth of the limit, or what one packet needs, and R is the rest. It is kept as the time at which
//! the bucket will be full again (the "generic cell rate algorithm" of ITU-T I.371): no rounding adds up.

use std::time::{Duration, Instant};

/// What a bucket allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceConfig {
    /// Publishes in any second; 0 is no limit.
    pub publishes_per_s_max: u32,
    /// Bytes in any second; 0 is no limit; else at least twice `packet_bytes_max`.
    pub bytes_per_s_max: u64,
    /// Largest packet that is usual, in bytes.
    pub packet_bytes_max: u64,
}

/// The pace of one connection.
#[derive(Clone, Debug)]
pub struct Pacer {
    publishes: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Pacer {
    /// A connection over which nothing was sent yet.
    pub fn new(config: PaceConfig) -> Self {
        Self {
            publishes: Bucket::new(config.publishes_per_s_max.into(), 1),
            bytes: Bucket::new(config.bytes_per_s_max, config.packet_bytes_max),
        }
    }

    /// When a packet may be sent; `None`: now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let buckets = [&self.publishes, &self.bytes].into_iter().flatten();
        buckets.filter_map(|bucket| bucket.wait_until(now)).max()
    }

    /// A packet of this size goes out now.
    pub fn sent(&mut self, now: Instant, bytes: u64) {
        if let Some(bucket) = &mut self.publishes {
            bucket.spend(now, 1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.spend(now, bytes);
        }
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    rate_per_s: u64,
    /// The bucket may be this far from full when the next packet is sent.
    slack: Duration,
    /// When it is full again; `None` before the first packet.
    full_at: Option<Instant>,
}

impl Bucket {
    /// `packet` is the most that one packet takes out of the bucket.
    fn new(limit_per_s: u64, packet: u64) -> Option<Self> {
        if limit_per_s == 0 {
            return None;
        }
        let burst = packet.max(limit_per_s / 10);
        let rate_per_s = limit_per_s.saturating_sub(burst).max(1);
        Some(Self { rate_per_s, slack: floor_time(burst - packet, rate_per_s), full_at: None })
    }

    fn wait_until(&self, now: Instant) -> Option<Instant> {
        let at = self.full_at?.checked_sub(self.slack)?;
        (at > now).then_some(at)
    }

    fn spend(&mut self, now: Instant, amount: u64) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        // One more nanosecond than it takes: never too early.
        self.full_at = Some(from + floor_time(amount, self.rate_per_s) + Duration::from_nanos(1));
    }
}

/// How long `amount` takes at this rate, rounded down to nanoseconds.
fn floor_time(amount: u64, rate_per_s: u64) -> Duration {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(rate_per_s);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends packets as soon as the pace allows, after these idle times.
    fn send(config: PaceConfig, packets: &[(u64, u64)]) -> Vec<(Instant, u64)> {
        let (mut pacer, mut now) = (Pacer::new(config), Instant::now());
        let mut sent = Vec::new();
        for (idle_ms, bytes) in packets {
            now += Duration::from_millis(*idle_ms);
            now = pacer.wait_until(now).unwrap_or(now);
            assert_eq!(pacer.wait_until(now), None, "the time that was told is right");
            pacer.sent(now, *bytes);
            sent.push((now, *bytes));
        }
        sent
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_the_limit(
            publishes in 2..200_u32,
            packet in 1..150_000_u64,
            room in 0..1_000_000_u64,
            packets in prop::collection::vec((prop_oneof![9 => Just(0), 1 => 0..3_000_u64], 0.0..=1.0), 1..400),
        ) {
            let bytes_per_s_max = 2 * packet + room;
            let config = PaceConfig { publishes_per_s_max: publishes, bytes_per_s_max, packet_bytes_max: packet };
            let packets: Vec<_> = packets.iter().map(|(idle, share)| (*idle, (packet as f64 * share) as u64)).collect();
            let sent = send(config, &packets);
            for (first, (start, _)) in sent.iter().enumerate() {
                let window = sent[first..].iter().take_while(|(at, _)| *at <= *start + SECOND);
                let (count, bytes) = window.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes));
                prop_assert!(count <= publishes, "{count} publishes in a second");
                prop_assert!(bytes <= bytes_per_s_max, "{bytes} bytes in a second");
            }
        }
    }

    #[test]
    fn nine_tenths_of_the_limit_are_used() {
        let config =
            PaceConfig { publishes_per_s_max: 100, bytes_per_s_max: 524_288, packet_bytes_max: 50_512 };
        let small = send(config, &vec![(0, 100); 1_000]);
        let seconds = (small[999].0 - small[0].0).as_secs_f64();
        assert!((10.9..11.1).contains(&seconds), "1000 publishes in {seconds} s");
        let large = send(config, &vec![(0, 50_512); 100]);
        let seconds = (large[99].0 - large[0].0).as_secs_f64();
        let rate = 99.0 * 50_512.0 / seconds;
        assert!(rate > 0.9 * 524_288.0 && rate <= 524_288.0, "{rate} bytes a second");
    }

    #[test]
    fn a_packet_above_the_usual_size_is_paid_off_and_zero_is_no_limit() {
        let config = PaceConfig { publishes_per_s_max: 0, bytes_per_s_max: 1_000, packet_bytes_max: 100 };
        let sent = send(config, &[(0, 9_000), (0, 1)]);
        assert!((sent[1].0 - sent[0].0).as_secs_f64() > 9.9);
        let none = PaceConfig { publishes_per_s_max: 0, bytes_per_s_max: 0, packet_bytes_max: 100 };
        let sent = send(none, &[(0, 1 << 40), (0, 1)]);
        assert_eq!(sent[0].0, sent[1].0);
    }
}
