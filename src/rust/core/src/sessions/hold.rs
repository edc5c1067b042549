//! What keeps a session.

use std::sync::Arc;

use super::{SessionId, Sessions};
use crate::clock::coarse_millis;
use crate::lock::MemberId;

/// One request, or one tunnel, of a session, for as long as it lasts.
pub struct Hold {
    sessions: Arc<Sessions>,
    id: SessionId,
    member: MemberId,
    is_tunnel: bool,
}

impl Hold {
    /// Of a request that is counted already.
    pub(super) fn new(sessions: Arc<Sessions>, id: SessionId, member: MemberId) -> Self {
        Self {
            sessions,
            id,
            member,
            is_tunnel: false,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The worker that its requests go to.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Another one, of a request.
    #[must_use]
    pub fn another(&self) -> Self {
        if let Some(session) = self.sessions.lock().open.get_mut(&self.id) {
            session.requests += 1;
        }
        Self::new(self.sessions.clone(), self.id, self.member)
    }

    /// The request has become a tunnel.
    #[must_use]
    pub fn into_tunnel(mut self) -> Self {
        if self.is_tunnel {
            return self;
        }
        if let Some(session) = self.sessions.lock().open.get_mut(&self.id) {
            session.requests = session.requests.saturating_sub(1);
            session.tunnels += 1;
        }
        self.is_tunnel = true;
        self
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let Some(session) = state.open.get_mut(&self.id) else {
            return;
        };
        let count = if self.is_tunnel {
            &mut session.tunnels
        } else {
            &mut session.requests
        };
        // It is another session's if that was opened again after its worker's end: there is none then.
        *count = count.saturating_sub(1);
        session.since = coarse_millis();
        let over = state
            .open
            .get(&self.id)
            .is_some_and(|session| state.is_over(session));
        let ended = over.then(|| state.open.remove(&self.id));
        drop(state);
        drop(ended);
    }
}
