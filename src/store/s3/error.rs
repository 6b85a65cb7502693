//! What an S3 answer that is not a success means.
//!
//! Gateways differ in codes, statuses and even in whether an error is XML, so the decision is a pure function of what
//! was received, with a table of tests.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::s3::answer::AnswerTooLong;
use crate::store::{StoreError, StoreErrorKind};

/// The longest wait that a store's `Retry-After` is believed for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Turns a failed request into an error of the port.
pub(super) fn from_sdk<E>(
    operation: &'static str,
    subject: impl fmt::Display,
    error: SdkError<E, HttpResponse>,
) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if is_too_long(&error) {
        return StoreError::new(operation, subject, StoreErrorKind::Other, AnswerTooLong.to_string());
    }
    if let Some(response) = error.raw_response() {
        let status = response.status().as_u16();
        let metadata = error.as_service_error();
        let code = metadata.and_then(|service| service.code());
        let said = metadata.and_then(|service| service.message());
        let (kind, message) = meaning(status, code, said);
        let retry_after = response.headers().get("retry-after").and_then(parse_retry_after);
        return StoreError::new(operation, subject, kind, message).with_retry_after(retry_after);
    }
    match &error {
        SdkError::TimeoutError(_) => {
            StoreError::new(operation, subject, StoreErrorKind::TimedOut, "the store did not answer in time")
        }
        SdkError::DispatchFailure(failure) => {
            let timed_out = failure.is_timeout();
            let cause = root_cause(&error);
            let (kind, message) = connection_meaning(&cause, timed_out);
            StoreError::new(operation, subject, kind, message).with_source(cause)
        }
        _ => StoreError::new(operation, subject, StoreErrorKind::Other, "the request could not be made")
            .with_source(root_cause(&error)),
    }
}

/// Tells whether an answer was given up because it did not end.
fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<AnswerTooLong>() || error.source().is_some_and(is_too_long)
}

/// Makes the error for an answer of success that holds an error or nothing of what a success holds.
pub(super) fn false_success(operation: &'static str, subject: impl fmt::Display) -> StoreError {
    let message = "the store answered with success, but with an error inside";
    StoreError::new(operation, subject, StoreErrorKind::Unavailable, message)
}

/// Decides by HTTP status and S3 code; `said` is the store's own sentence, if it sent one.
fn meaning(status: u16, code: Option<&str>, said: Option<&str>) -> (StoreErrorKind, String) {
    use StoreErrorKind::*;
    let answer = match code {
        Some(code) => format!("HTTP {status} {code}"),
        None => format!("HTTP {status}"),
    };
    let said_too =
        said.map(one_line).filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(": {said}"));
    let (kind, clause) = match code.unwrap_or_default() {
        "NoSuchKey" => (NotFound, "no such object".to_owned()),
        "NoSuchBucket" => (NoSuchPlace, "the bucket does not exist at this endpoint".into()),
        "InvalidAccessKeyId" => (Denied, "access denied: the store does not know this access key".into()),
        "SignatureDoesNotMatch" => (Denied, "access denied: the secret key does not belong to the access key".into()),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            (Denied, "access denied: the session token has expired or is not valid".into())
        }
        "RequestTimeTooSkewed" | "RequestExpired" => {
            (Skewed, "the clock of this machine differs too much from the store's; set the time".into())
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            (Other, format!("the bucket is in another region than the endpoint or the request said{said_too}"))
        }
        "SlowDown" | "ServiceUnavailable" if status == 503 => (Throttled, "the store asks to slow down".into()),
        "SlowDown"
        | "TooManyRequests"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "RequestThrottled" => (Throttled, "the store asks to slow down".into()),
        "QuotaExceeded" | "InsufficientCapacity" | "StorageFull" | "XMinioStorageFull" | "EntityQuotaExceeded" => {
            (Full, "a quota is used up or the store is full".into())
        }
        "InvalidRange" => (Truncated, "the object is shorter than the range that was asked for".into()),
        "RequestTimeout" | "InternalError" | "OperationAborted" | "ConditionalRequestConflict" => {
            (Unavailable, "the store failed for the moment".into())
        }
        "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
            (Unavailable, "the data did not arrive as it was sent".into())
        }
        _ => match status {
            401 | 403 => (Denied, format!("access denied{said_too}")),
            404 => (NotFound, "no such object".into()),
            408 | 500 | 502 | 503 | 504 | 520..=599 => (Unavailable, "the store failed for the moment".into()),
            416 => (Truncated, "the object is shorter than the range that was asked for".into()),
            429 => (Throttled, "the store asks to slow down".into()),
            507 => (Full, "a quota is used up or the store is full".into()),
            301 | 302 | 307 | 308 => {
                (Other, format!("the bucket is in another region than the endpoint or the request said{said_too}"))
            }
            200..=299 => (Unavailable, "the store answered with success, but not in a form that can be read".into()),
            _ => match said {
                Some(said) => (Other, format!("the store refused: {}", one_line(said))),
                None => (Other, "the store refused".into()),
            },
        },
    };
    (kind, format!("{clause} ({answer})"))
}

/// How C libraries say that a host's name is in no directory; `temporary failure in name resolution` is an outage like others.
const NOBODY_KNOWS_THE_NAME: [&str; 4] = [
    "name or service not known",
    "no address associated with hostname",
    "name does not resolve",
    "nodename nor servname provided",
];

