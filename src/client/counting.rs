//! Asks a server how many tokens a prompt has.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::ACCEPT};
use tokio::time::timeout;

use super::{Client, whole::whole};
use crate::{
    dialect::{tokenize_body, tokens_counted},
    units::Tokens,
};

impl Client {
    /// How many tokens the prompt of a request with this body has; the error says in words why that is not known.
    /// Nothing is generated.
    pub async fn count(
        &self,
        headers: &HeaderMap,
        request: &Bytes,
        limit: Duration,
    ) -> Result<Tokens, String> {
        let Some(url) = &self.tokenize else {
            return Err("it has none".to_owned());
        };
        let mut asking = reqwest::Request::new(Method::POST, url.clone());
        asking.headers_mut().clone_from(headers);
        let json = HeaderValue::from_static("application/json");
        asking.headers_mut().insert(ACCEPT, json);
        *asking.body_mut() = Some(tokenize_body(request).into());
        let answer = timeout(limit, whole(self.http.execute(asking), &self.redaction)).await;
        let late = |_| format!("no answer within {}", humantime::format_duration(limit));
        tokens_counted(&answer.map_err(late)??).ok_or_else(|| "the answer holds no count".to_owned())
    }
}
