//! What is particular about each provider, as data: one row each, nothing of it anywhere else in the code.
//!
//! A provider that is not in the table works as [`OTHER`]. The name of a row (`hetzner-fsn1`) may be written instead of
//! the endpoint in a location, and a location that names the endpoint finds its row too.

/// How far a store keeps `If-None-Match: *`, which asks that an object not be replaced.
///
/// Nothing relies on it for safety: every object has a name that no two writers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// Not at all, or nobody has looked.
    Unknown,
    /// In plain buckets; in versioned ones racing writers all win (measured on Ceph RGW).
    UnversionedOnly,
    /// Always.
    Always,
}

/// One place where an S3 store can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The short name for locations, `hetzner-fsn1`.
    pub name: &'static str,
    /// The name for people.
    pub label: &'static str,
    /// The host that answers, or `None` for [`OTHER`].
    pub endpoint: Option<&'static str>,
    /// The region that requests are signed for.
    pub region: &'static str,
    /// The ISO 3166 code of the country where the data lies, where it is known.
    pub country: Option<&'static str>,
    /// Connections at once that one host may open.
    pub connections_max: usize,
    /// Requests a second that one host may send, where a limit is published.
    pub requests_per_second: Option<u32>,
    /// How far conditional writes can be believed.
    pub conditional_writes: ConditionalWrites,
    /// Parts that a multipart upload may have. (Packs are single puts; this bounds what a tool beside us could do.)
    pub multipart_parts_max: u32,
    /// What else there is to know, in a sentence.
    pub note: &'static str,
    /// The public page that says so.
    pub source: &'static str,
}

/// A provider that is not in the table: careful limits and the region that most gateways accept.
pub const OTHER: Provider = Provider {
    name: "other",
    label: "S3-compatible store",
    endpoint: None,
    region: "us-east-1",
    country: None,
    connections_max: 128,
    requests_per_second: None,
    conditional_writes: ConditionalWrites::Unknown,
    multipart_parts_max: 1_000,
    note: "any gateway that speaks S3 with Signature Version 4 and path-style addresses",
    source: "https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html",
};

const fn hetzner(
    name: &'static str,
    label: &'static str,
    endpoint: &'static str,
    region: &'static str,
    country: &'static str,
) -> Provider {
    Provider {
        name,
        label,
        endpoint: Some(endpoint),
        region,
        country: Some(country),
        connections_max: 256,
        requests_per_second: Some(750),
        conditional_writes: ConditionalWrites::UnversionedOnly,
        multipart_parts_max: 10_000,
        note: "Ceph; counts connections and requests per source address and bucket, and answers beyond them with 429 \
               and an HTML page; refuses checksum trailers",
        source: "https://docs.hetzner.com/storage/object-storage/overview",
    }
}

const fn ovhcloud(
    name: &'static str,
    label: &'static str,
    endpoint: &'static str,
    region: &'static str,
    country: &'static str,
) -> Provider {
    Provider {
        name,
        label,
        endpoint: Some(endpoint),
        region,
        country: Some(country),
        connections_max: 128,
        requests_per_second: Some(300),
        conditional_writes: ConditionalWrites::Unknown,
        multipart_parts_max: 10_000,
        note: "300 puts and 900 gets a second per bucket before it spreads the load, 1 Gbit/s per connection",
        source: "https://help.ovhcloud.com/csm/en-ie-public-cloud-storage-s3-limitations",
    }
}

const fn scaleway(
    name: &'static str,
    label: &'static str,
    endpoint: &'static str,
    region: &'static str,
    country: &'static str,
) -> Provider {
    Provider {
        name,
        label,
        endpoint: Some(endpoint),
        region,
        country: Some(country),
        connections_max: 128,
        requests_per_second: Some(1_000),
        conditional_writes: ConditionalWrites::Unknown,
        multipart_parts_max: 1_000,
        note: "1000 requests a second per bucket, then 429 Too Many Requests; at most 1000 parts in an upload",
        source: "https://www.scaleway.com/en/faq/object-storage/",
    }
}

/// Every provider known by name.
pub const PROVIDERS: &[Provider] = &[
    hetzner("hetzner-fsn1", "Hetzner Falkenstein", "fsn1.your-objectstorage.com", "fsn1", "DE"),
    hetzner("hetzner-nbg1", "Hetzner Nuremberg", "nbg1.your-objectstorage.com", "nbg1", "DE"),
    hetzner("hetzner-hel1", "Hetzner Helsinki", "hel1.your-objectstorage.com", "hel1", "FI"),
    ovhcloud("ovhcloud-gra", "OVHcloud Gravelines", "s3.gra.io.cloud.ovh.net", "gra", "FR"),
    ovhcloud("ovhcloud-sbg", "OVHcloud Strasbourg", "s3.sbg.io.cloud.ovh.net", "sbg", "FR"),
    ovhcloud("ovhcloud-rbx", "OVHcloud Roubaix", "s3.rbx.io.cloud.ovh.net", "rbx", "FR"),
    ovhcloud("ovhcloud-de", "OVHcloud Frankfurt", "s3.de.io.cloud.ovh.net", "de", "DE"),
    ovhcloud("ovhcloud-waw", "OVHcloud Warsaw", "s3.waw.io.cloud.ovh.net", "waw", "PL"),
    scaleway("scaleway-fr-par", "Scaleway Paris", "s3.fr-par.scw.cloud", "fr-par", "FR"),
    scaleway("scaleway-nl-ams", "Scaleway Amsterdam", "s3.nl-ams.scw.cloud", "nl-ams", "NL"),
    scaleway("scaleway-pl-waw", "Scaleway Warsaw", "s3.pl-waw.scw.cloud", "pl-waw", "PL"),
];

/// Returns the provider of that short name.
pub fn by_name(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// Returns the provider that answers at `endpoint`, a host with or without a port, or [`OTHER`].
pub fn by_endpoint(endpoint: &str) -> &'static Provider {
    let host = endpoint.split(':').next().unwrap_or_default();
    PROVIDERS
        .iter()
        .find(|provider| provider.endpoint.is_some_and(|known| known.eq_ignore_ascii_case(host)))
        .unwrap_or(&OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_its_endpoint() {
        for provider in PROVIDERS {
            let endpoint = provider.endpoint.expect("a named provider has one");
            assert_eq!(by_name(provider.name), Some(provider));
            assert_eq!(by_endpoint(endpoint), provider);
            assert_eq!(by_endpoint(&format!("{endpoint}:443")), provider);
            assert!(endpoint.contains(provider.region) && provider.name.ends_with(provider.region));
            assert_eq!(provider.country.map(str::len), Some(2));
            assert!(provider.source.starts_with("https://"));
        }
        assert_eq!(by_endpoint("minio.example:9000"), &OTHER);
        assert_eq!(by_name("other"), None);
    }
}
