//! What the workers of a pool call themselves, for the log: a worker comes with its first slot, and is gone when it has had
//! none for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Without a slot for so long, a worker is gone. One whose connections take one request each has none now and then.
const AWAY: Duration = Duration::from_secs(5);

/// So many names are told of; nothing bounds how many there may be.
const MOST: usize = 1000;

struct Presence {
    slots: usize,
    /// Since when it has none.
    away: Option<Instant>,
}

/// Who is there.
#[derive(Default)]
pub(super) struct Names(HashMap<Arc<str>, Presence>);

impl Names {
    /// A slot has come.
    pub(super) fn came(&mut self, name: &Arc<str>, from: IpAddr) {
        if let Some(presence) = self.0.get_mut(name) {
            presence.slots += 1;
            presence.away = None;
        } else if self.0.len() < MOST {
            tracing::info!("worker \"{name}\" offers slots, from {from}");
            let presence = Presence {
                slots: 1,
                away: None,
            };
            self.0.insert(name.clone(), presence);
        }
    }

    /// A slot has gone.
    pub(super) fn went(&mut self, name: &Arc<str>) {
        if let Some(presence) = self.0.get_mut(name) {
            presence.slots = presence.slots.saturating_sub(1);
            if presence.slots == 0 {
                presence.away = Some(Instant::now());
            }
        }
    }

    /// Tells of those who are gone; when to look again.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.0.retain(|name, presence| {
            let stays = presence.away.map_or(true, |since| since + AWAY > now);
            if !stays {
                tracing::info!("worker \"{name}\" has no slots here any more");
            }
            stays
        });
        let away = self.0.values().filter_map(|presence| presence.away);
        away.min().map(|since| since + AWAY)
    }
}
