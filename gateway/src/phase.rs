//! Shutdown is a protocol: run, stop intake, seal and store, drain, end. One value tells all tasks.

use tokio::sync::watch;
use tokio::time::Instant;

/// Where a run stands; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sources deliver.
    Running,
    /// Intake has stopped; what is in memory is sealed and stored, at the latest by this time.
    Sealing(Instant),
    /// Everything is in the spool; the uplink sends what it can by this time.
    Draining(Instant),
}

impl Phase {
    /// When the run ends at the latest; `None` while it runs.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Sealing(until) | Self::Draining(until) => Some(until),
        }
    }
}

/// Waits until intake stops; also when the run itself is gone.
pub async fn intake_stops(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}
