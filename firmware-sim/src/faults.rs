//! What goes wrong at real sensors, injected by seed between a device and the road.
//!
//! A faulty reading is still the truth: the sensor did say so. Only a resend is none: the same reading,
//! sent again. What a fault deserves is left to the data contract.

use std::collections::VecDeque;
use std::sync::Arc;

use ingot_agent::sensor::round;
use serde::Serialize;

use crate::Sample;

/// What a shorted platinum thermometer shows. On a channel whose range includes it, the contract
/// accepts it.
const STUCK_VALUE: f64 = 850.0;
/// The error code of many data loggers; outside the range of every channel.
const SPIKE_VALUE: f64 = 9999.0;
/// How much a drifting sensor adds from one reading to the next, in the channel's unit.
const DRIFT_STEP: f64 = 0.05;
/// Three decimals hold every channel's resolution and the drift's step.
const DRIFT_DECIMALS: u8 = 3;
/// How far a wrong clock runs ahead: ten years, so that no processor's clock can disagree.
const FUTURE_MS: i64 = 10 * 365 * 86_400_000;
/// The channel that no contract knows.
const UNKNOWN_CHANNEL: &str = "flux";
/// A device can send again only its last readings.
const RESEND_DEPTH_MAX: usize = 8;

/// The chance, for each reading, that a fault begins with it; and how many readings of the channel a
/// lasting fault spoils.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultProfile {
    /// A single value far out of range.
    pub spike: f64,
    /// The sensor is stuck at one value for [`Self::lasts`] readings.
    pub stuck: f64,
    /// The sensor gives no value for [`Self::lasts`] readings.
    pub dropout: f64,
    /// The value wanders off for [`Self::lasts`] readings.
    pub drift: f64,
    /// A channel that nobody declared.
    pub unknown_channel: f64,
    /// A time years ahead.
    pub future_time: f64,
    /// An earlier reading is sent again.
    pub resend: f64,
    /// Readings that a lasting fault spoils.
    pub lasts: u32,
}

impl FaultProfile {
    /// Nothing goes wrong.
    pub const OFF: Self = Self {
        spike: 0.0,
        stuck: 0.0,
        dropout: 0.0,
        drift: 0.0,
        unknown_channel: 0.0,
        future_time: 0.0,
        resend: 0.0,
        lasts: 0,
    };

    /// About three readings in a hundred are touched: more than in a healthy fleet, so that short
    /// runs show every kind.
    pub const TYPICAL: Self = Self {
        spike: 0.002,
        stuck: 0.000_5,
        dropout: 0.000_5,
        drift: 0.000_5,
        unknown_channel: 0.001,
        future_time: 0.001,
        resend: 0.01,
        lasts: 10,
    };
}

/// Readings touched so far, by kind. A reading can be counted under more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    /// See [`FaultProfile::spike`].
    pub spikes: u64,
    /// See [`FaultProfile::stuck`].
    pub stuck: u64,
    /// See [`FaultProfile::dropout`].
    pub missing: u64,
    /// See [`FaultProfile::drift`].
    pub drifted: u64,
    /// See [`FaultProfile::unknown_channel`].
    pub unknown_channels: u64,
    /// See [`FaultProfile::future_time`].
    pub future_times: u64,
    /// See [`FaultProfile::resend`].
    pub resends: u64,
}

/// A fault that outlasts one reading.
#[derive(Clone, Copy, Debug)]
enum Lasting {
    Stuck,
    Dropout,
    Drift,
}

#[derive(Debug)]
struct Episode {
    fault: Lasting,
    channel: Arc<str>,
    readings: u32,
}

/// Spoils the readings of one device.
#[derive(Debug)]
pub struct FaultInjector {
    profile: FaultProfile,
    random: fastrand::Rng,
    episode: Option<Episode>,
    sent: VecDeque<Sample>,
}

impl FaultInjector {
    /// Faults that follow from `seed`; give each device one of its own.
    pub fn new(profile: FaultProfile, seed: u64) -> Self {
        Self { profile, random: fastrand::Rng::with_seed(seed), episode: None, sent: VecDeque::new() }
    }

    /// Spoils the sample or leaves it. Gives an earlier sample where the device sends one again.
    pub fn apply(&mut self, sample: &mut Sample, counts: &mut FaultCounts) -> Option<Sample> {
        self.begin_episode(sample);
        self.continue_episode(sample, counts);
        let profile = self.profile;
        if self.hits(profile.spike) {
            sample.value = Some(SPIKE_VALUE);
            counts.spikes += 1;
        }
        if self.hits(profile.unknown_channel) {
            sample.channel = UNKNOWN_CHANNEL.into();
            counts.unknown_channels += 1;
        }
        if self.hits(profile.future_time) {
            sample.at_ms = sample.at_ms.saturating_add(FUTURE_MS);
            counts.future_times += 1;
        }
        self.resend(sample, counts)
    }

    fn hits(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.f64() < chance
    }

