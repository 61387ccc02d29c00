//! Gets tokens: OAuth 2.0, client credentials.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::runtime::Handle;
use url::form_urlencoded::{self, byte_serialize};

use super::{
    ClientError, named_for_tls, plain, redaction::Redaction, resolver::MarkingResolver, secret_forms,
    sensitive, tls, value, whole::whole,
};
use crate::config::plan::{HttpVersion, OAuth2, Reach, Target};

/// Of a token whose end nobody says.
const UNSAID: Duration = Duration::from_mins(5);

/// A token that lasts longer is fetched again after a day.
const LONGEST: Duration = Duration::from_hours(24);

/// A token, to be sent as `Bearer`.
#[derive(Clone)]
pub struct Token {
    pub value: String,
    /// From when it was asked for.
    pub lasts: Duration,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Token")
            .field("lasts", &self.lasts)
            .finish_non_exhaustive()
    }
}

/// What the server answers (RFC 6749, section 5.1). The type must be there, but some servers forget it.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Lasts>,
}

/// Seconds. Some servers write them as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lasts {
    Number(f64),
    Text(String),
}

impl Lasts {
    /// `None` where it is no number.
    fn seconds(&self) -> Option<f64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// How the client says who it is. Servers must take the first, and some take the second alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Header,
    Body,
}

/// Asks for a token; the error says in words why there is none, and holds no secret. How the target is reached
/// (proxy, certificates, socket) holds for the server that gives tokens only where it has the same scheme, host and port.
pub async fn fetch_token(
    target: &Target,
    oauth2: &OAuth2,
    user_agent: &str,
    blocking: &Handle,
) -> Result<Token, String> {
    let http = client(target, oauth2, blocking).map_err(|error| error.to_string())?;
    let redaction = Redaction(secret_forms(target));
    let agent = value(user_agent, "User-Agent").map_err(|error| error.to_string())?;
    for way in [Way::Header, Way::Body] {
        let mut request = http
            .post(oauth2.token_url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, agent.clone())
            .body(form(oauth2, way));
        if way == Way::Header {
            let encoded = format!("Basic {}", STANDARD.encode(basic(oauth2)));
            let header = sensitive(&encoded, "Authorization").map_err(|error| error.to_string())?;
            request = request.header(AUTHORIZATION, header);
        }
        let sent = request.send().await;
        let is_refused = matches!(
            sent.as_ref().map(reqwest::Response::status),
            Ok(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        );
        if !(is_refused && way == Way::Header) {
            return granted(&whole(std::future::ready(sent), &redaction).await?);
        }
    }
    Err("neither way to say who asks was accepted".to_owned())
}

fn client(target: &Target, oauth2: &OAuth2, blocking: &Handle) -> Result<reqwest::Client, ClientError> {
    let url = &oauth2.token_url;
    let elsewhere = Reach::default();
    let is_same = url.origin() == target.url.origin();
    let reach = if is_same { &target.reach } else { &elsewhere };
    let tls = tls::config(url.scheme() == "https", HttpVersion::Http1, &reach.tls)?;
    let (_, host) = named_for_tls(url.clone(), reach)?;
    let resolver = MarkingResolver::new(blocking.clone(), host, reach.addresses);
    let builder = plain(tls, resolver, reach)?
        .http1_only()
        .pool_max_idle_per_host(0);
    Ok(builder.build()?)
}

/// The user name and password of basic authentication (RFC 6749, section 2.3.1).
pub(super) fn basic(oauth2: &OAuth2) -> String {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!(
        "{}:{}",
        encoded(&oauth2.client_id),
        encoded(oauth2.client_secret.expose())
    )
}

fn form(oauth2: &OAuth2, way: Way) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    form.extend_pairs(
        oauth2
            .endpoint_params
            .iter()
            .map(|(name, value)| (name, value.expose())),
    );
    if way == Way::Body {
        form.append_pair("client_id", &oauth2.client_id);
        form.append_pair("client_secret", oauth2.client_secret.expose());
    }
    form.finish()
}

fn granted(body: &[u8]) -> Result<Token, String> {
    // The parser's error might repeat the token.
    let granted: Granted =
        serde_json::from_slice(body).map_err(|_| "the answer is no token in JSON".to_owned())?;
    let is_other = |kind: &String| !kind.eq_ignore_ascii_case("bearer");
    if granted.token_type.as_ref().is_some_and(is_other) {
        return Err("the token is not of type Bearer".to_owned());
    }
    if granted.access_token.is_empty() || sensitive(&granted.access_token, "Authorization").is_err() {
        return Err("the token is empty, or no header can hold it".to_owned());
    }
    let lasts = granted.expires_in.and_then(|lasts| lasts.seconds());
    let lasts = lasts.map_or(UNSAID, |seconds| {
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST)
    });
    Ok(Token {
        value: granted.access_token,
        lasts: lasts.min(LONGEST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_a_bearer_token_that_lasts() {
        let of = |text: &str| granted(text.as_bytes()).map(|token| (token.value, token.lasts.as_secs()));
        let token = |lasts| Ok(("t0k".to_owned(), lasts));
        assert_eq!(
            of(r#"{"access_token":"t0k","token_type":"Bearer","expires_in":3600}"#),
            token(3600)
        );
        assert_eq!(
            of(r#"{"access_token":"t0k","token_type":"bearer","more":[1]}"#),
            token(300)
        );
        assert_eq!(
            of(r#"{"access_token":"t0k","token_type":"bearer","expires_in":-5}"#),
            token(0)
        );
        assert_eq!(
            of(r#"{"access_token":"t0k","token_type":"bearer","expires_in":1e30}"#),
            token(86400)
        );
        assert_eq!(of(r#"{"access_token":"t0k","expires_in":"3600"}"#), token(3600));
        assert_eq!(
            of(r#"{"access_token":"t0k","token_type":null,"expires_in":" 7.5 "}"#),
            token(7)
        );
        assert_eq!(of(r#"{"access_token":"t0k","expires_in":"soon"}"#), token(300));
        assert_eq!(of(r#"{"access_token":"t0k","expires_in":"NaN"}"#), token(0));
        for bad in [
            "",
            "<html>",
            r#"{"error":"invalid_client"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a\nb","token_type":"bearer"}"#,
            r#"{"access_token":"t0k","token_type":"mac"}"#,
        ] {
            let error = granted(bad.as_bytes()).unwrap_err();
            assert!(!error.contains("t0k"), "{error}");
        }
    }
}
