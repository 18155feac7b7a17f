//! The image: what `Dockerfile` says is what `k8s/` and the stack on AWS presume, and what it makes runs in a root that
//! holds nothing else. No Docker is asked for: a small reader and the kernel's namespaces do what a test needs of it.
//!
//! | file | holds |
//! | --- | --- |
//! | `dockerfile` | the reader of the Dockerfile, which refuses what it does not know |
//! | `settings` | what the image says to whoever runs it |
//! | `context` | what `.dockerignore` lets through |
//! | `root` | runs the stages, and commands in the root that they make |

mod context;
mod dockerfile;
mod root;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use self::context::Ignored;
use self::dockerfile::Step;
use self::root::{Image, is_root, stages};
use self::settings::Settings;
use crate::kubernetes;
use crate::support::hookcache::{PROGRAM, run};
use crate::support::process::{Process, Recipe};
use crate::support::{DEADLINE, cloudformation, eventually, free_port, http_get, http_post, repository};

const PROBE: &str = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// Libraries, by how their names begin, and the packages that scanners find them by.
const LIBRARIES: &[(&str, &str)] =
    &[("libc.so.", "libc6"), ("libm.so.", "libc6"), ("ld-linux-", "libc6"), ("libgcc_s.so.", "libgcc-s1")];
/// What else the root holds. Folders end with a slash.
const FILES: &[&str] = &[
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/ssl/certs/ca-certificates.crt",
    "usr/local/bin/hookcache",
    "usr/share/doc/",
    "var/lib/dpkg/status.d/",
];
/// Of the program as `cargo build --release` makes it, and all that is around it.
const IMAGE_BYTES_MAX: u64 = 64 << 20;
const SET_ID: u32 = 0o6000;
const OTHERS_WRITE: u32 = 0o022;
const EXECUTES: u32 = 0o111;

fn settings() -> Settings {
    Settings::of(stages().last().expect("a stage"))
}

#[test]
fn what_is_built_on_is_pinned_and_the_image_itself_on_nothing() {
    let stages = stages();
    let [build, last] = stages.as_slice() else { panic!("{stages:?}") };
    // rust-version of Cargo.toml, a patch, and one release of Debian.
    let tag = build.base.strip_prefix("docker.io/library/rust:").expect("Rust's own image, with the registry's name");
    let patch = tag.strip_prefix(concat!(env!("CARGO_PKG_RUST_VERSION"), ".")).and_then(|tag| tag.split_once("-slim-"));
    assert!(patch.is_some_and(|(patch, debian)| patch.parse::<u8>().is_ok() && debian == "bookworm"), "{tag}");
    assert_eq!(last.base, "scratch");
    let built: Vec<&String> =
        build.steps.iter().filter_map(|step| if let Step::Run(line, _) = step { Some(line) } else { None }).collect();
    let builds = || built.iter().flat_map(|line| line.split("&&")).filter(|line| line.contains("cargo build"));
    assert_eq!(builds().count(), 2, "dependencies, then the program");
    for line in builds() {
        assert!(line.contains("--locked") && line.contains("--release"), "{line}");
    }
}

#[test]
fn labels_say_what_it_is_and_what_it_was_made_of() {
    let wanted = [
        ("title", env!("CARGO_PKG_NAME")),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", root::SOURCE),
        ("revision", root::REVISION),
    ];
    let labels = settings().labels;
    for (name, value) in wanted {
        assert_eq!(labels.get(&format!("org.opencontainers.image.{name}")).map(String::as_str), Some(value), "{name}");
    }
    assert!(env!("CARGO_PKG_DESCRIPTION").starts_with(&labels["org.opencontainers.image.description"]));
}

#[test]
fn its_health_check_and_its_command_are_commands_of_the_program() {
    let Settings { entrypoint, cmd, healthcheck, .. } = settings();
    let [program, subcommand] = healthcheck.as_slice() else { panic!("{healthcheck:?}") };
    assert_eq!((&entrypoint[..], cmd.as_slice()), ([program.clone()].as_slice(), ["serve".to_owned()].as_slice()));
    for subcommand in [subcommand, &cmd[0]] {
        assert!(run(&[subcommand, "--help"], &[]).status.success(), "{subcommand}");
    }
}

