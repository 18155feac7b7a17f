//! Sites: who they are, as whom they are asked, what their webhooks are signed with, and whether they are in use.
//!
//! What the site says of itself (active, disabled, uninstalled) and the operator's pause stand beside each other, so that
//! a site that joins again while it is paused stays paused.

use serde::{Deserialize, Serialize};

use super::database::{Fault, Row, Sql, Transaction, Value, clipped};
use super::seal::{Label, Seal};
use super::{
    Account, Credential, JoinedBy, Joining, Product, Registry, Site, SiteId, SiteState, TEXT_CHARS_MAX, Unavailable,
};

/// Pages that go in one statement when a site is forgotten.
const FORGET_PAGES_MAX: u64 = 5_000;
/// [`Credential`]s that live for ever.
const FOR_EVER: u64 = i64::MAX as u64;

const CREDENTIAL: &str = "credential";
const HOOK_SECRET: &str = "hook_secret";
const FORMER_SECRET: &str = "former_secret";

const COLUMNS: &str = "site, account, product, base_url, api_base, display_url, aliases, joined_by, state, \
    uninstalled_ms, paused_ms, added_ms, last_event_ms";
const INSERT: &str = "INSERT INTO sites (site, account, product, base_url, api_base, display_url, aliases, joined_by, \
    added_ms, joined_ms, state, state_ms, uninstalled_ms, paused_ms, credential, credential_until_ms, hook_secret) \
    VALUES ($1, $8, $2, $3, $4, $5, $6, $7, $9, $9, $10, $9, $11, $12, $13, $14, $15) ON CONFLICT (site) DO NOTHING";
/// Nobody else can change the row until the transaction ends.
const LOCK: &str = "UPDATE sites SET site = site WHERE site = $1 RETURNING account, joined_ms, joined_by, credential, \
    credential_until_ms, hook_secret, former_secret, former_until_ms";
const REPLACE: &str = "UPDATE sites SET product = $2, base_url = $3, api_base = $4, display_url = $5, aliases = $6, \
    joined_by = $7, joined_ms = $8, credential = $9, credential_until_ms = $10, hook_secret = $11, former_secret = $12, \
    former_until_ms = $13 WHERE site = $1";
const SET_STATE: &str =
    "UPDATE sites SET state = $2, state_ms = $3, uninstalled_ms = $4 WHERE site = $1 AND state_ms <= $3";
const PAUSE: &str = "UPDATE sites SET paused_ms = $2 WHERE site = $1 AND paused_ms IS NULL";
const RESUME: &str = "UPDATE sites SET paused_ms = NULL WHERE site = $1 AND paused_ms IS NOT NULL";

/// What a site says of itself.
#[derive(Clone, Copy)]
enum OwnState {
    Active,
    Disabled,
    Uninstalled { since_ms: u64 },
}

impl OwnState {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Uninstalled { .. } => "uninstalled",
        }
    }

    fn uninstalled_ms(self) -> Option<u64> {
        match self {
            Self::Active | Self::Disabled => None,
            Self::Uninstalled { since_ms } => Some(since_ms),
        }
    }
}

