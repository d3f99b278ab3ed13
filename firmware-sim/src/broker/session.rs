//! What the broker keeps for a client: its subscriptions and the messages that it has yet to acknowledge.
//!
//! A session belongs to one connection at a time and outlives it. Its room is bounded by a semaphore:
//! each message holds a permit from before it is queued until it is acknowledged.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::{Publish, QoS, matches};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::QUEUE_MESSAGES_MAX;

/// The sessions of all clients, by client id.
#[derive(Default)]
pub(super) struct Sessions {
    by_client: Mutex<HashMap<String, Arc<Session>>>,
}

/// Does not give up when another thread panicked: each change below is complete at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Gives the client's session to this connection, and whether it was there before. A connection
    /// that had it loses it.
    pub(super) fn connect(
        &self,
        client: &str,
        connection: u64,
        clean_start: bool,
        expires_at_once: bool,
    ) -> (Arc<Session>, bool) {
        let mut sessions = lock(&self.by_client);
        if clean_start && let Some(old) = sessions.remove(client) {
            old.end();
        }
        let present = sessions.contains_key(client);
        let session = sessions.entry(client.to_owned()).or_default().clone();
        session.attach(connection, expires_at_once);
        (session, present)
    }

    /// The connection is gone: a session that was its own stays only if it was to outlive it.
    pub(super) fn disconnected(&self, connection: u64) {
        lock(&self.by_client).retain(|_, session| {
            let mut state = lock(&session.state);
            if state.connection != Some(connection) {
                return true;
            }
            state.connection = None;
            let keep = !state.expires_at_once;
            drop(state);
            if !keep {
                session.end();
            }
            keep
        });
    }

    /// Sessions that subscribed to the topic, and the best QoS that each asked for.
    pub(super) fn subscribed(&self, topic: &str) -> Vec<(Arc<Session>, QoS)> {
        lock(&self.by_client)
            .values()
            .filter_map(|session| Some((session.clone(), lock(&session.state).qos_for(topic)?)))
            .collect()
    }

    /// Messages in all sessions.
    pub(super) fn queued(&self) -> usize {
        let sessions = lock(&self.by_client);
        sessions
            .values()
            .map(|session| {
                let state = lock(&session.state);
                state.queue.len() + state.in_flight.len()
            })
            .sum()
    }
}

/// One client's session.
pub(super) struct Session {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// Rung at every change that a waiting connection may care for.
    changed: Notify,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(QUEUE_MESSAGES_MAX)),
            changed: Notify::new(),
        }
    }
}

#[derive(Default)]
struct State {
    connection: Option<u64>,
    expires_at_once: bool,
    filters: Vec<(String, QoS)>,
    queue: VecDeque<Message>,
    /// Sent and not acknowledged, in the order of sending.
    in_flight: VecDeque<Message>,
    last_id: u16,
}

/// A message for one session; its id is 0 until it is first sent.
struct Message {
    publish: Publish,
    _room: OwnedSemaphorePermit,
}

