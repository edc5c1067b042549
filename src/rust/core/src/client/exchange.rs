//! A request on a thread of its own, and what has come of it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::{oneshot, Notify};

use super::feed;
use super::{Answer, Client, ClientError, Outgoing, RequestBody};
use crate::signals::{self, start_thread};

/// How much of an answer waits for whoever polls, in bytes: beyond it, the server waits.
const WAITING: usize = 1024 * 1024;

/// What an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeLimits {
    /// From the start to the answer's end. `None` for ever.
    pub timeout: Option<Duration>,
    /// Bytes of the answer's body. `None` without end.
    pub most: Option<u64>,
}

/// Of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// What has come since the last look.
#[derive(Debug, Default)]
pub struct Polled {
    /// Once.
    pub head: Option<Head>,
    pub pieces: Vec<Bytes>,
    /// How it has ended, when all pieces were handed out.
    pub outcome: Option<Result<(), ClientError>>,
}

#[derive(Default)]
struct State {
    head: Option<Head>,
    pieces: VecDeque<Bytes>,
    waiting: usize,
    outcome: Option<Result<(), ClientError>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    taken: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A request that was made. To drop it closes its connection.
pub struct Exchange {
    shared: Arc<Shared>,
    /// What its body is made of meanwhile, if it is.
    fed: Option<Arc<feed::Shared>>,
    /// Told by its end.
    given_up: Mutex<Option<oneshot::Sender<()>>>,
}

/// An exchange has ended, whatever has become of its thread.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.change(|state| {
            let ended = || Err(ClientError::Answer("the request was given up".into()));
            state.outcome.get_or_insert_with(ended);
        });
    }
}

impl Exchange {
    /// Starts its thread and returns.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(client: Client, outgoing: Outgoing, limits: ExchangeLimits) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (given_up, dropped) = oneshot::channel();
        let ending = Ending(shared.clone());
        let fed = match &outgoing.body {
            RequestBody::Fed(body) => Some(body.shared().clone()),
            _ => None,
        };
        if let Some(fed) = &fed {
            let shared = Arc::downgrade(&shared);
            fed.tell_by(move || {
                if let Some(shared) = shared.upgrade() {
                    // Whoever looks has looked, or will see it.
                    shared.change(|_| ());
                }
            });
        }
        start_thread("faucet-client", signals::STACK, move || {
            run(&ending.0, &client, outgoing, limits, dropped);
        })?;
        Ok(Self {
            shared,
            fed,
            given_up: Mutex::new(Some(given_up)),
        })
    }

    /// What has come; waits at most `patience` for something to come.
    pub fn poll(&self, patience: Duration) -> Polled {
        self.poll_until(patience, || false)
    }

    /// The same, for whoever feeds it: waits no longer once there is room for more.
    pub fn poll_or_room(&self, patience: Duration) -> Polled {
        self.poll_until(patience, || {
            self.fed.as_ref().is_some_and(|fed| fed.has_room())
        })
    }

    fn poll_until(&self, patience: Duration, enough: impl Fn() -> bool) -> Polled {
        let nothing = |state: &mut State| {
            let come = state.head.is_some() || !state.pieces.is_empty() || state.outcome.is_some();
            !come && !enough()
        };
        let state = self.shared.lock();
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, patience, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting = 0;
        let polled = Polled {
            head: state.head.take(),
            pieces: state.pieces.drain(..).collect(),
            outcome: state.outcome.clone(),
        };
        drop(state);
        self.shared.taken.notify_one();
        polled
    }

    /// Closes its connection, whoever else looks at it.
    pub fn give_up(&self) {
        let given_up = self.given_up.lock();
        drop(given_up.unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn run(
    shared: &Shared,
    client: &Client,
    outgoing: Outgoing,
    limits: ExchangeLimits,
    dropped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("faucet-client-file")
        .thread_stack_size(signals::STACK)
        .build();
    let outcome = match runtime {
        Err(error) => Err(ClientError::Connect(error.to_string())),
        Ok(runtime) => {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = dropped => Ok(()),
                    outcome = in_time(shared, client, outgoing, limits) => outcome,
                }
            });
            // A read of a file may go on; nobody waits for it.
            runtime.shutdown_background();
            outcome
        }
    };
    shared.change(|state| state.outcome = Some(outcome));
}

async fn in_time(
    shared: &Shared,
    client: &Client,
    outgoing: Outgoing,
    limits: ExchangeLimits,
) -> Result<(), ClientError> {
    let exchange = async {
        let answer = client.send(outgoing).await?;
        receive(shared, answer, limits.most).await
    };
    match limits.timeout {
        None => exchange.await,
        Some(timeout) => tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(ClientError::Timeout(timeout))),
    }
}

async fn receive(
    shared: &Shared,
    mut answer: Answer,
    most: Option<u64>,
) -> Result<(), ClientError> {
    let head = Head {
        status: answer.status,
        headers: std::mem::take(&mut answer.headers),
    };
    shared.change(|state| state.head = Some(head));
    let mut come = 0;
    while let Some(data) = answer.next().await {
        let data = data?;
        come += data.len() as u64;
        if let Some(most) = most.filter(|most| come > *most) {
            return Err(ClientError::TooLarge(most));
        }
        while shared.lock().waiting > WAITING {
            shared.taken.notified().await;
        }
        shared.change(|state| {
            state.waiting += data.len();
            state.pieces.push_back(data);
        });
    }
    Ok(())
}
