//! Credentials that are got from somebody else: OAuth 2.0, client credentials (RFC 6749, section 4.4).

use std::collections::BTreeMap;

use url::Url;

use crate::config::secret::Secret;

/// Where a token is got, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    /// http or https, with a host, without credentials.
    pub token_url: Url,
    pub scopes: Vec<String>,
    /// What else stands in the request for a token. It may be a secret.
    pub endpoint_params: BTreeMap<String, Secret>,
}
