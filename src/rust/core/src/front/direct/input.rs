//! The input of a stage whose bytes are kept at the agent of the stage before it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::header::HeaderValue;

use super::fetched::fetch;
use super::give::PATH;
use super::joined::{poll_control, Joined};
use super::unreached::seconds;
use super::Direct;
use crate::body::{Abort, Store};
use crate::client::told;
use crate::front::one_time::Token;
use crate::front::reply::Reply;
use crate::lock::Table;
use crate::worker::{Address, Remote, Worker};

/// How the bytes come to the next stage.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    /// That is not known yet.
    Open = 0,
    /// Its agent takes them itself.
    Direct = 1,
    /// They come here first.
    Through = 2,
}

/// Where bytes are kept, and which way they go.
#[derive(Clone)]
pub struct Elsewhere(Arc<Inner>);

struct Inner {
    holder: Arc<Worker>,
    /// Where others may wait for it.
    others: Arc<Table<Worker>>,
    token: Token,
    way: AtomicU8,
}

impl Elsewhere {
    /// At a worker that is an agent, and that others wait for in this table.
    pub fn new(holder: Arc<Worker>, others: Arc<Table<Worker>>, token: Token) -> Self {
        Self(Arc::new(Inner {
            holder,
            others,
            token,
            way: AtomicU8::new(Way::Open as u8),
        }))
    }

    fn way(&self) -> Way {
        match self.0.way.load(Ordering::Relaxed) {
            0 => Way::Open,
            1 => Way::Direct,
            _ => Way::Through,
        }
    }

    fn set(&self, way: Way) {
        self.0.way.store(way as u8, Ordering::Relaxed);
    }

    /// Whether they may stay there until somebody can take them: until then, the agent counts as at work.
    pub fn may_stay(&self) -> bool {
        self.way() == Way::Open && self.0.others.waiting() == 0
    }

    /// What the agent that is to take them is told of where they are, if that is to be, and how that is called.
    pub fn choose(&self, direct: &Direct, taker: &Worker) -> Option<(HeaderValue, &'static str)> {
        // Others do not know what it means.
        if self.way() == Way::Through || !taker.is_faucet() {
            return None;
        }
        let (holder, token) = (&self.0.holder, self.0.token);
        let (text, name) = match () {
            () if taker.address == holder.address => (format!("{PATH}{token}"), "same_agent"),
            () if direct.unreached.may_reach(&taker.address, &holder.address) => {
                (format!("{}{PATH}{token}", url(holder)?), "direct")
            }
            () => return None,
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        self.set(Way::Direct);
        Some((value, name))
    }

    /// They were not taken, and somebody else may be asked to.
    pub fn reconsider(&self) {
        if self.way() == Way::Direct {
            self.set(Way::Open);
        }
    }

    /// An agent says that it cannot have them.
    pub fn refused(&self, direct: &Direct, taker: &Address, why: &str) {
        self.set(Way::Through);
        let holder = &self.0.holder.address;
        if direct.unreached.note(taker, holder) {
            let seconds = seconds();
            tracing::warn!(
                "agent {taker} cannot take from agent {holder} what is for it: {why}; it goes through this proxy, and for {seconds} s all else does"
            );
        }
    }
}

/// Where others find a worker; `None` for one that dials.
fn url(worker: &Worker) -> Option<String> {
    let Address::Tcp(address) = &worker.address else {
        return None;
    };
    Some(match worker.remote.as_ref().and_then(Remote::peer) {
        None => format!("http://{address}"),
        Some(peer) => format!("https://{}:{}", peer.host_name(), address.port()),
    })
}

/// Whether an agent, `holder`, is worth asking to keep something for another one.
pub fn may_take(direct: &Direct, taker: &Worker, holder: &Worker) -> bool {
    taker.address == holder.address
        || (url(holder).is_some() && direct.unreached.may_reach(&taker.address, &holder.address))
}

type Fetching = Pin<Box<dyn Future<Output = Result<Reply, String>> + Send>>;

/// What has been done about the bytes.
enum Taking {
    Nothing,
    /// Never contended: the lock makes it one that threads may share.
    Asked(Mutex<Fetching>),
    Coming(Box<Joined<Reply>>),
}

/// The body: that of the control if the bytes go past this server, else the bytes. These are asked for when it is first read.
pub struct Input {
    elsewhere: Elsewhere,
    /// `None` once it is a part of what comes.
    control: Option<Reply>,
    bytes: Taking,
    store: Store,
    id: HeaderValue,
}

impl Input {
    /// `id` is the call's.
    pub fn new(elsewhere: Elsewhere, control: Reply, store: Store, id: HeaderValue) -> Self {
        Self {
            elsewhere,
            control: Some(control),
            bytes: Taking::Nothing,
            store,
            id,
        }
    }

    /// Takes the bytes here.
    fn ask(&self) -> Fetching {
        let holder = self.elsewhere.0.holder.clone();
        let token = self.elsewhere.0.token;
        let (store, id) = (self.store.clone(), self.id.clone());
        Box::pin(async move {
            let mut connection = holder.open().await.map_err(|error| told(&error))?;
            connection.count(store.descriptors());
            // Agents do not go by it.
            let host = HeaderValue::from_static("localhost");
            fetch(connection, host, &token, &id).await
        })
    }

    /// Resolves when the bytes come, or cannot be had: then the control says why, if it does.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Joined<Reply>, Abort>> {
        if let Taking::Nothing = self.bytes {
            self.elsewhere.set(Way::Through);
            self.bytes = Taking::Asked(Mutex::new(self.ask()));
        }
        let Taking::Asked(fetching) = &mut self.bytes else {
            return Poll::Ready(Err(Abort::BrokenOff));
        };
        let fetching = fetching.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = fetching.as_mut().poll(cx);
        if polled.is_pending() {
            if let Some(Poll::Ready(Err(why))) = self.poll_word(cx) {
                return Poll::Ready(Err(why));
            }
        }
        let fetched = ready!(polled);
        let control = self.control.take().ok_or(Abort::BrokenOff)?;
        Poll::Ready(Ok(match fetched {
            Ok(bytes) => Joined::new(bytes, control),
            Err(why) => {
                let holder = &self.elsewhere.0.holder.address;
                tracing::warn!("what agent {holder} keeps cannot be taken: {why}");
                Joined::without_bytes(control)
            }
        }))
    }

    fn poll_word(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<(), Abort>>> {
        let control = self.control.as_mut()?;
        let polled = poll_control(control, cx);
        if polled.is_ready() {
            // After its end nothing is to be asked of it.
            *control = Reply::empty();
        }
        Some(polled)
    }
}

impl Body for Input {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        loop {
            if let Taking::Coming(joined) = &mut this.bytes {
                return Pin::new(&mut **joined).poll_frame(cx);
            }
            if this.elsewhere.way() == Way::Direct {
                let Some(word) = this.poll_word(cx) else {
                    return Poll::Ready(Some(Err(Abort::BrokenOff)));
                };
                return Poll::Ready(ready!(word).err().map(Err));
            }
            match ready!(this.poll_asked(cx)) {
                Ok(joined) => this.bytes = Taking::Coming(Box::new(joined)),
                Err(why) => return Poll::Ready(Some(Err(why))),
            }
        }
    }
}