#[test]
fn kubernetes_and_the_stack_run_it_as_it_is_made() {
    let image = settings();
    let (user, group) = image.user.expect("a user");
    assert!(user > 0 && group > 0);
    for start in kubernetes::starts() {
        let what = format!("{}, {}", start.overlay, start.name);
        assert_eq!((start.user, start.groups), (user, vec![group, group]), "{what}");
        assert_eq!(start.command, image.entrypoint, "{what}");
        assert!(start.ports.iter().all(|port| image.exposed.contains(port)), "{what}: {:?}", start.ports);
        if let Some(folder) = start.env.get("HOOKCACHE_DATA_DIR") {
            assert_eq!((folder, &start.volumes), (&Some(image.volume.clone()), &vec![image.volume.clone()]), "{what}");
        }
    }
    let template = cloudformation::read("template.yaml");
    let resources = template["Resources"].as_object().expect("resources").values();
    let tasks: Vec<&Value> = resources.filter(|resource| resource["Type"] == "AWS::ECS::TaskDefinition").collect();
    assert_eq!(tasks.len(), 2);
    for container in tasks.iter().map(|task| &task["Properties"]["ContainerDefinitions"][0]) {
        assert_eq!(container["User"], format!("{user}:{group}"));
        assert_eq!(container["EntryPoint"], json!(image.entrypoint));
        let ports = container["PortMappings"].as_array().expect("ports").iter();
        let port = |port: &Value| u16::try_from(port["ContainerPort"].as_u64().expect("a port")).expect("a port");
        assert!(ports.map(port).all(|port| image.exposed.contains(&port)), "{container}");
    }
    assert_eq!(image.env["HOOKCACHE_LISTEN"], "0.0.0.0:8080");
    assert_eq!((&image.env["HOOKCACHE_DATA_DIR"], &image.workdir), (&image.volume, &image.volume));
}

#[test]
fn the_build_is_sent_what_it_needs_and_no_more() {
    let sent: BTreeSet<String> = context::sent().into_iter().collect();
    let copied: Vec<String> = stages()[0]
        .steps
        .iter()
        .filter_map(|step| if let Step::Copy(copy) = step { Some(copy.sources.clone()) } else { None })
        .flatten()
        .collect();
    let below = |path: &str, source: &str| path == source || path.starts_with(&format!("{source}/"));
    for source in &copied {
        assert!(sent.iter().any(|path| below(path, source)), "{source} is copied and not sent");
    }
    for path in &sent {
        assert!(copied.iter().any(|source| below(path, source)), "{path} is sent and not copied");
    }
    for path in context::tracked().iter().filter(|path| path.starts_with("src/")) {
        assert!(sent.contains(path), "{path} is not sent");
    }
    for path in included() {
        assert!(sent.contains(&path), "{path} is compiled in and not sent");
    }
    let ignored = Ignored::of_repository();
    for path in [".git/config", "target/release/hookcache", ".env", "token.txt", "k8s/README.md", "tests/it/main.rs"] {
        assert!(!ignored.lets_in(path), "{path} is sent");
    }
}

/// The files that sources compile in, from the root of the repository.
fn included() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in context::tracked().iter().filter(|path| path.starts_with("src/") && path.ends_with(".rs")) {
        let text = fs::read_to_string(repository().join(source)).expect("a source");
        // Unit tests at its end are not in the image.
        let text = text.split("#[cfg(test)]\nmod ").next().expect("split gives one part at least");
        for marker in ["include_str!(\"", "include_bytes!(\"", "include!(\""] {
            for named in text.split(marker).skip(1).filter_map(|rest| rest.split('"').next()) {
                let path = repository().join(source).parent().expect("a folder").join(named).canonicalize();
                let path = path.unwrap_or_else(|e| panic!("{source}: {named}: {e}"));
                let root = repository().canonicalize().expect("it is there");
                found.insert(path.strip_prefix(root).expect("of the repository").display().to_string());
            }
        }
    }
    assert!(found.contains("config/hookcache.toml"), "{found:?}");
    found
}

