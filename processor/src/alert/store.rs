//! The alerts' state in the lake: what is open, and whom of what it has still to be told.
//!
//! A change is made by whoever stores the next version first, so each event exists once however many
//! processors run. A target's events are handed to one processor at a time.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::AlertError;
use super::episode::{self, Event, Measured, OpenAlerts};
use crate::contract::Contract;
use crate::lake::Lake;
use crate::table::{CONFLICTS_MAX, after_conflict};

/// Where it is, below the lake.
const DIR: &str = "alerts";
/// Events kept for targets that are down; beyond it they lose the oldest, counted in `untold`.
const EVENTS_MAX: usize = 1_000;
/// How long a processor may take to tell what it has claimed, in milliseconds; then another may.
pub const CLAIM_MS: i64 = 120_000;

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Open alerts by cause.
    pub open: OpenAlerts,
    /// Number of the next event.
    next: u64,
    /// Events that some target has not been told, oldest first; the last has the number `next - 1`.
    events: VecDeque<Event>,
    /// Targets by name.
    targets: BTreeMap<String, Cursor>,
    /// Events that a target was never told because it was down for too many.
    untold: u64,
}

/// How far a target has been told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cursor {
    /// Number of the first event that it does not know.
    next: u64,
    /// Until when a processor is telling it: milliseconds since 1970-01-01 UTC.
    claimed_until_ms: i64,
}

/// Events that this processor shall tell a target, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The target's name.
    pub target: String,
    /// Number of the first event.
    first: u64,
    /// Until when it is this processor's to tell them.
    until_ms: i64,
    /// The events.
    pub events: Vec<Event>,
}

impl State {
    /// Opens and resolves; returns what changed.
    pub fn step(&mut self, measured: &[Measured], contracts: &[Contract], now_ms: i64) -> Vec<Event> {
        let datasets = contracts.iter().map(|contract| contract.dataset.as_str()).collect();
        let events = episode::step(&mut self.open, measured, &datasets, now_ms);
        self.next += events.len() as u64;
        self.events.extend(events.iter().cloned());
        events
    }

    /// Claims for the named targets what they do not know. A new target starts with what is new now.
    pub fn claim(&mut self, names: &[&str], fresh: usize, now_ms: i64) -> Vec<Claim> {
        let mut claims = Vec::new();
        for name in names {
            let start = self.next - fresh as u64;
            let cursor =
                self.targets.entry((*name).to_owned()).or_insert(Cursor { next: start, claimed_until_ms: 0 });
            if cursor.next < self.next && cursor.claimed_until_ms <= now_ms {
                let until_ms = now_ms + CLAIM_MS;
                cursor.claimed_until_ms = until_ms;
                let oldest = self.next - self.events.len() as u64;
                let first = cursor.next.max(oldest);
                let events = self.events.iter().skip((first - oldest) as usize).cloned().collect();
                claims.push(Claim { target: (*name).to_owned(), first, until_ms, events });
            }
        }
        self.forget_told();
        claims
    }

    /// Notes that the target was told the first `told` of what was claimed for it. Where that took longer than a claim
    /// lasts, another processor's may have taken its place: it stays, and so do the events that only it tells.
    pub fn told(&mut self, claim: &Claim, told: u64) {
        if let Some(cursor) = self.targets.get_mut(&claim.target) {
            cursor.next = cursor.next.max(claim.first + told).min(self.next);
            if cursor.claimed_until_ms == claim.until_ms {
                cursor.claimed_until_ms = 0;
            }
        }
        self.forget_told();
    }

    fn forget_told(&mut self) {
        let known = self.targets.values().map(|cursor| cursor.next).min().unwrap_or(self.next);
        while self.next - (self.events.len() as u64) < known && self.events.pop_front().is_some() {}
        while self.events.len() > EVENTS_MAX && self.events.pop_front().is_some() {
            self.untold += 1;
        }
    }
}

/// The state's place in the lake.
pub struct Store<'a> {
    lake: &'a Lake,
}

impl<'a> Store<'a> {
    /// The alerts of this lake.
    pub fn new(lake: &'a Lake) -> Self {
        Self { lake }
    }

    /// The state as it is.
    pub async fn load(&self) -> Result<State, AlertError> {
        Ok(self.newest().await?.1)
    }

