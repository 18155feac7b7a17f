//! One request: as whom it is sent, and what its status means.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, DATE, HeaderName, RETRY_AFTER};

use super::turns::Turns;
use super::{Access, Credential, FetchError, Options};
use crate::envelope::Clock;
use crate::jwt;
use crate::outbound::{Limits, Outbound, OutboundError, Reply, Share};

/// What all clones of the client share.
pub(super) struct Caller {
    pub outbound: Outbound,
    pub options: Options,
    pub clock: Clock,
    pub turns: Turns,
}

/// An answer that means something for what was asked for.
pub(super) enum Answer {
    Ok { body: Bytes, share: Option<Share>, site_time_ms: Option<u64> },
    Gone,
    Forbidden,
    TooLarge,
}

impl Caller {
    /// `path` begins with `/`, and lies below the site's API base.
    pub async fn get(&self, access: &Access, path: &str) -> Result<Answer, FetchError> {
        let turn = self.turns.take(&access.site).await?;
        let url = format!("{}{path}", access.api_base.trim_end_matches('/'));
        let authorization = self.authorization(access, &url)?;
        let headers: [(HeaderName, &str); 2] = [(AUTHORIZATION, &authorization), (ACCEPT, "application/json")];
        let limits = Limits { time: self.options.request_timeout, body_bytes_max: self.options.answer_bytes_max };
        let reply = self.outbound.get(&url, &headers, limits).await;
        drop(turn);
        self.judge(access, reply)
    }

    fn authorization(&self, access: &Access, url: &str) -> Result<String, FetchError> {
        let now_ms = self.clock.now_ms();
        Ok(match &access.credential {
            Credential::Basic { user, token } => format!("Basic {}", STANDARD.encode(format!("{user}:{token}"))),
            Credential::Bearer(token) => format!("Bearer {token}"),
            Credential::Connect { app_key, client_key, shared_secret } => {
                let base_path = path_of(&access.api_base);
                let token = jwt::connect::sign(app_key, client_key, shared_secret, "GET", url, base_path, now_ms);
                format!("JWT {token}")
            }
            Credential::Forge { expires_ms, .. } if *expires_ms <= now_ms => {
                let why = "Forge's token is over; the next event brings a new one";
                return Err(FetchError::Unauthorized(why.to_owned()));
            }
            Credential::Forge { token, .. } => format!("Bearer {token}"),
        })
    }

    fn judge(&self, access: &Access, reply: Result<Reply, OutboundError>) -> Result<Answer, FetchError> {
        let later = |why: String| FetchError::Later { after: None, why };
        let reply = match reply {
            Ok(reply) => reply,
            Err(OutboundError::TooLarge(_)) => return Ok(Answer::TooLarge),
            Err(OutboundError::NotAUrl) => return Err(FetchError::Unusable("its API base is no URL".to_owned())),
            Err(error @ OutboundError::NotAHeader) => return Err(FetchError::Unauthorized(error.to_string())),
            Err(error @ (OutboundError::Broken(_) | OutboundError::TimedOut(_))) => {
                return Err(later(error.to_string()));
            }
        };
        let told = || retry_after(&reply.headers, self.clock.now_ms());
        let status = reply.status;
        match status {
            429 => return Err(self.left_alone(access, told(), status)),
            503 if told().is_some() => return Err(self.left_alone(access, told(), status)),
            // Not 500: a page that the site fails at is a matter of that page, and must not keep others waiting.
            408 | 502..=504 => return Err(later(format!("it answers {status}"))),
            _ => self.turns.answered(&access.site),
        }
        match status {
            200 => {
                let site_time_ms = http_date_ms(&reply.headers, &DATE);
                Ok(Answer::Ok { body: reply.body, share: reply.share, site_time_ms })
            }
            404 | 410 => Ok(Answer::Gone),
            403 => Ok(Answer::Forbidden),
            401 => Err(FetchError::Unauthorized("it answers 401".to_owned())),
            300..=399 => Err(FetchError::Unusable(format!(
                "it answers {status}, a redirect, which is not followed: is that its API, and does it take this credential?"
            ))),
            _ => Err(FetchError::Unusable(format!("it answers {status}"))),
        }
    }

    fn left_alone(&self, access: &Access, told: Option<Duration>, status: u16) -> FetchError {
        let after = self.turns.leave_alone(&access.site, told);
        FetchError::Later { after: Some(after), why: format!("it answers {status}") }
    }

    pub fn too_large(&self) -> FetchError {
        let most = self.options.answer_bytes_max;
        FetchError::Unusable(format!("it has more than {most} bytes (confluence.answer_bytes_max)"))
    }
}

/// The path of a URL, without a slash at its end.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

/// `Retry-After`: seconds, or a date, which counts from the site's own clock where it tells it.
fn retry_after(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now_ms = http_date_ms(headers, &DATE).unwrap_or(now_ms);
    http_date_ms(headers, &RETRY_AFTER).map(|at| Duration::from_millis(at.saturating_sub(now_ms)))
}

fn http_date_ms(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let moment = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    u64::try_from(moment.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_sites_own_clock() {
        let told = |headers: &[(HeaderName, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            retry_after(&headers, 784_111_770_000)
        };
        let date = (RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told(&[(RETRY_AFTER, " 7")]), Some(Duration::from_secs(7)));
        assert_eq!(told(std::slice::from_ref(&date)), Some(Duration::from_secs(7)));
        assert_eq!(told(&[(DATE, "Sun, 06 Nov 1994 08:49:30 GMT"), date.clone()]), Some(Duration::from_secs(7)));
        assert_eq!(told(&[(DATE, "Sun, 06 Nov 1994 09:00:00 GMT"), date]), Some(Duration::ZERO));
        for odd in ["", "soon", "-1", "1.5"] {
            assert_eq!(told(&[(RETRY_AFTER, odd)]), None, "{odd}");
        }
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn the_path_of_an_api_base_is_what_a_token_leaves_out() {
        for (base, path) in [
            ("https://acme.example/wiki", "/wiki"),
            ("https://acme.example/wiki/", "/wiki"),
            ("https://acme.example", ""),
            ("https://api.example/ex/confluence/1/wiki", "/ex/confluence/1/wiki"),
        ] {
            assert_eq!(path_of(base), path);
        }
    }
}