/// How a certificate is refused that no known authority signed. The latter two come where one of another key has the name of
/// the signer, as the `CN=localhost` that Debian's package ssl-cert makes for every machine.
const NOT_SIGNED_BY_WHO_IS_KNOWN: [&str; 3] = ["unknownissuer", "badsignature", "unsupportedsignaturealgorithm"];

/// Decides what a connection that failed means, by the text of its cause: the TLS library's types are not ours.
fn connection_meaning(cause: &str, timed_out: bool) -> (StoreErrorKind, &'static str) {
    let lower = cause.to_ascii_lowercase();
    if lower.contains("causedasendentity") {
        // A self-signed certificate as `openssl req -x509` makes it unless told otherwise.
        (
            StoreErrorKind::Other,
            "the server's certificate is an authority's, which a server must not show; make it one with `openssl req -x509 \
             -addext basicConstraints=critical,CA:FALSE`, or one that is signed by an authority of your own",
        )
    } else if NOT_SIGNED_BY_WHO_IS_KNOWN.iter().any(|known| lower.contains(known)) {
        (
            StoreErrorKind::Untrusted,
            "the server's certificate is not from an authority known here; name the certificate of a private one as CA \
             file, or install the system's CA certificates",
        )
    } else if lower.contains("invalid peer certificate") {
        (StoreErrorKind::Other, "the server's certificate is not valid for this endpoint")
    } else if lower.contains("corrupt message") || lower.contains("invalidcontenttype") {
        (StoreErrorKind::Other, "the server does not speak TLS here; s3+http://… is for one that does not")
    } else if NOBODY_KNOWS_THE_NAME.iter().any(|known| lower.contains(known)) {
        (StoreErrorKind::UnknownHost, "nobody knows the name of the endpoint")
    } else if timed_out {
        (StoreErrorKind::TimedOut, "the store did not answer in time")
    } else {
        (StoreErrorKind::Unavailable, "the connection to the store failed")
    }
}

/// Returns the text of the innermost cause; the layers above it only repeat that something failed.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

/// Returns the first line, without control characters and no longer than people read.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Reads `Retry-After`: seconds, or a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_kinds_and_sentences() {
        use StoreErrorKind::*;
        for (status, code, kind, sentence) in [
            (404, Some("NoSuchKey"), NotFound, "no such object (HTTP 404 NoSuchKey)"),
            (404, None, NotFound, "no such object (HTTP 404)"),
            (404, Some("NoSuchBucket"), NoSuchPlace, "does not exist at this endpoint (HTTP 404 NoSuchBucket)"),
            (403, Some("AccessDenied"), Denied, "access denied: because (HTTP 403 AccessDenied)"),
            (403, None, Denied, "access denied: because (HTTP 403)"),
            (403, Some("InvalidAccessKeyId"), Denied, "does not know this access key"),
            (403, Some("SignatureDoesNotMatch"), Denied, "secret key"),
            (403, Some("RequestTimeTooSkewed"), Skewed, "clock"),
            (403, Some("QuotaExceeded"), Full, "quota"),
            (400, Some("AuthorizationHeaderMalformed"), Other, "region"),
            (301, Some("PermanentRedirect"), Other, "region"),
            (301, None, Other, "region"),
            (429, None, Throttled, "slow down (HTTP 429)"),
            (503, Some("SlowDown"), Throttled, "slow down (HTTP 503 SlowDown)"),
            (503, None, Unavailable, "for the moment (HTTP 503)"),
            (500, Some("InternalError"), Unavailable, "for the moment"),
            (502, None, Unavailable, "for the moment"),
            (507, None, Full, "full"),
            (416, Some("InvalidRange"), Truncated, "shorter"),
            (400, Some("BadDigest"), Unavailable, "did not arrive"),
            (400, Some("RequestTimeout"), Unavailable, "for the moment"),
            (200, None, Unavailable, "not in a form that can be read"),
            (400, Some("InvalidArgument"), Other, "the store refused: because (HTTP 400 InvalidArgument)"),
        ] {
            let (found, message) = meaning(status, code, Some("because\n<html>"));
            assert_eq!(found, kind, "{status} {code:?}");
            assert!(message.contains(sentence) && !message.contains("html"), "{message}");
        }
    }

    #[test]
    fn connections_that_fail_are_told_apart() {
        for (cause, kind, sentence) in [
            ("invalid peer certificate: UnknownIssuer", StoreErrorKind::Untrusted, "CA file"),
            ("invalid peer certificate: BadSignature", StoreErrorKind::Untrusted, "CA file"),
            (
                "invalid peer certificate: UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id: [6] }",
                StoreErrorKind::Untrusted,
                "CA file",
            ),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", StoreErrorKind::Other, "CA:FALSE"),
            ("invalid peer certificate: Expired", StoreErrorKind::Other, "not valid"),
            ("received corrupt message of type InvalidContentType", StoreErrorKind::Other, "TLS"),
            ("Connection refused (os error 111)", StoreErrorKind::Unavailable, "connection"),
            (
                "failed to lookup address information: Name or service not known",
                StoreErrorKind::UnknownHost,
                "nobody knows the name",
            ),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                StoreErrorKind::Unavailable,
                "connection",
            ),
        ] {
            let (found, message) = connection_meaning(cause, false);
            assert!(found == kind && message.contains(sentence), "{cause}: {message}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2099 07:28:00 GMT"), Some(RETRY_AFTER_MAX));
        assert_eq!(parse_retry_after("soon"), None);
    }
}
