//! Asks for a list of targets.

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use tokio::{runtime::Handle, time::timeout};

use super::{
    ClientError, plain,
    redaction::{self, Redaction},
    resolver::MarkingResolver,
    sensitive, tls, value,
    whole::whole,
};
use crate::config::plan::{HttpList, HttpVersion, Reach};

/// Asks for one list, again and again.
#[derive(Debug)]
pub struct Lister {
    http: reqwest::Client,
    list: HttpList,
    headers: HeaderMap,
    redaction: Redaction,
}

impl Lister {
    /// `blocking` is the runtime whose threads resolve names.
    pub fn new(list: &HttpList, user_agent: &str, blocking: &Handle) -> Result<Self, ClientError> {
        let reach = Reach::default();
        let tls = tls::config(list.url.scheme() == "https", HttpVersion::Http1, &reach.tls)?;
        let http = plain(
            tls,
            MarkingResolver::new(blocking.clone(), None, reach.addresses),
            &reach,
        )?
        .http1_only()
        .pool_max_idle_per_host(0)
        .build()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, value(user_agent, "User-Agent")?);
        let mut secrets = Vec::new();
        if let Some(authorization) = &list.authorization {
            let scheme = authorization.scheme.as_deref().unwrap_or("Bearer");
            let credentials = authorization.credentials.expose();
            secrets.push(credentials);
            let credentials = format!("{scheme} {credentials}");
            headers.insert(AUTHORIZATION, sensitive(&credentials, "Authorization")?);
        }
        Ok(Self {
            http,
            redaction: Redaction(redaction::forms(&secrets)),
            list: list.clone(),
            headers,
        })
    }

    /// The list as it is now; the error says in words why there is none.
    pub async fn get(&self) -> Result<String, String> {
        let limit = self.list.timeout;
        let got = timeout(limit, async {
            let request = self.http.get(self.list.url.clone()).headers(self.headers.clone());
            let bytes = whole(request.send(), &self.redaction).await?;
            let text = String::from_utf8(bytes).map_err(|_| "the answer is no text".to_owned())?;
            // What is wrong with a list is shown, and a server may repeat what it was sent.
            Ok(self.redaction.apply(text))
        });
        let late = || format!("no answer within {}", humantime::format_duration(limit));
        got.await.unwrap_or_else(|_| Err(late()))
    }
}
