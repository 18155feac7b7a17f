//! Bearer tokens: what each opens, what it hides, and how one is withdrawn.

use std::path::{Path, PathBuf};

use http::Method;

use super::{call, code, refused, set_of, token};
use crate::support::hookcache::{PROGRAM, run};
use crate::support::process::{Process, Recipe};
use crate::support::stack::until_series;
use crate::support::{Hookcache, Reply, TempDir, eventually, free_port, http_get};

/// A server whose configuration file a test rewrites.
struct Guarded {
    folder: TempDir,
    hookcache: Hookcache,
}

impl Guarded {
    async fn start(toml: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("hookcache.toml");
        std::fs::write(&path, toml).expect("it is ours");
        let hookcache = Hookcache::start(&["--config", &path.display().to_string()], &[]).await;
        Self { folder, hookcache }
    }

    /// Replaces the file at once, as an editor or a ConfigMap does.
    fn rewrite(&self, toml: &str) {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        std::fs::write(path("new"), toml).expect("it is ours");
        std::fs::rename(path("new"), path("hookcache.toml")).expect("it is ours");
    }

    fn data(&self, path: &str) -> String {
        format!("{}{path}", self.hookcache.url())
    }

    fn control(&self, path: &str) -> String {
        format!("{}{path}", self.hookcache.admin_url())
    }

    async fn set(&self, token: &str, body: &str) -> Reply {
        call(Method::POST, &self.data("/v1/set"), token, body).await
    }

    async fn get(&self, token: &str, key: &str) -> Reply {
        call(Method::GET, &self.data(&format!("/v1/keys/{key}")), token, "").await
    }

    async fn until_read(&self, token: &str, key: &str) -> Reply {
        eventually(&format!("{key} is readable"), || async {
            Some(self.get(token, key).await).filter(|reply| reply.status == 200)
        })
        .await
    }

    async fn until_refused(&self, token: &str) {
        eventually("the token is refused", || async {
            (code_of(&self.get(token, "k").await) == refused(401, "token-unknown")).then_some(())
        })
        .await;
    }

    async fn until_logged(&self, text: &str) {
        eventually(&format!("a log line with {text:?}"), || async {
            self.hookcache.captured().stderr.contains(text).then_some(())
        })
        .await;
    }
}

/// Of a payload, too, which has no code.
fn code_of(reply: &Reply) -> (u16, String) {
    if reply.status == 200 { refused(200, "") } else { code(reply) }
}