impl Registry {
    /// Adds or replaces. A site that joins again keeps `added_ms`, its account, since that owns what is stored of its
    /// pages, its pages and a pause of the operator's. What signs its webhooks (Connect's shared secret, the hook secret)
    /// stays valid until `former_until_ms` where it is replaced; a joining without a credential, or without a hook
    /// secret, keeps the one of its kind. What joined before the last joining, by `added_ms`, changes nothing, and so
    /// does what an operator adds for another account than that of the site.
    pub async fn join(&self, joining: &Joining, former_until_ms: u64) -> Result<(), Unavailable> {
        let seal = self.seal().await?;
        let mut transaction = self.database().await?.begin().await?;
        if transaction.execute(INSERT, insertion(seal, joining)).await? == 0 {
            replace(&mut transaction, seal, joining, former_until_ms).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub async fn site(&self, site: &SiteId) -> Result<Option<Site>, Unavailable> {
        let select = Sql::Made(format!("SELECT {COLUMNS} FROM sites WHERE site = $1"));
        let row = self.database().await?.read_one(select, vec![site.into()]).await?;
        Ok(row.as_ref().map(site_of).transpose()?)
    }

    /// In order of their names, from after `after`.
    pub async fn sites(&self, after: Option<&SiteId>, limit: usize) -> Result<Vec<Site>, Unavailable> {
        let select = Sql::Made(format!("SELECT {COLUMNS} FROM sites WHERE site > $1 ORDER BY site LIMIT $2"));
        let after = after.map_or("", SiteId::as_str);
        let rows = self.database().await?.read(select, vec![after.into(), limit.into()]).await?;
        Ok(rows.iter().map(site_of).collect::<Result<_, _>>()?)
    }

    /// As whom the site is asked; `None` where nothing is known (yet).
    pub async fn credential(&self, site: &SiteId) -> Result<Option<Credential>, Unavailable> {
        let seal = self.seal().await?;
        let select = "SELECT credential FROM sites WHERE site = $1";
        let Some(row) = self.database().await?.read_one(select, vec![site.into()]).await? else { return Ok(None) };
        let sealed = row.optional_text(CREDENTIAL)?;
        let open = |sealed: String| {
            let text = opened(seal, site, CREDENTIAL, &sealed)?;
            serde_json::from_str::<Written>(&text).map(Credential::from).map_err(|_| unreadable(site))
        };
        sealed.map(open).transpose()
    }

    /// Replaces the credential alone (Forge sends a new token with each event). Written only where it lives longer, or
    /// as long as can be.
    pub async fn renew_credential(&self, site: &SiteId, credential: &Credential) -> Result<(), Unavailable> {
        let sealed = sealed_credential(self.seal().await?, site, credential);
        let until = lives_until(credential);
        let update = "UPDATE sites SET credential = $2, credential_until_ms = $3 WHERE site = $1 AND \
                      (credential_until_ms < $3 OR $3 = $4)";
        let values = vec![site.into(), sealed.into(), until.into(), FOR_EVER.into()];
        self.database().await?.write(update, values).await?;
        Ok(())
    }

    /// What a webhook of this site may be signed with at `now_ms`: the current secret, then the former one while it is
    /// valid. Connect: its shared secret.
    pub async fn hook_secrets(&self, site: &SiteId, now_ms: u64) -> Result<Vec<String>, Unavailable> {
        let seal = self.seal().await?;
        let select = "SELECT hook_secret, former_secret, former_until_ms FROM sites WHERE site = $1";
        let Some(row) = self.database().await?.read_one(select, vec![site.into()]).await? else { return Ok(vec![]) };
        let current = row.optional_text(HOOK_SECRET)?.map(|sealed| opened(seal, site, HOOK_SECRET, &sealed));
        let is_valid = row.optional_number("former_until_ms")?.is_some_and(|until| now_ms < until);
        let former = row.optional_text(FORMER_SECRET)?.filter(|_| is_valid);
        let former = former.map(|sealed| opened(seal, site, FORMER_SECRET, &sealed));
        current.into_iter().chain(former).collect()
    }

    /// What happened at `at_ms` to the site: tasks come in any order, and more than once, so what is older than the last
    /// change of its state (or than its last joining, at the given `added_ms`) changes nothing. `Paused` is the
    /// operator's: it stands beside what the site says of itself, until [`Self::resume`]. False where nothing was
    /// changed, and where there is no such site.
    pub async fn set_state(&self, site: &SiteId, state: SiteState, at_ms: u64) -> Result<bool, Unavailable> {
        let database = self.database().await?;
        let changed = match own_state(state) {
            None => database.write(PAUSE, vec![site.into(), at_ms.into()]).await?,
            Some(state) => {
                let values = vec![site.into(), state.name().into(), at_ms.into(), state.uninstalled_ms().into()];
                database.write(SET_STATE, values).await?
            }
        };
        Ok(changed > 0)
    }

    /// Ends the operator's pause. False where there was none.
    pub async fn resume(&self, site: &SiteId) -> Result<bool, Unavailable> {
        Ok(self.database().await?.write(RESUME, vec![site.into()]).await? > 0)
    }

    /// The site, its secrets, pages and runs.
    pub async fn forget_site(&self, site: &SiteId) -> Result<(), Unavailable> {
        let database = self.database().await?;
        // The pages in parts first: a statement that takes all of a large site with it could take longer than it may.
        let delete = "DELETE FROM pages WHERE site = $1 AND page IN (SELECT page FROM pages WHERE site = $1 LIMIT $2)";
        while database.write(delete, vec![site.into(), FORGET_PAGES_MAX.into()]).await? > 0 {}
        database.write("DELETE FROM sites WHERE site = $1", vec![site.into()]).await?;
        Ok(())
    }
}

/// `None` for what is the operator's.
fn own_state(state: SiteState) -> Option<OwnState> {
    match state {
        SiteState::Active => Some(OwnState::Active),
        SiteState::Disabled => Some(OwnState::Disabled),
        SiteState::Uninstalled { since_ms } => Some(OwnState::Uninstalled { since_ms }),
        SiteState::Paused => None,
    }
}

fn insertion(seal: &Seal, joining: &Joining) -> Vec<Value> {
    let Joining { site, credential, .. } = joining;
    let own = own_state(site.state);
    let mut values = described(site);
    values.extend([
        site.account.as_str().into(),
        site.added_ms.into(),
        own.unwrap_or(OwnState::Active).name().into(),
        own.and_then(OwnState::uninstalled_ms).into(),
        own.is_none().then_some(site.added_ms).into(),
        credential.as_ref().map(|credential| sealed_credential(seal, &site.id, credential)).into(),
        credential.as_ref().map_or(0, lives_until).into(),
        signing_secret(joining).map(|secret| sealed(seal, &site.id, HOOK_SECRET, secret)).into(),
    ]);
    values
}

/// The first seven parameters of both statements.
fn described(site: &Site) -> Vec<Value> {
    let aliases = serde_json::to_string(&site.aliases).expect("a list of texts is JSON");
    vec![
        (&site.id).into(),
        product_name(site.product).into(),
        clipped(&site.base_url, TEXT_CHARS_MAX).into(),
        clipped(&site.api_base, TEXT_CHARS_MAX).into(),
        site.display_url.as_deref().map(|url| clipped(url, TEXT_CHARS_MAX)).into(),
        aliases.into(),
        joined_by_name(site.joined_by).into(),
    ]
}

async fn replace(
    transaction: &mut Transaction,
    seal: &Seal,
    joining: &Joining,
    former_until_ms: u64,
) -> Result<(), Unavailable> {
    let Joining { site, credential, .. } = joining;
    let id = &site.id;
    let row = transaction.one(LOCK, vec![id.into()]).await?;
    // Forgotten a moment ago, which is as if it had been after.
    let Some(row) = row else { return Ok(()) };
    if row.number("joined_ms")? > site.added_ms {
        return Ok(());
    }
    // The app proves whose site it is, an operator says it.
    if site.joined_by == JoinedBy::Operator && row.text("account")? != site.account.as_str() {
        return Ok(());
    }
    let same_kind = row.text("joined_by")? == joined_by_name(site.joined_by);
    let (kept, kept_until) = match same_kind {
        true => (row.optional_text(CREDENTIAL)?, row.number("credential_until_ms")?),
        false => (None, 0),
    };
    let (credential, until) = match credential {
        Some(credential) => (Some(sealed_credential(seal, id, credential)), lives_until(credential)),
        None => (kept, kept_until),
    };
    let before = row.optional_text(HOOK_SECRET)?;
    let before = before.map(|sealed| opened(seal, id, HOOK_SECRET, &sealed)).transpose()?;
    let signing = signing_secret(joining).or(before.as_deref().filter(|_| same_kind));
    let (former, former_until) = match &before {
        Some(before) if signing != Some(before.as_str()) => {
            (Some(sealed(seal, id, FORMER_SECRET, before)), Some(former_until_ms))
        }
        // The same again is no replacement: the one before it is valid for as long as it was.
        _ => (row.optional_text(FORMER_SECRET)?, row.optional_number("former_until_ms")?),
    };
    let mut values = described(site);
    values.extend([
        site.added_ms.into(),
        credential.into(),
        until.into(),
        signing.map(|secret| sealed(seal, id, HOOK_SECRET, secret)).into(),
        former.into(),
        former_until.into(),
    ]);
    transaction.execute(REPLACE, values).await?;
    match own_state(site.state) {
        None => transaction.execute(PAUSE, vec![id.into(), site.added_ms.into()]).await?,
        Some(state) => {
            let values = vec![id.into(), state.name().into(), site.added_ms.into(), state.uninstalled_ms().into()];
            transaction.execute(SET_STATE, values).await?
        }
    };
    Ok(())
}

/// What the site's webhooks are signed with.
fn signing_secret(joining: &Joining) -> Option<&str> {
    match &joining.credential {
        Some(Credential::Connect { shared_secret, .. }) => Some(shared_secret),
        _ => joining.hook_secret.as_deref(),
    }
}

fn lives_until(credential: &Credential) -> u64 {
    match credential {
        Credential::Basic { .. } | Credential::Bearer(_) | Credential::Connect { .. } => FOR_EVER,
        Credential::Forge { expires_ms, .. } => *expires_ms,
    }
}

fn sealed(seal: &Seal, site: &SiteId, column: &'static str, secret: &str) -> String {
    seal.seal(Label { site: site.as_str(), column }, secret)
}

fn opened(seal: &Seal, site: &SiteId, column: &'static str, sealed: &str) -> Result<String, Unavailable> {
    seal.open(Label { site: site.as_str(), column }, sealed).map_err(|_| unreadable(site))
}

fn unreadable(site: &SiteId) -> Unavailable {
    Unavailable(format!(
        "a secret of the site {site} can't be read with the key of the registry (registry.key_file): it was changed outside \
         of hookcache; let the site join again"
    ))
}

fn sealed_credential(seal: &Seal, site: &SiteId, credential: &Credential) -> String {
    let text = serde_json::to_string(&Written::from(credential)).expect("texts and numbers are JSON");
    sealed(seal, site, CREDENTIAL, &text)
}

/// A credential as it is written, before it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
enum Written {
    Basic { user: String, token: String },
    Bearer { token: String },
    Connect { app_key: String, client_key: String, shared_secret: String },
    Forge { token: String, expires_ms: u64 },
}

impl From<&Credential> for Written {
    fn from(credential: &Credential) -> Self {
        match credential.clone() {
            Credential::Basic { user, token } => Self::Basic { user, token },
            Credential::Bearer(token) => Self::Bearer { token },
            Credential::Connect { app_key, client_key, shared_secret } => {
                Self::Connect { app_key, client_key, shared_secret }
            }
            Credential::Forge { token, expires_ms } => Self::Forge { token, expires_ms },
        }
    }
}

impl From<Written> for Credential {
    fn from(written: Written) -> Self {
        match written {
            Written::Basic { user, token } => Self::Basic { user, token },
            Written::Bearer { token } => Self::Bearer(token),
            Written::Connect { app_key, client_key, shared_secret } => {
                Self::Connect { app_key, client_key, shared_secret }
            }
            Written::Forge { token, expires_ms } => Self::Forge { token, expires_ms },
        }
    }
}

fn product_name(product: Product) -> &'static str {
    match product {
        Product::Cloud => "cloud",
        Product::DataCenter => "data-center",
    }
}

fn joined_by_name(joined_by: JoinedBy) -> &'static str {
    match joined_by {
        JoinedBy::Forge => "forge",
        JoinedBy::Connect => "connect",
        JoinedBy::Operator => "operator",
    }
}

