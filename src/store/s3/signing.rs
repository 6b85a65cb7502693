//! What is signed of a body: its SHA-256, which the signer takes of it unless somebody knows it.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::model::id::hex;

/// Signs a SHA-256 that is known. The store compares it with what it gets, so a wrong one is refused.
#[derive(Debug)]
pub(super) struct SignDigest(pub(super) Option<[u8; 32]>);

impl Intercept for SignDigest {
    fn name(&self) -> &'static str {
        "SignDigest"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(digest) = &self.0 {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(hex(digest)));
        }
        Ok(())
    }
}