    fn begin_episode(&mut self, sample: &Sample) {
        let FaultProfile { stuck, dropout, drift, lasts, .. } = self.profile;
        for (fault, chance) in [(Lasting::Stuck, stuck), (Lasting::Dropout, dropout), (Lasting::Drift, drift)]
        {
            if self.hits(chance) && self.episode.is_none() && lasts > 0 {
                let channel = sample.channel.clone();
                self.episode = Some(Episode { fault, channel, readings: 0 });
            }
        }
    }

    fn continue_episode(&mut self, sample: &mut Sample, counts: &mut FaultCounts) {
        let Some(episode) = self.episode.as_mut().filter(|e| e.channel == sample.channel) else {
            return;
        };
        episode.readings += 1;
        match episode.fault {
            Lasting::Stuck => {
                sample.value = Some(STUCK_VALUE);
                counts.stuck += 1;
            }
            Lasting::Dropout => {
                sample.value = None;
                counts.missing += 1;
            }
            Lasting::Drift => {
                let offset = DRIFT_STEP * f64::from(episode.readings);
                sample.value = sample.value.map(|value| round(value + offset, DRIFT_DECIMALS));
                counts.drifted += 1;
            }
        }
        if episode.readings >= self.profile.lasts {
            self.episode = None;
        }
    }

    fn resend(&mut self, sample: &Sample, counts: &mut FaultCounts) -> Option<Sample> {
        if self.profile.resend <= 0.0 {
            return None;
        }
        self.sent.truncate(RESEND_DEPTH_MAX - 1);
        self.sent.push_front(sample.clone());
        if !self.hits(self.profile.resend) {
            return None;
        }
        counts.resends += 1;
        self.sent.get(self.random.usize(..self.sent.len())).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// `n` readings of a device with one channel through an injector: what came out, what was sent
    /// again, and the counts.
    fn run(profile: FaultProfile, n: u64) -> (Vec<Sample>, Vec<Sample>, FaultCounts) {
        let mut injector = FaultInjector::new(profile, 5);
        let mut counts = FaultCounts::default();
        let (mut out, mut again) = (Vec::new(), Vec::new());
        for seq in 0..n {
            let mut sample = Sample {
                device: "d".into(),
                boot: 1,
                seq,
                channel: "temperature".into(),
                at_ms: 1000 * seq as i64,
                value: Some(20.0),
            };
            again.extend(injector.apply(&mut sample, &mut counts));
            out.push(sample);
        }
        (out, again, counts)
    }

    fn only(change: impl Fn(&mut FaultProfile)) -> FaultProfile {
        let mut profile = FaultProfile { lasts: 10, ..FaultProfile::OFF };
        change(&mut profile);
        profile
    }

    #[test]
    fn off_changes_nothing() {
        let (out, again, counts) = run(FaultProfile::OFF, 1000);
        assert!(out.iter().all(|sample| sample.value == Some(20.0) && &*sample.channel == "temperature"));
        assert!(again.is_empty());
        assert_eq!(counts, FaultCounts::default());
    }

    #[test]
    fn the_counts_are_what_happened() {
        let (out, again, counts) = run(FaultProfile::TYPICAL, 100_000);
        let count = |is: fn(&Sample) -> bool| out.iter().filter(|s| is(s)).count() as u64;
        assert_eq!(count(|s| s.value == Some(SPIKE_VALUE)), counts.spikes);
        assert_eq!(count(|s| &*s.channel == UNKNOWN_CHANNEL), counts.unknown_channels);
        assert_eq!(count(|s| s.at_ms > FUTURE_MS), counts.future_times);
        assert_eq!(again.len() as u64, counts.resends);
        // Spikes hide some of these.
        assert!(count(|s| s.value == Some(STUCK_VALUE)) <= counts.stuck);
        assert!(count(|s| s.value.is_none()) <= counts.missing);
        for (kind, found, want) in [
            ("spikes", counts.spikes, 200),
            ("unknown", counts.unknown_channels, 100),
            ("future", counts.future_times, 100),
            ("resends", counts.resends, 1000),
            ("missing", counts.missing, 500),
        ] {
            assert!(found > want / 2 && found < want * 2, "{kind}: {found} for {want}");
        }
    }

    #[test]
    fn a_lasting_fault_spoils_its_readings_in_a_row() {
        let (out, _, counts) = run(only(|p| p.dropout = 0.001), 10_000);
        let lengths: Vec<usize> = out
            .chunk_by(|a, b| a.value.is_none() == b.value.is_none())
            .filter(|run| run[0].value.is_none())
            .map(<[_]>::len)
            .collect();
        assert!(!lengths.is_empty());
        assert!(lengths.iter().all(|length| length % 10 == 0), "{lengths:?}");
        assert_eq!(lengths.iter().sum::<usize>() as u64, counts.missing);
    }

    #[test]
    fn drift_keeps_values_decimal() {
        let (out, _, counts) = run(only(|p| p.drift = 0.01), 1000);
        assert!(counts.drifted >= 10);
        assert!(out.iter().any(|sample| sample.value == Some(20.5)));
    }

    #[test]
    fn a_resend_is_a_recent_reading_to_the_bit() {
        let (out, again, _) = run(FaultProfile::TYPICAL, 10_000);
        for sample in again {
            assert_eq!(out[sample.seq as usize], sample);
        }
    }
}
