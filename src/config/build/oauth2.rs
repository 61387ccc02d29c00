//! Credentials that are got from somebody else.

use super::{
    Context, protection, require,
    secrets::{Source, one_source},
    targets::is_near,
};
use crate::config::{plan::OAuth2, raw::items, secret::Secret};

/// `None` when a token cannot be asked for; its problems are reported. `of` is what messages call the target.
pub(super) fn oauth2(target: &items::Target, of: &str, context: &Context<'_>) -> Option<OAuth2> {
    let given = target.oauth2.given()?;
    let (item, report) = (&given.value, context.report);
    if !target.authorization.is_absent() {
        let what = format!("{of} has both `authorization` and `oauth2`");
        report.problem(given.key, what, "remove one");
    }
    let id = "add it, as who gives the tokens knows the exporter";
    require(&item.client_id, given, "client_id", id, report);
    let like = "https://login.example.com/oauth2/token";
    let add = format!("add it, such as `token_url: {like}`");
    require(&item.token_url, given, "token_url", &add, report);
    let sources = [
        Source::Env(&item.client_secret_env),
        Source::File(&item.client_secret_file),
    ];
    let one_of = "`client_secret_env` or `client_secret_file`";
    let client_secret = one_source(given, &sources, one_of, context);
    let token_url = item
        .token_url
        .given()
        .and_then(|given| protection::url(given, like, report));
    if let (Some(url), Some(given)) = (&token_url, item.token_url.given())
        && url.scheme() == "http"
        && !is_near(url)
    {
        let what = format!("{of} sends its client secret unencrypted");
        report.warning(given.id, what, "use an `https` URL");
    }
    let scopes = item.scopes.value().into_iter().flatten();
    let params = item
        .endpoint_params
        .value()
        .into_iter()
        .flat_map(|named| &named.0);
    Some(OAuth2 {
        client_id: item.client_id.value()?.clone(),
        client_secret: client_secret?,
        token_url: token_url?,
        scopes: scopes.map(|scope| scope.value.clone()).collect(),
        endpoint_params: params
            .map(|(name, value)| (name.clone(), Secret::Inline(value.value.0.clone())))
            .collect(),
    })
}