impl Session {
    /// Puts what was in flight back in front of the queue, to be sent again under its old ids.
    fn attach(&self, connection: u64, expires_at_once: bool) {
        let mut state = lock(&self.state);
        state.connection = Some(connection);
        state.expires_at_once = expires_at_once;
        while let Some(mut message) = state.in_flight.pop_back() {
            message.publish.dup = true;
            state.queue.push_front(message);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nobody will read this session again: publishers that wait for room go on without it.
    fn end(&self) {
        lock(&self.state).connection = None;
        self.room.close();
        self.changed.notify_waiters();
    }

    /// Adds a filter, or changes its QoS.
    pub(super) fn subscribe(&self, filter: String, qos: QoS) {
        let mut state = lock(&self.state);
        state.filters.retain(|(other, _)| *other != filter);
        state.filters.push((filter, qos));
    }

    /// Removes a filter; false if it was not there.
    pub(super) fn unsubscribe(&self, filter: &str) -> bool {
        let mut state = lock(&self.state);
        let before = state.filters.len();
        state.filters.retain(|(other, _)| other != filter);
        state.filters.len() < before
    }

    /// Waits for room, then queues the message. A session that ended meanwhile takes nothing.
    pub(super) async fn push(&self, mut publish: Publish, qos: QoS) {
        let Ok(room) = self.room.clone().acquire_owned().await else {
            return;
        };
        publish.qos = qos;
        publish.pkid = 0;
        publish.dup = false;
        publish.retain = false;
        let message = Message { publish, _room: room };
        lock(&self.state).queue.push_back(message);
        self.changed.notify_waiters();
    }

    /// Waits for a message that may be sent over this connection, at most `window` unacknowledged.
    /// A QoS 1 message is in flight from here on, so that it cannot be lost if this is cancelled.
    pub(super) async fn next(&self, connection: u64, window: usize) -> Publish {
        self.wait(|state| (state.connection == Some(connection)).then(|| state.send(window))?).await
    }

    /// Waits until another connection owns the session, or it has ended.
    pub(super) async fn lost(&self, connection: u64) {
        self.wait(|state| (state.connection != Some(connection)).then_some(())).await;
    }

    /// The subscriber has the message; one that is not known was acknowledged before.
    pub(super) fn acknowledge(&self, id: u16) {
        let mut state = lock(&self.state);
        if let Some(at) = state.in_flight.iter().position(|message| message.publish.pkid == id) {
            state.in_flight.remove(at);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified(); // before looking, so that no change is missed
            if let Some(value) = ready(&mut lock(&self.state)) {
                return value;
            }
            changed.await;
        }
    }
}

impl State {
    fn qos_for(&self, topic: &str) -> Option<QoS> {
        let filters = self.filters.iter().filter(|(filter, _)| covers(filter, topic));
        filters.map(|(_, qos)| *qos).max_by_key(|qos| *qos as u8)
    }

    /// Takes the next message from the queue, if the window allows.
    fn send(&mut self, window: usize) -> Option<Publish> {
        if self.in_flight.len() >= window {
            return None;
        }
        let mut message = self.queue.pop_front()?;
        if message.publish.qos == QoS::AtMostOnce {
            return Some(message.publish);
        }
        if message.publish.pkid == 0 {
            message.publish.pkid = self.free_id();
        }
        let publish = message.publish.clone();
        self.in_flight.push_back(message);
        Some(publish)
    }

    /// An id from 1 up that is not in flight; ids are reused only after all others.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if self.in_flight.iter().all(|message| message.publish.pkid != id) {
                return id;
            }
        }
    }
}

/// Whether the filter covers the topic. Wildcards at a filter's start do not cover topics that start
/// with `$` (MQTT 5, section 4.7.2), but a filter that names them does.
fn covers(filter: &str, topic: &str) -> bool {
    match (filter.strip_prefix('$'), topic.strip_prefix('$')) {
        (Some(filter), Some(topic)) => matches(topic, filter),
        _ => matches(topic, filter),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn filters_cover_topics() {
        for (filter, topic, want) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("#", "a", true),
            ("#", "$aws/a", false),
            ("+/a", "$aws/a", false),
            ("$aws/#", "$aws/a", true),
            ("$aws/rules/+", "$aws/rules/x", true),
        ] {
            assert_eq!(covers(filter, topic), want, "{filter} {topic}");
        }
    }

    fn message(text: &str) -> Publish {
        Publish::new("t", QoS::AtLeastOnce, text.to_owned(), None)
    }

    #[tokio::test]
    async fn what_was_in_flight_is_sent_again_first_under_its_ids() {
        let sessions = Sessions::default();
        let (session, present) = sessions.connect("c", 1, false, false);
        assert!(!present);
        for text in ["a", "b", "c"] {
            session.push(message(text), QoS::AtLeastOnce).await;
        }
        let first = [session.next(1, 2).await, session.next(1, 2).await];
        assert_eq!(first.each_ref().map(|publish| publish.pkid), [1, 2]);
        session.acknowledge(1);
        sessions.disconnected(1);

        let (session, present) = sessions.connect("c", 2, false, false);
        assert!(present);
        let again = session.next(2, 2).await;
        assert_eq!((again.pkid, again.dup, &again.payload[..]), (2, true, &b"b"[..]));
        let new = session.next(2, 2).await;
        assert_eq!((new.pkid, new.dup, &new.payload[..]), (3, false, &b"c"[..]));
    }

    #[tokio::test]
    async fn a_session_that_expires_at_once_frees_its_publishers() {
        let sessions = Sessions::default();
        let (session, _) = sessions.connect("c", 1, true, true);
        for _ in 0..QUEUE_MESSAGES_MAX {
            session.push(message("x"), QoS::AtLeastOnce).await;
        }
        let waiting = tokio::spawn(async move { session.push(message("y"), QoS::AtLeastOnce).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sessions.disconnected(1);
        waiting.await.unwrap();
        assert_eq!(sessions.queued(), 0);
    }
}
