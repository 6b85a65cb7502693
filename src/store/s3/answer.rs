//! What the client takes of an answer that it holds in memory: all but the bytes of an object, for which whoever reads them looks to that.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeSerializationInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes of such an answer, at most. A page of a thousand versions with the longest names takes a third of it.
pub(super) const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An answer goes on behind [`ANSWER_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct AnswerTooLong;

impl fmt::Display for AnswerTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer goes on behind {} MiB, which none should", ANSWER_BYTES_MAX >> 20)
    }
}

impl Error for AnswerTooLong {}

/// Lets no answer be longer than [`ANSWER_BYTES_MAX`], but one of success to whoever said [`TakesObject`].
#[derive(Debug)]
pub(super) struct BoundAnswers;

impl Intercept for BoundAnswers {
    fn name(&self) -> &'static str {
        "BoundAnswers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<Unbounded>().is_none() || !context.response().status().is_success() {
            let body = context.response_mut().body_mut();
            let bounded = Bounded { body: std::mem::replace(body, SdkBody::taken()), left: ANSWER_BYTES_MAX };
            *body = SdkBody::from_body_1_x(bounded);
        }
        Ok(())
    }
}

/// Says that the answer is an object, whose bytes are read one after the other and no further than they may go.
#[derive(Debug)]
pub(super) struct TakesObject;

/// A request whose answer is not held in memory.
#[derive(Debug)]
struct Unbounded;

impl Storable for Unbounded {
    type Storer = StoreReplace<Self>;
}

impl Intercept for TakesObject {
    fn name(&self) -> &'static str {
        "TakesObject"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Unbounded);
        Ok(())
    }
}

/// A body that fails where it goes on too long.
struct Bounded {
    body: SdkBody,
    left: u64,
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            match self.left.checked_sub(bytes.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(AnswerTooLong.into()))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: u64) -> Result<u64, BoxError> {
        let body = SdkBody::from(vec![0; bytes as usize]);
        let mut bounded = Bounded { body, left: 1000 };
        let mut read = 0;
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut bounded).poll_frame(context)).await {
            read += frame?.into_data().map_or(0, |data| data.len() as u64);
        }
        Ok(read)
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_the_last_byte_that_it_may_have() {
        assert_eq!(read(0).await.expect("read"), 0);
        assert_eq!(read(1000).await.expect("read"), 1000);
        assert!(read(1001).await.expect_err("too long").is::<AnswerTooLong>());
    }
}
