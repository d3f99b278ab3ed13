//! The shell: messages and counts in; ranges, file, log and status out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{News, Updates};
use crate::batcher::Judging;
use crate::health::Live;
use crate::uplink::inbox::Inbox;

/// A trial is looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// Goes on until it is aborted.
pub(crate) async fn keep(
    updates: Arc<Mutex<Updates>>,
    inbox: Inbox,
    judging: watch::Sender<Judging>,
    live: Arc<Live>,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = inbox.next() => Some(message),
            _ = look.tick() => None,
        };
        let mut updates = updates.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match message {
            Some(message) => updates.receive(&message.payload, Instant::now()),
            None => updates.look(live.sealing.borrow().trial, Instant::now()),
        };
        log(&news);
        if !matches!(news, News::Nothing | News::Refused(_)) {
            if let Err(error) = updates.store() {
                tracing::warn!(%error, "the contract was not stored; a restart goes on with the one before");
            }
            judging.send_modify(|judging| judging.ranges = updates.ranges());
        }
        let mut status = updates.status();
        status.topic_refused = inbox.is_refused();
        live.contract.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }
}

fn log(news: &News) {
    match news {
        News::Nothing => {}
        News::OnTrial => tracing::info!("a pushed contract is in force, on trial"),
        News::Confirmed => tracing::info!("the pushed contract has stood its trial"),
        News::Removed => {
            tracing::info!("the pushed contract was taken away; the configured one is in force");
        }
        News::Refused(problem) => {
            tracing::error!(problem, "a pushed contract was refused; the one before stays");
        }
        News::RolledBack(why) => {
            tracing::error!(why, "the pushed contract is out of force; the one before is back");
        }
    }
}
