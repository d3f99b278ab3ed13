//! Messages to this gateway, over the connection that its frames use.
//!
//! Bounded: at `messages_max` the oldest is dropped, with a warning. So a topic that comes this way must
//! be one of which the newest message tells all, such as a retained document.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
}

/// Messages that wait; a clone is the same inbox.
#[derive(Clone, Debug)]
pub struct Inbox {
    messages_max: usize,
    waiting: Arc<(Mutex<VecDeque<Message>>, Notify)>,
    /// The broker's answer to the subscription: nothing yet, granted, refused.
    granted: watch::Sender<Option<bool>>,
}

impl Inbox {
    /// An empty one that keeps the newest `messages_max`, at least one.
    pub fn new(messages_max: usize) -> Self {
        Self { messages_max: messages_max.max(1), waiting: Arc::default(), granted: watch::Sender::default() }
    }

    /// The oldest message, once there is one; for one waiter.
    pub async fn next(&self) -> Message {
        loop {
            let message = self.lock().pop_front();
            match message {
                Some(message) => return message,
                None => self.waiting.1.notified().await,
            }
        }
    }

    /// Notes what the broker said to the subscription.
    pub(super) fn answered(&self, granted: bool) {
        self.granted.send_replace(Some(granted));
    }

    /// Whether the broker refused the last subscription.
    pub fn is_refused(&self) -> bool {
        *self.granted.borrow() == Some(false)
    }

    /// Waits for the broker's answer to the subscription.
    pub async fn granted(&self) -> bool {
        let mut answers = self.granted.subscribe();
        let answer = answers.wait_for(Option::is_some).await;
        answer.is_ok_and(|answer| *answer == Some(true))
    }

    /// Adds one, and drops the oldest if there are too many.
    pub fn push(&self, message: Message) {
        let mut waiting = self.lock();
        waiting.push_back(message);
        let dropped = (waiting.len() > self.messages_max).then(|| waiting.pop_front()).flatten();
        drop(waiting);
        if let Some(Message { topic, .. }) = dropped {
            tracing::warn!(topic, "messages come faster than they are read; the oldest is dropped");
        }
        self.waiting.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_messages_are_kept_in_order() {
        let inbox = Inbox::new(2);
        let message = |text: &'static str| Message { topic: text.into(), payload: Bytes::from(text) };
        let reader = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.next().await }
        });
        tokio::task::yield_now().await;
        inbox.push(message("0"));
        assert_eq!(reader.await.ok(), Some(message("0")));
        for text in ["1", "2", "3"] {
            inbox.push(message(text));
        }
        assert_eq!((inbox.next().await, inbox.next().await), (message("2"), message("3")));
    }
}