    /// Changes the state; `change` is applied anew where another processor was first.
    pub async fn change<T>(&self, change: impl Fn(&mut State) -> T) -> Result<T, AlertError> {
        for conflicts in 0..CONFLICTS_MAX {
            let (version, before) = self.newest().await?;
            let mut state = before.clone();
            let result = change(&mut state);
            if state == before {
                return Ok(result);
            }
            let key = || format!("{DIR}/{version:020}.json");
            let bytes =
                serde_json::to_vec(&state).map_err(|source| AlertError::State { key: key(), source })?;
            if self.lake.put_document(DIR, version, bytes).await? {
                return Ok(result);
            }
            after_conflict(conflicts).await;
        }
        Err(AlertError::Contended)
    }

    /// The number of the next version, and the state.
    async fn newest(&self) -> Result<(u64, State), AlertError> {
        let Some((version, bytes)) = self.lake.newest_document(DIR).await? else {
            return Ok((0, State::default()));
        };
        let key = || format!("{DIR}/{version:020}.json");
        let state =
            serde_json::from_slice(&bytes).map_err(|source| AlertError::State { key: key(), source })?;
        Ok((version + 1, state))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::alert::episode::Signal;

    fn measured(value: f64) -> Vec<Measured> {
        vec![Measured {
            dataset: "orders".to_owned(),
            alert: "late".to_owned(),
            open: 5.0,
            resolve: 2.0,
            signals: Some(vec![Signal { value, ..Signal::default() }]),
        }]
    }

    fn stepped(state: &mut State, value: f64, targets: &[&str], now_ms: i64) -> Vec<Claim> {
        let fresh = state.step(&measured(value), &Contract::embedded(), now_ms).len();
        state.claim(targets, fresh, now_ms)
    }

    #[test]
    fn a_target_that_is_down_gets_what_it_missed_in_order_and_once() {
        let mut state = State::default();
        let first = stepped(&mut state, 9.0, &["log", "webhook"], 1);
        assert_eq!(first.iter().map(|claim| claim.events.len()).collect::<Vec<_>>(), [1, 1]);
        state.told(&first[0], 1);
        state.told(&first[1], 0);
        // Resolved, and another processor without the webhook runs in between.
        let second = stepped(&mut state, 0.0, &["log"], 2);
        assert_eq!(second[0].events.len(), 1);
        state.told(&second[0], 1);
        let third = stepped(&mut state, 0.0, &["log", "webhook"], 3);
        assert_eq!(third.len(), 1);
        let ids: Vec<_> = third[0].events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["orders/late@1/open", "orders/late@1/resolve"]);
        state.told(&third[0], 2);
        assert_eq!(stepped(&mut state, 0.0, &["log", "webhook"], 4), []);
        assert!(state.events.is_empty());
    }

    #[test]
    fn what_one_processor_is_telling_no_other_tells() {
        let mut state = State::default();
        assert_eq!(stepped(&mut state, 9.0, &["webhook"], 1).len(), 1);
        assert_eq!(stepped(&mut state, 9.0, &["webhook"], 2), []);
        // It died: after its time another does.
        assert_eq!(stepped(&mut state, 9.0, &["webhook"], 1 + CLAIM_MS).len(), 1);
    }

    #[test]
    fn who_tells_for_longer_than_its_claim_skips_nothing_that_came_meanwhile() {
        let mut state = State::default();
        let slow = stepped(&mut state, 9.0, &["webhook"], 1).remove(0);
        let other = stepped(&mut state, 0.0, &["webhook"], 1 + CLAIM_MS).remove(0);
        assert_eq!((slow.events.len(), other.events.len()), (1, 2));
        state.told(&other, 2);
        // A third one has its turn, and its own event, when the first comes to its end.
        let now_ms = 2 + CLAIM_MS;
        let third = stepped(&mut state, 9.0, &["webhook"], now_ms).remove(0);
        state.told(&slow, 1);
        assert_eq!(state.claim(&["webhook"], 0, now_ms), [], "the third is still telling");
        state.told(&third, 0);
        let again = state.claim(&["webhook"], 0, now_ms).remove(0);
        assert_eq!(again.events, third.events, "it was not told, so it is told");
        state.told(&again, 1);
        assert_eq!(state.claim(&["webhook"], 0, now_ms), []);
    }

    #[test]
    fn a_target_that_stays_down_loses_the_oldest_counted() {
        let mut state = State::default();
        stepped(&mut state, 0.0, &["webhook"], 0);
        for turn in 0..600 {
            stepped(&mut state, 9.0, &[], turn);
            stepped(&mut state, 0.0, &[], turn);
        }
        assert_eq!((state.events.len(), state.untold), (EVENTS_MAX, 200));
        let claims = stepped(&mut state, 0.0, &["webhook"], 601);
        assert_eq!(claims[0].events.len(), EVENTS_MAX);
        state.told(&claims[0], EVENTS_MAX as u64);
        assert!(state.events.is_empty());
    }
}
