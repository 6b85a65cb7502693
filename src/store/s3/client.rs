//! Builds the SDK's client, with every default that would surprise a backup turned off.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::store::location::S3Location;
use crate::store::s3::answer::BoundAnswers;
use crate::store::s3::credentials::S3Credentials;
use crate::store::s3::{Proxy, S3Options};
use crate::store::{StoreError, StoreErrorKind};

/// How long an unused connection is kept. A slow dump leaves connections idle between packs, and gateways close them
/// silently after as little as a minute (aws-sdk-rust#1417): a new handshake is cheaper than a pack sent in vain.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// Makes the client. Sends nothing.
pub(super) fn build(
    location: &S3Location,
    options: &S3Options,
    credentials: &S3Credentials,
) -> Result<Client, StoreError> {
    let credentials = Credentials::new(
        credentials.access_key_id.as_str(),
        credentials.secret_access_key.as_str(),
        credentials.session_token.as_ref().map(|token| token.to_string()),
        None,
        "coffre",
    );
    let config = Config::builder()
        // Pinned: an upgrade of the SDK must not change what is sent.
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(location, options)?)
        .endpoint_url(location.endpoint_url())
        .region(Region::new(region(location, options)))
        .credentials_provider(credentials)
        .force_path_style(true)
        // Hetzner refuses the checksum trailers that are sent otherwise; Content-MD5 and the signed payload stand in.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // `layer::retry` retries: it knows budgets, deadlines and the provider's Retry-After.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(options.timeouts.connect).build())
        // `progress` and `receive` watch what moves, both ways.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .app_name(AppName::new("coffre").expect("a valid name"))
        .interceptor(BoundAnswers)
        .build();
    Ok(Client::from_conf(config))
}

/// Returns the region to sign for: what was asked for, else the provider's.
fn region(location: &S3Location, options: &S3Options) -> String {
    options.region.clone().unwrap_or_else(|| location.provider.region.to_owned())
}

/// Returns what the client is told of a proxy.
fn proxy(location: &S3Location, options: &S3Options) -> Result<ProxyConfig, StoreError> {
    let Some(Proxy { url, except }) = &options.proxy else { return Ok(ProxyConfig::disabled()) };
    let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
    // What cannot be read may hold a password: it is not shown.
    let unusable = |_| {
        StoreError::new(
            "open",
            location,
            StoreErrorKind::Other,
            "the proxy cannot be used: its URL is not http://HOST:PORT",
        )
    };
    Ok(ProxyConfig::all(url).map_err(unusable)?.no_proxy(except))
}

/// Makes the HTTP client.
fn http_client(location: &S3Location, options: &S3Options) -> Result<SharedHttpClient, StoreError> {
    let proxy = proxy(location, options)?;
    let base = move || Connector::builder().proxy_config(proxy.clone()).pool_idle_timeout(IDLE_CONNECTION);
    if !location.tls {
        return Ok(Builder::new().build_with_connector_fn(move |settings, _| {
            let mut builder = base();
            builder.set_connector_settings(settings.cloned());
            builder.build_http()
        }));
    }
    let trust = match &options.ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(read_ca_file(path).map_err(|message| {
            StoreError::new(
                "open",
                location,
                StoreErrorKind::NoCertificates,
                format!("the CA file {} {message}", path.display()),
            )
        })?),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|source| {
        StoreError::new("open", location, StoreErrorKind::Other, "TLS could not be set up").with_source(source)
    })?;
    let provider = tls::Provider::Rustls(CryptoMode::AwsLc);
    Ok(Builder::new().build_with_connector_fn(move |settings, _| {
        let mut builder = base();
        builder.set_connector_settings(settings.cloned());
        builder.tls_provider(provider.clone()).tls_context(context.clone()).build()
    }))
}

/// Reads certificates, and makes sure that they are some: the HTTP client takes them unseen and would panic later.
fn read_ca_file(path: &Path) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("could not be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("is not valid PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("holds something that is not a certificate: {error}"))?;
    }
    if roots.is_empty() { Err("holds no certificate".into()) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_none_is_refused_before_it_is_used() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ca.pem");
        assert!(read_ca_file(&path).expect_err("missing").contains("could not be read"));
        for (text, message) in [
            ("", "holds no certificate"),
            ("hello", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
            ("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n", "not valid PEM"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = read_ca_file(&path).expect_err(text);
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
