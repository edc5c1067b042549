use super::gathered::BULK;
use super::*;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

type Piece = Result<Frame<Bytes>, BufferError>;

fn source() -> (mpsc::UnboundedSender<Piece>, Source) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let pieces = futures_like(move |cx| receiver.poll_recv(cx));
    (sender, Box::pin(StreamBody::new(pieces)))
}

struct PollFn<F>(F);

impl<F: FnMut(&mut Context<'_>) -> Poll<Option<Piece>> + Unpin> futures_core::Stream for PollFn<F> {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        (self.0)(cx)
    }
}

fn futures_like<F>(poll: F) -> PollFn<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Piece>> + Unpin,
{
    PollFn(poll)
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn text(flow: Flow) -> Bytes {
    flow.collect().await.expect("complete").to_bytes()
}

/// Of what is there at once.
async fn next_length(flow: &mut Flow) -> Option<usize> {
    let next = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *flow).poll_frame(cx)));
    match next.await {
        Poll::Pending => None,
        Poll::Ready(frame) => {
            let frame = frame.expect("more").expect("no error");
            Some(frame.into_data().expect("data").len())
        }
    }
}

#[tokio::test]
async fn what_was_held_comes_first_then_the_rest() {
    let (sender, source) = source();
    let store = Store::default();
    let mut inflow = Inflow::new(source, None);
    for text in ["a", "", "bc"] {
        sender.send(piece(text)).expect("open");
    }
    inflow.begin(&store, 1).await.expect("begun");
    assert_eq!(inflow.held(), 1);
    let stop = Notify::new();
    stop.notify_one();
    inflow
        .fill(&store, 1, 100, &stop, |_| false)
        .await
        .expect("kept");
    let all = async { inflow.fill(&store, 1, 100, &stop, |_| false).await };
    let end = async {
        tokio::task::yield_now().await;
        stop.notify_one();
    };
    let (filled, ()) = tokio::join!(all, end);
    filled.expect("kept");
    assert_eq!(inflow.held(), 3);
    assert!(inflow.complete().is_none());
    sender.send(piece("de")).expect("open");
    drop(sender);
    let flow = inflow.flow();
    assert!(flow.failed().is_none() && !flow.is_over());
    assert_eq!(text(flow.clone()).await, "abcde");
    assert!(flow.is_over());
}

#[tokio::test]
async fn no_more_is_held_than_may_be() {
    let (sender, source) = source();
    let store = Store::default();
    let mut inflow = Inflow::new(source, None);
    sender.send(piece("four")).expect("open");
    let refused = inflow.fill(&store, 1, 3, &Notify::new(), |_| false).await;
    assert!(matches!(refused, Err(BufferError::TooLarge(3))));
}

#[tokio::test]
async fn a_flow_that_is_shut_can_be_taken_back_whole() {
    let (sender, source) = source();
    let mut inflow = Inflow::new(source, None);
    sender.send(piece("ab")).expect("open");
    drop(sender);
    inflow.begin(&Store::default(), 10).await.expect("begun");
    let flow = inflow.flow();
    flow.shut();
    let mut wanted = flow.clone();
    let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut wanted).poll_frame(cx)));
    assert!(polled.await.is_pending());
    let inflow = flow.take_back().expect("nothing was taken");
    let flow = inflow.flow();
    assert_eq!(text(flow.clone()).await, "ab");
    assert!(flow.take_back().is_none());
}

#[tokio::test]
async fn what_is_kept_can_be_taken_back_until_it_is_taken_for_good() {
    let (sender, source) = source();
    let store = Store::default();
    let mut inflow = Inflow::new(source, None);
    sender.send(piece("ab")).expect("open");
    inflow.begin(&store, 10).await.expect("begun");
    for text in ["c", "def"] {
        sender.send(piece(text)).expect("open");
    }
    drop(sender);
    let mut flow = inflow.flow();
    for _ in 0..2 {
        flow.keep(&store);
        for expected in ["ab", "c"] {
            let frame = flow.frame().await.expect("more").expect("a piece");
            assert_eq!(frame.into_data().expect("data"), expected);
        }
        let given_back = flow.take_back().expect("it is kept");
        assert!(flow.frame().await.expect("an error").is_err());
        flow = given_back.flow();
    }
    flow.keep(&store);
    for expected in ["ab", "c", "def"] {
        let frame = flow.frame().await.expect("more").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), expected);
    }
    flow.taken();
    assert!(flow.take_back().is_none());
}

#[tokio::test]
async fn large_pieces_wait_for_those_that_follow_at_once_and_small_ones_for_nothing() {
    let (sender, source) = source();
    let mut flow = Inflow::new(source, None).flow();
    let send = |bytes: usize| {
        let sent = sender.send(Ok(Frame::data(vec![0; bytes].into())));
        sent.expect("open");
    };
    send(3);
    assert_eq!(next_length(&mut flow).await, Some(3));
    send(BULK);
    assert_eq!(next_length(&mut flow).await, None);
    send(5);
    let first = flow.frame().await.expect("more").expect("no error");
    assert_eq!(first.into_data().expect("data").len(), BULK);
    assert_eq!(next_length(&mut flow).await, Some(5));
    // With what is enough nobody waits for more, nor does an end.
    send(TOGETHER);
    assert_eq!(next_length(&mut flow).await, Some(TOGETHER));
    send(BULK);
    drop(sender);
    assert_eq!(next_length(&mut flow).await, Some(BULK));
    assert!(flow.frame().await.is_none());
}

#[tokio::test]
async fn what_came_before_it_broke_off_comes_first() {
    let (sender, source) = source();
    let mut flow = Inflow::new(source, None).flow();
    sender.send(piece("ab")).expect("open");
    let broken = Err(BufferError::Broken("gone".into()));
    sender.send(broken).expect("open");
    let first = flow.frame().await.expect("more").expect("no error");
    assert_eq!(first.into_data().expect("data"), "ab");
    assert_eq!(flow.failed(), None);
    assert!(flow.frame().await.expect("more").is_err());
    assert_eq!(flow.failed(), Some(FlowFailed::Broken));
}

#[tokio::test]
async fn one_that_breaks_off_says_so() {
    let (sender, source) = source();
    sender
        .send(Err(BufferError::Broken("gone".into())))
        .expect("open");
    let flow = Inflow::new(source, None).flow();
    assert!(flow.clone().collect().await.is_err());
    assert_eq!(flow.failed(), Some(FlowFailed::Broken));
}

#[tokio::test(start_paused = true)]
async fn one_that_stalls_says_so() {
    let (_sender, source) = source();
    let flow = Inflow::new(source, Some(Duration::from_secs(5))).flow();
    assert!(flow.clone().collect().await.is_err());
    assert_eq!(flow.failed(), Some(FlowFailed::Stalled));
}
