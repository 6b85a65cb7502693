//! One small request to a web server, by which somebody outside hears how a run goes. Nothing is fetched, no redirection followed.

use std::fmt;
use std::net::IpAddr;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

/// A URL of which only scheme and host are shown: whoever knows the rest can speak in our name.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl {
    text: String,
    /// Where the path begins.
    path_at: usize,
}

/// Why a request was in vain.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// It cannot be asked at all.
    #[error("{0}")]
    Unusable(String),
    /// It did not come through.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The server does not want it.
    #[error("it answered with HTTP {0}")]
    Answered(u16),
}

impl WebError {
    /// Tells whether the next try may do better.
    pub fn may_be_over(&self) -> bool {
        match self {
            WebError::Unusable(_) => false,
            WebError::Unreachable(_) => true,
            WebError::Answered(status) => *status >= 500 || *status == 429,
        }
    }
}

impl SecretUrl {
    /// Reads one: with TLS, or of this machine.
    ///
    /// # Errors
    /// What is wrong with it, without what it says.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
            return Err("it has blanks, a fragment, or characters that no URL has".into());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it does not begin with https://")?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        if authority.contains('@') {
            return Err("it has a user or a password before the host".into());
        }
        let host = match authority.strip_prefix('[') {
            Some(address) => address.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        let is_own = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match scheme {
            _ if host.is_empty() => Err("it names no host".into()),
            "https" => Ok(()),
            "http" if is_own => Ok(()),
            "http" => Err("without TLS only this machine is told: write https://".to_owned()),
            _ => Err("it does not begin with https://".to_owned()),
        }?;
        Ok(Self { text: text.to_owned(), path_at: scheme.len() + 3 + authority.len() })
    }

    /// Returns it with a segment behind its path, and a parameter.
    pub fn below(&self, segment: Option<&str>, (name, value): (&str, &str)) -> Self {
        let (path, query) =
            self.text.split_once('?').map_or((self.text.as_str(), None), |(path, query)| (path, Some(query)));
        let path = match segment {
            Some(segment) => format!("{}/{segment}", path.trim_end_matches('/')),
            None => path.to_owned(),
        };
        let query = query.map_or_else(String::new, |query| format!("{query}&"));
        Self { text: format!("{path}?{query}{name}={value}"), path_at: self.path_at }
    }

    /// Takes what is secret of it out of a text.
    fn masked(&self, text: &str) -> String {
        let secret = &self.text[self.path_at..];
        let path = secret.split('?').next().unwrap_or_default();
        let parts = [secret, path].into_iter().filter(|part| part.len() > 1);
        parts.fold(text.to_owned(), |text, part| text.replace(part, "/…"))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", &self.text[..self.path_at])
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// A proxy for requests with TLS, and the hosts that are reached without it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebProxy {
    /// Its URL.
    pub url: String,
    /// The hosts, with commas between them.
    pub except: String,
}

/// Sends `body` to a URL.
///
/// # Errors
/// When it did not come through, or the answer is no success.
pub async fn post(
    url: &SecretUrl,
    content_type: &'static str,
    body: String,
    proxy: Option<&WebProxy>,
) -> Result<(), WebError> {
    let unusable = |why: &dyn fmt::Display| WebError::Unusable(url.masked(&why.to_string()));
    let connector = if url.text.starts_with("https:") {
        let proxy = match proxy {
            None => ProxyConfig::disabled(),
            Some(proxy) => {
                let address =
                    if proxy.url.contains("://") { proxy.url.clone() } else { format!("http://{}", proxy.url) };
                // What cannot be read may hold a password.
                let config =
                    ProxyConfig::all(address).map_err(|_| unusable(&"the proxy's URL is not http://HOST:PORT"))?;
                config.no_proxy(&proxy.except)
            }
        };
        let context = TlsContext::builder().with_trust_store(TrustStore::default()).build();
        let context = context.map_err(|error| unusable(&error))?;
        let builder = Connector::builder().proxy_config(proxy);
        builder.tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build()
    } else {
        Connector::builder().proxy_config(ProxyConfig::disabled()).build_http()
    };
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST").map_err(|error| unusable(&error))?;
    request.set_uri(url.text.as_str()).map_err(|error| unusable(&error))?;
    request.headers_mut().insert("content-type", content_type);
    request.headers_mut().insert("user-agent", concat!("coffre/", env!("CARGO_PKG_VERSION")));
    let response = connector.call(request).await.map_err(|error| {
        let mut why = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(link) = cause {
            // The innermost says what happened; those around it, that something did.
            why = link.to_string();
            cause = link.source();
        }
        WebError::Unreachable(url.masked(&why))
    })?;
    match response.status().as_u16() {
        200..300 => Ok(()),
        status => Err(WebError::Answered(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_tls_or_is_of_this_machine() {
        for right in [
            "https://hc-ping.com/5f0c",
            "https://hooks.example.org:8443/a?b=c",
            "http://localhost:9/x",
            "http://127.0.0.1/x",
            "http://[::1]:8/x",
            " https://a.b/x\n",
        ] {
            assert!(SecretUrl::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "http://hc-ping.com/5f0c",
            "http://127.0.0.1.example.org/x",
            "http://localhost@evil.example/x",
            "https://user:pass@host/x",
            "ftp://a/x",
            "hc-ping.com/x",
            "https:///x",
            "https://a b/x",
            "https://a/x\r\nX: y",
            "https://a/x#y",
            "",
        ] {
            let why = SecretUrl::parse(wrong).expect_err(wrong);
            assert!(!why.contains("pass") || !why.contains("user:"), "{why}");
        }
    }

    #[test]
    fn what_is_secret_is_never_shown() {
        let url = SecretUrl::parse("https://hc-ping.com/s3cret?k=v").expect("right");
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("https://hc-ping.com/…".into(), "SecretUrl(https://hc-ping.com/…)".into())
        );
        let start = url.below(Some("start"), ("rid", "7"));
        assert_eq!(start.text, "https://hc-ping.com/s3cret/start?k=v&rid=7");
        assert_eq!(url.below(None, ("rid", "7")).text, "https://hc-ping.com/s3cret?k=v&rid=7");
        assert_eq!(url.masked("no https://hc-ping.com/s3cret?k=v nor /s3cret"), "no https://hc-ping.com/… nor /…");
        let bare = SecretUrl::parse("https://hc-ping.com").expect("right");
        assert_eq!(bare.below(Some("3"), ("rid", "7")).text, "https://hc-ping.com/3?rid=7");
        assert_eq!(bare.masked("a/b"), "a/b");
    }
}
