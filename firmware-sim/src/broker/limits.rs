//! AWS IoT Core's limits on one connection, kept as it keeps them: what is published too fast is
//! discarded without a word, what is too much is delayed, what breaks the protocol is disconnected.
//!
//! Payload and packet size, the receive maximum of the CONNACK, and the end of the older of two
//! connections with one client id are the broker's ways at any time. Here is what is measured by the
//! clock. Source: "AWS IoT Core message broker and protocol limits and quotas".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::IN_FLIGHT_MAX;

const SECOND: Duration = Duration::from_secs(1);

/// What one connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// PUBLISH packets in any second; more are discarded, and get no PUBACK.
    pub publishes_per_s: u32,
    /// Bytes of payload and topic in a second; more are delayed.
    pub bytes_per_s: u32,
    /// QoS 1 messages without a PUBACK; one more ends the connection with reason 0x93.
    pub in_flight_max: u16,
    /// Shortest keep-alive, in seconds; the CONNACK names it to who asked for less.
    pub keep_alive_s_min: u16,
    /// Longest keep-alive, in seconds; 0 is taken for it too.
    pub keep_alive_s_max: u16,
}

impl Limits {
    /// AWS IoT Core's.
    pub const AWS: Self = Self {
        publishes_per_s: 100,
        bytes_per_s: 512 * 1024,
        in_flight_max: IN_FLIGHT_MAX,
        keep_alive_s_min: 30,
        keep_alive_s_max: 1_200,
    };

    /// The keep-alive that counts when this one is asked for.
    pub(super) fn keep_alive_s(&self, asked: u16) -> u16 {
        let asked = if asked == 0 { self.keep_alive_s_max } else { asked };
        asked.clamp(self.keep_alive_s_min, self.keep_alive_s_max)
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    TakeAfter(Duration),
    Discard,
}

/// What a connection did in the last second.
pub(super) struct Meter {
    limits: Limits,
    taken: VecDeque<Instant>,
    /// When the bytes taken so far would all have passed at the rate allowed.
    passed_at: Option<Instant>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, taken: VecDeque::new(), passed_at: None }
    }

    pub(super) fn publish(&mut self, now: Instant, bytes: usize) -> Verdict {
        while self.taken.front().is_some_and(|at| now.duration_since(*at) >= SECOND) {
            self.taken.pop_front();
        }
        if self.taken.len() >= self.limits.publishes_per_s as usize {
            return Verdict::Discard;
        }
        self.taken.push_back(now);
        let from = self.passed_at.map_or(now, |at| at.max(now));
        let passed_at = from + Duration::from_secs_f64(bytes as f64 / f64::from(self.limits.bytes_per_s));
        self.passed_at = Some(passed_at);
        // A second's worth may come at once.
        match passed_at.checked_duration_since(now + SECOND) {
            Some(wait) if !wait.is_zero() => Verdict::TakeAfter(wait),
            _ => Verdict::Take,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_above_the_limit_is_discarded_and_a_second_later_taken() {
        let (mut meter, start) = (Meter::new(Limits::AWS), Instant::now());
        let verdicts: Vec<_> = (0..102).map(|_| meter.publish(start, 10)).collect();
        assert!(verdicts[..100].iter().all(|verdict| *verdict == Verdict::Take));
        assert_eq!(verdicts[100..], [Verdict::Discard, Verdict::Discard]);
        assert_eq!(meter.publish(start + SECOND, 10), Verdict::Take);
    }

    #[test]
    fn bytes_above_a_second_s_worth_are_delayed() {
        let (mut meter, start) = (Meter::new(Limits::AWS), Instant::now());
        for _ in 0..4 {
            assert_eq!(meter.publish(start, 131_072), Verdict::Take);
        }
        assert_eq!(meter.publish(start, 131_072), Verdict::TakeAfter(SECOND / 4));
    }

    #[test]
    fn a_keep_alive_out_of_range_is_moved_into_it() {
        let counts = [0, 5, 30, 600, 9_999].map(|asked| Limits::AWS.keep_alive_s(asked));
        assert_eq!(counts, [1_200, 30, 30, 600, 1_200]);
    }
}