#[test]
fn what_is_sent_is_decided_by_the_last_rule_that_fits() {
    let ignored = Ignored::read("# a\n*\n!src\nsrc/secret\n!a/b.txt\n").unwrap();
    for (path, sent) in
        [("src/a.rs", true), ("src/secret/a", false), ("srcs/a", false), ("a/b.txt", true), ("a/c", false)]
    {
        assert_eq!(ignored.lets_in(path), sent, "{path}");
    }
    assert!(Ignored::read("**/*.rs").is_err_and(|said| said.contains("what this pattern means")));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_root_that_holds_the_image_alone_the_program_serves_and_stops() {
    let image = Image::around(Path::new(PROGRAM));
    holds_no_more_than_it_needs(&image);
    serves_and_stops(&image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_what_every_command_of_the_dockerfile_makes_serves_and_stops() {
    let image = Image::built();
    let (files, program) = (holds_no_more_than_it_needs(&image), image.path().join("usr/local/bin/hookcache"));
    let bytes: u64 = files.values().sum();
    let hash = Command::new("sha256sum").arg(&program).output().expect("sha256sum");
    println!("{} files, {bytes} bytes, of which the program has {}", files.len(), files["usr/local/bin/hookcache"]);
    println!("{}", String::from_utf8_lossy(&hash.stdout));
    assert!(bytes < IMAGE_BYTES_MAX, "{files:#?}");
    serves_and_stops(&image).await;
}

/// Its files, without the slash before them, and their sizes.
fn holds_no_more_than_it_needs(image: &Image) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    let (user, group) = image.settings.user.expect("a user");
    let mut folders = vec![image.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of the root") {
            let (path, found) = entry.map(|entry| (entry.path(), entry.metadata())).expect("an entry");
            let found = found.expect("it can be asked");
            let name = path.strip_prefix(image.path()).expect("below").display().to_string();
            let is_volume = path == image.volume();
            assert!(found.mode() & SET_ID == 0 && found.mode() & OTHERS_WRITE == 0, "{name}: {:o}", found.mode());
            if is_root() {
                let owner = if is_volume { (user, group) } else { (0, 0) };
                assert_eq!((found.uid(), found.gid()), owner, "{name}");
            }
            match found.is_dir() {
                true => folders.push(path),
                false if found.is_file() => drop(files.insert(name, found.len())),
                false => panic!("{name} is neither a folder nor a file"),
            }
        }
    }
    assert_eq!(image.volume().read_dir().expect("the volume").count(), 0);
    let library = |path: &str| {
        let name = path.rsplit('/').next().expect("a name");
        LIBRARIES
            .iter()
            .find(|(start, _)| path.starts_with("lib") && name.starts_with(start))
            .map(|(_, package)| *package)
    };
    for name in files.keys() {
        let known = FILES.iter().any(|file| name == file || file.ends_with('/') && name.starts_with(file));
        assert!(known || library(name).is_some(), "{name}: what is it for, and of which package?");
        if name != "usr/local/bin/hookcache" && library(name).is_none() {
            let mode = fs::metadata(image.path().join(name)).expect("it is there").mode();
            assert_eq!(mode & EXECUTES, 0, "{name} can be executed");
        }
    }
    let packages: BTreeSet<&str> = files.keys().filter_map(|name| library(name)).chain(["ca-certificates"]).collect();
    for package in packages {
        let status = fs::read_to_string(image.path().join(format!("var/lib/dpkg/status.d/{package}"))).expect(package);
        assert!(status.contains(&format!("Package: {package}\n")) && status.contains("\nVersion: "), "{status}");
        assert!(files.contains_key(&format!("usr/share/doc/{package}/copyright")), "{package}");
    }
    let authorities =
        fs::read_to_string(image.path().join("etc/ssl/certs/ca-certificates.crt")).expect("they are there");
    assert!(authorities.contains("-----BEGIN CERTIFICATE-----"));
    files
}

async fn serves_and_stops(image: &Image) {
    // Whoever runs containers puts this file there.
    fs::write(image.path().join("etc/hosts"), "127.0.0.1 beside.example\n").expect("it is ours");
    let (listen, admin) = (free_port(), free_port());
    let (at, control) = (format!("127.0.0.1:{listen}"), format!("http://127.0.0.1:{admin}"));
    let own = [image.settings.entrypoint.clone(), image.settings.cmd.clone()].concat();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let here = [("HOOKCACHE_LISTEN", at.as_str()), ("HOOKCACHE_ADMIN_LISTEN", &control["http://".len()..])];
    let (program, args) = image.command(&here, &own);
    let recipe = Recipe { program, args, env: Vec::new(), port: admin, probe: PROBE, ready: &["HTTP/1.1 200"] };
    let mut process = Process::start(recipe).await;
    has_no_rights(process.pid());

    let is_well = |url: &str| {
        let check: Vec<&str> = image.settings.healthcheck.iter().map(String::as_str).collect();
        ended(image.command(&[("HOOKCACHE_ADMIN_URL", url)], &check))
    };
    for url in [&control, &format!("http://beside.example:{admin}")] {
        let output = is_well(url);
        assert!(output.status.success(), "{url}: {output:?}");
    }
    let set = json!({"accountId": "a", "flowId": "f", "webhookKeys": ["k"], "data": {"n": 1}});
    assert_eq!(http_post(&format!("http://{at}/v1/set"), set.to_string()).await.status, 202);
    let key = format!("http://{at}/v1/keys/k");
    let got = eventually("a get", || async { Some(http_get(&key).await).filter(|reply| reply.status == 200) }).await;
    assert_eq!(got.text(), r#"{"n":1}"#);

    let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid())).expect("it is there");
    for file in ["buffer.redb", "store.redb"] {
        assert_eq!(owner(&image.volume().join(file)), owner(&image.volume()), "{file}");
    }
    assert!(process.sigterm().await.success());
    assert_eq!(is_well(&control).status.code(), Some(1), "nobody is there any more");

    let elsewhere = ended(image.command(&[("HOOKCACHE_DATA_DIR", "/data"), here[0], here[1]], &own));
    let told = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(elsewhere.status.code() == Some(1) && told.contains("/data"), "the root is read-only: {told}");
    knows_public_authorities(image, &here);
}

