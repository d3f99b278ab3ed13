//! Many devices in one line of time: their readings, sent in time order, the same for the same seed.
//!
//! Nothing here sleeps: the fleet runs as fast as it is asked, in simulated time. A caller who wants
//! real time waits until [`Emission::sent_ms`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ingot_sim_sensors::noise;

use crate::Sample;
use crate::device::{Model, VirtualDevice};
use crate::faults::{FaultCounts, FaultInjector, FaultProfile};

/// Devices are switched on spread over their first second, not all at once.
const SWITCH_ON_MS: u64 = 1000;

/// What a fleet is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetConfig {
    /// How many devices; they are named `sim-0001` and so on.
    pub devices: u32,
    /// The same seed gives the same readings, to the bit.
    pub seed: u64,
    /// Readings a second of each device, over all its channels; above 0.
    pub rate: f64,
    /// When it is switched on: milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// How long it runs.
    pub seconds: u64,
    /// What goes wrong.
    pub faults: FaultProfile,
}

/// A sample on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The reading.
    pub sample: Sample,
    /// When the device sends it; differs from the sample's own time where the device's clock is wrong.
    pub sent_ms: i64,
    /// Whether the device sent this reading before: not a new truth.
    pub resend: bool,
}

struct Node {
    device: VirtualDevice,
    faults: FaultInjector,
}

/// An iterator over what the fleet sends.
pub struct Fleet {
    nodes: Vec<Node>,
    /// The earliest first; equal times in the order of the devices.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    end_ms: i64,
    ready: VecDeque<Emission>,
    counts: FaultCounts,
}

impl Fleet {
    /// Builds the devices.
    pub fn new(config: &FleetConfig) -> Self {
        let nodes: Vec<Node> = (1..=config.devices).map(|number| node(config, number)).collect();
        let due = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let wait_ms = noise::key(node.device.name()) % SWITCH_ON_MS;
                Reverse((config.start_ms.saturating_add_unsigned(wait_ms), index))
            })
            .collect();
        Self {
            nodes,
            due,
            end_ms: config.start_ms.saturating_add_unsigned(config.seconds.saturating_mul(1000)),
            ready: VecDeque::new(),
            counts: FaultCounts::default(),
        }
    }

    /// What went wrong so far.
    pub fn fault_counts(&self) -> FaultCounts {
        self.counts
    }
}

/// The device of this number: odd ones are weather nodes, even ones machine nodes.
fn node(config: &FleetConfig, number: u32) -> Node {
    let name = format!("sim-{number:04}");
    let model = if number % 2 == 1 { Model::Weather } else { Model::Machine };
    let device = VirtualDevice::new(config.seed, &name, model, config.rate);
    let faults = FaultInjector::new(config.faults, noise::mix(device.boot()));
    Node { device, faults }
}

impl Iterator for Fleet {
    type Item = Emission;

    fn next(&mut self) -> Option<Emission> {
        while self.ready.is_empty() {
            let Reverse((sent_ms, index)) = self.due.pop().filter(|due| due.0.0 < self.end_ms)?;
            let Node { device, faults } = &mut self.nodes[index];
            let next_ms = device.poll(sent_ms, |mut sample| {
                let again = faults.apply(&mut sample, &mut self.counts);
                self.ready.push_back(Emission { sample, sent_ms, resend: false });
                let again = again.map(|sample| Emission { sample, sent_ms, resend: true });
                self.ready.extend(again);
            });
            self.due.push(Reverse((next_ms, index)));
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::HashSet;

    use super::*;
    use crate::ndjson;

    fn config(faults: FaultProfile) -> FleetConfig {
        FleetConfig { devices: 20, seed: 42, rate: 5.0, start_ms: 1_767_225_600_000, seconds: 60, faults }
    }

    fn bytes(config: &FleetConfig) -> Vec<u8> {
        let mut out = Vec::new();
        Fleet::new(config).for_each(|e| ndjson::write_line(&mut out, &e.sample).unwrap());
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let config = config(FaultProfile::TYPICAL);
        assert!(bytes(&config) == bytes(&config));
        assert!(bytes(&config) != bytes(&FleetConfig { seed: 43, ..config }));
    }

    #[test]
    fn readings_are_sent_in_time_order_at_the_rate() {
        let sent: Vec<_> = Fleet::new(&config(FaultProfile::OFF)).collect();
        assert!(sent.is_sorted_by_key(|emission| emission.sent_ms));
        // 20 devices, 5 readings a second, 60 seconds; each starts within the first second.
        assert!((5900..=6000).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn identities_are_unique_but_for_resends() {
        let mut fleet = Fleet::new(&config(FaultProfile::TYPICAL));
        let mut seen = HashSet::new();
        let mut resends = 0;
        for Emission { sample, resend, .. } in &mut fleet {
            let is_new = seen.insert((sample.device, sample.boot, sample.seq));
            assert_eq!(is_new, !resend);
            resends += u64::from(resend);
        }
        assert!(resends > 0);
        assert_eq!(resends, fleet.fault_counts().resends);
    }

    #[test]
    fn a_fleet_without_devices_or_time_is_silent() {
        let config = config(FaultProfile::OFF);
        assert_eq!(Fleet::new(&FleetConfig { devices: 0, ..config }).count(), 0);
        assert_eq!(Fleet::new(&FleetConfig { seconds: 0, ..config }).count(), 0);
    }
}