const ALL: &str = "set,get,admin";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_accounts_neither_touches_nor_sees_another() {
    let ((op, first), (acme, second)) = (token("op", ALL, None), token("acme", ALL, Some("acme")));
    let server = Guarded::start(&(first + &second)).await;
    assert_eq!(server.set(&op, &set_of("globex", &["theirs"], "original")).await.status, 202);
    let theirs = server.until_read(&op, "theirs").await;

    // Get: what is another's and what is not there are the same answer.
    let (hidden, absent) = (server.get(&acme, "theirs").await, server.get(&acme, "nothing").await);
    assert_eq!(code(&hidden), refused(404, "not-found"));
    assert_eq!((hidden.status, &hidden.body), (absent.status, &absent.body));
    let names = |reply: &Reply| reply.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&hidden), names(&absent));
    assert_eq!(call(Method::HEAD, &server.data("/v1/keys/theirs"), &acme, "").await.status, 404);
    let bearer = format!("Bearer {acme}");
    let conditional = [("authorization", bearer.as_str()), ("if-none-match", theirs.header("etag"))];
    let url = server.data("/v1/keys/theirs");
    assert_eq!(crate::support::http_send(Method::GET, &url, &conditional, "").await.status, 404, "no 304 either");
    let many = call(Method::POST, &server.data("/v1/get"), &acme, r#"{"webhookKeys":["theirs","nothing"]}"#).await;
    assert_eq!(many.json(), serde_json::json!({"entries": {}, "missing": ["theirs", "nothing"]}));

    // Set and delete: whether the account exists makes no difference.
    let sets = [set_of("globex", &["theirs"], "x"), set_of("nobody", &["theirs"], "x")];
    let (known, unknown) = (server.set(&acme, &sets[0]).await, server.set(&acme, &sets[1]).await);
    assert_eq!(code(&known), refused(403, "forbidden-account"));
    let without_id = |reply: &Reply| {
        let mut problem = reply.json();
        problem.as_object_mut().expect("an object").remove("instance");
        problem
    };
    assert_eq!(without_id(&known), without_id(&unknown));
    let array = format!("[{},{}]", sets[0], set_of("acme", &["mine"], "y"));
    let array = server.set(&acme, &array).await.json();
    assert_eq!((&array[0]["status"], &array[1]["status"]), (&403.into(), &202.into()), "{array}");
    let delete = server.data("/v1/keys/theirs?accountId=globex");
    assert_eq!(code(&call(Method::DELETE, &delete, &acme, "").await), refused(403, "forbidden-account"));
    let body = r#"{"accountId":"globex","webhookKeys":["theirs"]}"#;
    assert_eq!(
        code(&call(Method::POST, &server.data("/v1/delete"), &acme, body).await),
        refused(403, "forbidden-account")
    );

    // Under its own name it may ask, and changes nothing of another's.
    assert_eq!(server.set(&acme, &set_of("acme", &["theirs"], "mine now")).await.status, 202);
    let delete = server.data("/v1/keys/theirs?accountId=acme");
    assert_eq!(call(Method::DELETE, &delete, &acme, "").await.status, 202);
    until_series(&server.hookcache, r#"hookcache_dead_letters_total{reason="foreign-key"}"#, 2.0).await;
    let after = server.get(&op, "theirs").await;
    assert_eq!((after.text(), after.header("etag")), ("\"original\"".to_owned(), theirs.header("etag")));
    assert_eq!(server.until_read(&acme, "mine").await.text(), "\"y\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_accounts_configures_no_ttl_of_another_and_sees_none() {
    let ((op, first), (acme, second)) = (token("op", ALL, None), token("acme", ALL, Some("acme")));
    let fixed = "[[ttl.rules]]\naccount = \"initech\"\nttl = \"1h\"\n";
    let server = Guarded::start(&(first + &second + fixed)).await;
    let rule = r#"{"ttlSeconds":60}"#;
    for path in ["accounts/globex", "accounts/globex/flows/f", "flows/f"] {
        let url = server.control(&format!("/v1/ttl/{path}"));
        assert_eq!(call(Method::PUT, &url, &op, rule).await.status, 200, "{path}");
    }
    let same_for_unknown = [("accounts/globex", "accounts/nobody"), ("accounts/globex/flows/f", "accounts/no/flows/f")];
    for (known, unknown) in same_for_unknown {
        for (method, body) in [(Method::PUT, rule), (Method::DELETE, "")] {
            let ask = |path| call(method.clone(), path, &acme, body);
            let (one, other) =
                (server.control(&format!("/v1/ttl/{known}")), server.control(&format!("/v1/ttl/{unknown}")));
            let (one, other) = (ask(&one).await, ask(&other).await);
            assert_eq!(code(&one), refused(403, "forbidden-account"), "{method} {known}");
            assert_eq!(one.body, other.body);
        }
    }
    for method in [Method::PUT, Method::DELETE] {
        let url = server.control("/v1/ttl/flows/f");
        let reply = call(method, &url, &acme, rule).await;
        assert_eq!(code(&reply), refused(403, "forbidden-account"), "a flow in any account is another's too");
    }
    let explain = server.control("/v1/ttl/explain?accountId=globex&flowId=f");
    assert_eq!(code(&call(Method::GET, &explain, &acme, "").await), refused(403, "forbidden-account"));

    let own = server.control("/v1/ttl/accounts/acme");
    assert_eq!(call(Method::PUT, &own, &acme, rule).await.status, 200);
    let listed = call(Method::GET, &server.control("/v1/ttl"), &acme, "").await;
    assert!(listed.status == 200 && listed.text().contains("acme"), "{}", listed.text());
    let told = call(Method::GET, &server.control("/v1/ttl/explain?accountId=acme&flowId=x"), &acme, "").await;
    assert_eq!(told.status, 200);
    for hidden in ["globex", "initech"] {
        assert!(!listed.text().contains(hidden) && !told.text().contains(hidden), "{hidden}: {}", listed.text());
    }
    let all = call(Method::GET, &server.control("/v1/ttl"), &op, "").await.text();
    assert!(all.contains("globex") && all.contains("initech"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_opens_its_own_calls_alone_and_probes_need_no_token() {
    let tokens = [token("s", "set", None), token("g", "get", None), token("a", "admin", None)];
    let toml: String = tokens.iter().map(|(_, lines)| lines.as_str()).collect();
    let server = Guarded::start(&toml).await;
    let calls = [
        (Method::POST, server.data("/v1/set"), set_of("a", &["k"], "x"), 0),
        (Method::POST, server.data("/v1/delete"), r#"{"accountId":"a","webhookKeys":["k"]}"#.to_owned(), 0),
        (Method::DELETE, server.data("/v1/keys/k?accountId=a"), String::new(), 0),
        (Method::GET, server.data("/v1/keys/k"), String::new(), 1),
        (Method::POST, server.data("/v1/get"), r#"{"webhookKeys":["k"]}"#.to_owned(), 1),
        (Method::GET, server.control("/v1/ttl"), String::new(), 2),
        (Method::PUT, server.control("/v1/ttl/accounts/a"), r#"{"ttlSeconds":60}"#.to_owned(), 2),
        (Method::DELETE, server.control("/v1/ttl/accounts/a"), String::new(), 2),
        (Method::GET, server.control("/v1/ttl/explain?accountId=a&flowId=f"), String::new(), 2),
    ];
    for (method, url, body, scope) in calls {
        for (of, (token, _)) in tokens.iter().enumerate() {
            let reply = call(method.clone(), &url, token, &body).await;
            if of == scope {
                assert!(![401, 403].contains(&reply.status.as_u16()), "{method} {url}: {}", reply.text());
            } else {
                assert_eq!(code(&reply), refused(403, "forbidden-scope"), "{method} {url}");
            }
        }
        let (missing, unknown) = (call(method.clone(), &url, "", &body).await, call(method, &url, "hc_x", &body).await);
        assert_eq!(code(&missing), refused(401, "token-required"), "{url}");
        assert_eq!(code(&unknown), refused(401, "token-unknown"), "{url}");
        assert!(missing.header("www-authenticate").starts_with("Bearer"));
    }
    for base in [server.data(""), server.control("")] {
        for probe in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(http_get(&format!("{base}{probe}")).await.status, 200, "{probe}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_taken_out_of_the_file_is_refused_and_a_new_one_works() {
    let ((old, first), (new, second)) = (token("old", ALL, None), token("new", ALL, None));
    let server = Guarded::start(&first).await;
    assert_eq!(server.get(&old, "k").await.status, 404);
    assert_eq!(server.get(&new, "k").await.status, 401);
    server.rewrite(&second);
    server.until_refused(&old).await;
    assert_eq!(server.get(&new, "k").await.status, 404);
    // On the control plane likewise.
    assert_eq!(call(Method::GET, &server.control("/v1/ttl"), &old, "").await.status, 401);
    assert_eq!(call(Method::GET, &server.control("/v1/ttl"), &new, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_tokens() {
    let ((old, first), (new, second)) = (token("old", ALL, None), token("new", ALL, None));
    let server = Guarded::start(&first).await;
    // An unchanged file is read again for a SIGHUP alone, so this line is its doing.
    server.hookcache.signal("HUP");
    server.until_logged("configuration reloaded").await;
    assert_eq!(server.get(&old, "k").await.status, 404);
    server.rewrite(&second);
    server.hookcache.signal("HUP");
    server.until_refused(&old).await;
    assert_eq!(server.get(&new, "k").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_token_is_refused_and_what_it_had_accepted_is_stored() {
    let ((op, first), (retired, second)) = (token("op", ALL, None), token("retired", "set", None));
    let server = Guarded::start(&format!("{first}{second}")).await;
    assert_eq!(server.set(&retired, &set_of("a", &["before"], "x")).await.status, 202);
    server.rewrite(&format!("{first}{second}enabled = false\n"));
    eventually("the token is refused", || async { (server.set(&retired, "{}").await.status == 401).then_some(()) })
        .await;
    server.until_read(&op, "before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_old_tokens_and_is_logged_as_an_error_that_shows_no_secret() {
    let (old, first) = token("old", ALL, None);
    let server = Guarded::start(&first).await;
    server.rewrite("[[auth.tokens]]\nname = \"s3cr3t\nhash = ");
    until_series(&server.hookcache, r#"hookcache_config_reloads_total{result="refused"}"#, 1.0).await;
    assert_eq!(server.get(&old, "k").await.status, 404);
    let log = server.hookcache.captured().stderr;
    let line = log.lines().find(|line| line.contains("not reloaded")).expect("a line that says so");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("hookcache.toml")), "{line}");
    assert!(!log.contains("s3cr3t"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_elsewhere_without_tokens_is_refused_unless_none_is_written_out() {
    let folder = TempDir::new().expect("a temporary folder");
    let data = folder.path().display().to_string();
    for flags in [
        ["--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"],
    ] {
        let ended = run(&[&["serve", "--data-dir", &data][..], &flags].concat(), &[]);
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains("auth.tokens") && told.contains("auth.mode") && told.contains("none"), "{told}");
    }
    assert!(Path::new(&data).read_dir().expect("it is ours").next().is_none(), "nothing was opened");

    let (listen, admin) = (free_port(), free_port());
    let args = ["serve", "--data-dir", &data, "--listen", &format!("0.0.0.0:{listen}"), "--admin-listen"];
    let mut args: Vec<_> = args.map(Into::into).to_vec();
    args.push(format!("127.0.0.1:{admin}").into());
    let env = vec![("HOOKCACHE_AUTH__MODE".to_owned(), "none".into())];
    let probe = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    let recipe = Recipe { program: PROGRAM.into(), args, env, port: admin, probe, ready: &["HTTP/1.1 200"] };
    let open = Process::start(recipe).await;
    assert_eq!(http_get(&format!("http://127.0.0.1:{listen}/v1/keys/k")).await.status, 404);
    assert!(open.captured().stdout.contains("anybody who can connect"), "{:#?}", open.captured());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_prefix_is_403_for_others_and_names_the_keys_by_pointer() {
    let ((op, first), (acme, second)) = (token("op", ALL, None), token("acme", ALL, Some("acme,other")));
    let reserved = "[keys.reserved]\n\"vip/\" = \"account:acme\"\n\"links:\" = \"source:links\"\n";
    let server = Guarded::start(&(first + &second + reserved)).await;
    for token in [&op, &acme] {
        let reply = server.set(token, &set_of("other", &["free", "vip/1", "vip/2"], "x")).await;
        assert_eq!(code(&reply), refused(403, "reserved-key"));
        let errors = &reply.json()["errors"];
        assert_eq!(
            (&errors[0]["pointer"], &errors[1]["pointer"]),
            (&"/webhookKeys/1".into(), &"/webhookKeys/2".into())
        );
        assert_eq!(code(&server.set(token, &set_of("acme", &["links:1"], "x")).await), refused(403, "reserved-key"));
        assert_eq!(server.set(token, &set_of("acme", &["vip/1"], "x")).await.status, 202);
    }
    let delete = server.data("/v1/keys/vip/1?accountId=other");
    assert_eq!(code(&call(Method::DELETE, &delete, &op, "").await), refused(403, "reserved-key"));
    server.until_read(&acme, "vip/1").await;
}