fn site_of(row: &Row) -> Result<Site, Fault> {
    let (site, account) = (row.text("site")?, row.text("account")?);
    let strange = |what: &str| Fault::from(Unavailable(format!("the row of the site {site} has a strange {what}")));
    let state = match row.text("state")?.as_str() {
        "uninstalled" => SiteState::Uninstalled { since_ms: row.number("uninstalled_ms")? },
        _ if row.optional_number("paused_ms")?.is_some() => SiteState::Paused,
        "disabled" => SiteState::Disabled,
        "active" => SiteState::Active,
        _ => return Err(strange("state")),
    };
    Ok(Site {
        product: match row.text("product")?.as_str() {
            "cloud" => Product::Cloud,
            "data-center" => Product::DataCenter,
            _ => return Err(strange("product")),
        },
        joined_by: match row.text("joined_by")?.as_str() {
            "forge" => JoinedBy::Forge,
            "connect" => JoinedBy::Connect,
            "operator" => JoinedBy::Operator,
            _ => return Err(strange("joined_by")),
        },
        id: SiteId::parse(&site).map_err(|_| strange("name"))?,
        account: Account::parse(&account).map_err(|_| strange("account"))?,
        base_url: row.text("base_url")?,
        api_base: row.text("api_base")?,
        display_url: row.optional_text("display_url")?,
        aliases: serde_json::from_str(&row.text("aliases")?).map_err(|_| strange("list of aliases"))?,
        state,
        added_ms: row.number("added_ms")?,
        last_event_ms: row.optional_number("last_event_ms")?,
    })
}
