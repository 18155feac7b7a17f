//! Who may do what, over the real program: tokens, accounts, scopes, reserved prefixes, what lies in the queue, and
//! secrets that show nowhere.

mod dead_letters;
mod keys;
mod queue;
mod secrets;
mod tokens;

use hookcache::auth::token::Token;
use http::Method;
use serde_json::json;

use crate::support::{Reply, http_send};

/// A token, and its lines of a configuration file.
fn token(name: &str, scopes: &str, accounts: Option<&str>) -> (String, String) {
    let token = Token::generate().expect("random bytes");
    let mut lines = format!("[[auth.tokens]]\nname = \"{name}\"\nhash = \"{}\"\n", token.hash());
    let quoted = |list: &str| list.split(',').map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
    lines.push_str(&format!("scopes = [{}]\n", quoted(scopes)));
    if let Some(accounts) = accounts {
        lines.push_str(&format!("accounts = [{}]\n", quoted(accounts)));
    }
    (token.reveal().to_owned(), lines)
}

/// A call with a token; the empty token is none.
async fn call(method: Method, url: &str, token: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    headers.retain(|(name, _)| *name != "authorization" || !token.is_empty());
    http_send(method, url, &headers, body.to_owned()).await
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn set_of(account: &str, keys: &[&str], data: &str) -> String {
    json!({"accountId": account, "flowId": "f", "webhookKeys": keys, "data": data}).to_string()
}
