//! Whether a transfer moves: time-outs go by progress, since a slow line is no failure and a silent one is.
//!
//! What is sent is handed to the connection in pieces, each of which counts as progress when the connection takes it. The last
//! of them may stand in buffers of the system for a while after that. What a limit holds back counts from when it may move.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::store::s3::Timeouts;
use crate::store::signs::Signs;
use crate::store::transfer::Transfer;

/// Bytes handed to the connection at once: at 16 KiB a second they still show every four seconds that it moves.
const PIECE_BYTES: usize = 64 << 10;
/// What a connection may hold that was taken and not sent: the most that Linux buffers for a socket, and what hyper does.
const BUFFERED_BYTES: u64 = (4 << 20) + (512 << 10);

/// How far a body has been taken by its connection.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    state: Arc<Mutex<State>>,
    transfer: Transfer,
    signs: Signs,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    since: Instant,
}

impl Sent {
    /// Starts with nothing sent; what is sent is told to `transfer`, and is a sign of life.
    pub(super) fn nothing(transfer: Transfer, signs: Signs) -> Self {
        Self { state: Arc::new(Mutex::new(State { bytes: 0, since: Instant::now() })), transfer, signs }
    }

    fn add(&self, bytes: u64) {
        let sent = {
            let mut state = self.state.lock().expect("no panic while held");
            *state = State { bytes: state.bytes + bytes, since: Instant::now() };
            state.bytes
        };
        self.signs.note();
        self.transfer.reach(sent);
    }

    /// Notes that nothing can be sent until then, for which nobody is to blame.
    fn held_until(&self, time: Instant) {
        self.state.lock().expect("no panic while held").since = time;
    }

    /// Returns, with how long nothing happened, once a body of `total` bytes is not being taken or not answered.
    pub(super) async fn stalls(&self, total: u64, timeouts: Timeouts) -> Duration {
        loop {
            let (bytes, since) = {
                let state = self.state.lock().expect("no panic while held");
                (state.bytes, state.since)
            };
            let patience = if bytes < total { timeouts.stall } else { timeouts.for_answer(total) };
            let until = since + patience;
            if Instant::now() >= until {
                return patience;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Timeouts {
    /// Returns how long to wait for the answer after the last of `sent` bytes was taken.
    pub(super) fn for_answer(self, sent: u64) -> Duration {
        let buffered = sent.min(BUFFERED_BYTES) as f64;
        self.answer + Duration::from_secs_f64(buffered / self.bytes_per_second_min.max(1) as f64)
    }
}

/// Sends the body of a request that is already signed in pieces, which are counted as they go.
#[derive(Debug)]
pub(super) struct SendInPieces {
    /// The body, the same that was signed.
    pub(super) body: Bytes,
    /// Where it is counted.
    pub(super) sent: Sent,
}

impl Intercept for SendInPieces {
    fn name(&self) -> &'static str {
        "SendInPieces"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !self.body.is_empty() {
            *context.request_mut().body_mut() =
                SdkBody::from_body_1_x(Pieces::new(self.body.clone(), self.sent.clone()));
        }
        Ok(())
    }
}

/// A body that is given out in pieces.
struct Pieces {
    rest: Bytes,
    sent: Sent,
    /// The length of the next piece and its wait, once its turn was asked for.
    next: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Pieces {
    fn new(body: Bytes, sent: Sent) -> Self {
        Self { rest: body, sent, next: None }
    }

    /// Waits until the next piece may move, and returns its length.
    fn poll_length(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        if self.next.is_none() {
            let length = self.sent.transfer.part(self.rest.len().min(PIECE_BYTES));
            let wait = self.sent.transfer.wait_for(length as u64);
            if wait.is_zero() {
                return Poll::Ready(length);
            }
            let until = Instant::now() + wait;
            self.sent.held_until(until);
            self.next = Some((length, Box::pin(tokio::time::sleep_until(until))));
        }
        let (length, wait) = self.next.as_mut().expect("just made");
        ready!(wait.as_mut().poll(context));
        let length = *length;
        self.next = None;
        Poll::Ready(length)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = ready!(self.poll_length(context));
        let piece = self.rest.split_to(length);
        self.sent.add(length as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::pace::{Pace, Rate};

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(30),
        stall: Duration::from_secs(60),
        bytes_per_second_min: 16 << 10,
    };

    fn nothing_sent() -> Sent {
        Sent::nothing(Transfer::unheard(), Signs::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_goes_on_for_as_long_as_it_moves() {
        let total: u64 = 32 << 20;
        let sent = nothing_sent();
        let mut body = Pieces::new(Bytes::from(vec![0; total as usize]), sent.clone());
        let began = Instant::now();
        tokio::select! {
            () = send(&mut body, |length| Duration::from_secs_f64(length as f64 / 50_000.0)) => {}
            _ = sent.stalls(total, TIMEOUTS) => panic!("given up after {:?}", began.elapsed()),
        }
        assert!(began.elapsed() > Duration::from_secs(600), "it took long");
    }

    /// Sends a body on a line that needs so long for each of its pieces.
    async fn send(body: &mut Pieces, time: impl Fn(usize) -> Duration) {
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            let length = frame.expect("infallible").into_data().expect("data").len();
            tokio::time::sleep(time(length)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_a_limit_holds_back_moves_evenly_and_is_not_given_up() {
        let (total, rate): (u64, _) = (1 << 20, Arc::new(Rate::new(16384.0)));
        let steps = Arc::<Mutex<Vec<u64>>>::default();
        let heard = steps.clone();
        let transfer = Transfer::new(move |bytes| heard.lock().expect("free").push(bytes));
        let pace = Pace::begin(rate.clone(), Some(total)).await;
        let sent = Sent::nothing(transfer.at(pace), Signs::default());
        let mut body = Pieces::new(Bytes::from(vec![0; total as usize]), sent.clone());
        // Small objects went before it, and the connection is watched more closely than it is held back.
        rate.take(1 << 20, Instant::now());
        let timeouts = Timeouts { stall: Duration::from_millis(200), ..TIMEOUTS };
        let began = Instant::now();
        tokio::select! {
            () = send(&mut body, |_| Duration::from_millis(100)) => {}
            _ = sent.stalls(total, timeouts) => panic!("given up after {:?}", began.elapsed()),
        }
        assert_eq!(*steps.lock().expect("free"), vec![4096; 256]);
        assert!(began.elapsed() >= Duration::from_secs(63), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_does_not_move_and_an_answer_that_does_not_come_are_given_up() {
        let sent = nothing_sent();
        let began = Instant::now();
        assert_eq!(sent.stalls(100, TIMEOUTS).await, Duration::from_secs(60));
        sent.add(50);
        sent.stalls(100, TIMEOUTS).await;
        assert_eq!(began.elapsed(), Duration::from_secs(120));
        sent.add(50);
        assert_eq!(sent.stalls(100, TIMEOUTS).await.as_secs(), 30);
        let all = nothing_sent();
        all.add(32 << 20);
        assert_eq!(
            all.stalls(32 << 20, TIMEOUTS).await,
            Duration::from_secs(30 + 288),
            "what stands in buffers takes time"
        );
    }
}