/// A process of a container without any right over the machine.
fn has_no_rights(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(value("CapEff:"), ["0000000000000000"]);
    assert_eq!(value("CapPrm:"), ["0000000000000000"]);
    if is_root() {
        let user = settings().user.expect("a user");
        assert_eq!(value("Uid:"), vec![user.0.to_string(); 4]);
        assert_eq!(value("Gid:"), vec![user.1.to_string(); 4]);
        assert!(value("Groups:").is_empty());
    }
}

/// SQS is reached by TLS, whose authorities are the image's. In a build that checks itself, the SDK ends the program where
/// it finds none.
fn knows_public_authorities(image: &Image, here: &[(&str, &str)]) {
    let nobody = format!("https://127.0.0.1:{}", free_port());
    let create = ["hookcache", "queues", "create", "--dry-run", "--queue", "q", "--region", "eu-west-1"];
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_MAX_ATTEMPTS", "1")];
    let env = [here, &keys].concat();
    let output = ended(image.command(&env, &[&create[..], &["--endpoint-url", &nobody]].concat()));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("SQS can't be reached"), "{told}");
}

/// Runs to its end what would fail its test otherwise.
fn ended((program, args): (std::path::PathBuf, Vec<OsString>)) -> Output {
    let mut command = Command::new("timeout");
    command.arg(DEADLINE.as_secs().to_string()).arg(program).args(args).stdin(Stdio::null());
    command.output().expect("timeout")
}
