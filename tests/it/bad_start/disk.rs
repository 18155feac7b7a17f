//! The data folder: in use, newer, not ours, read-only, full.
//!
//! What only a mount can show happens in a mount namespace of the process that is tested, made by `unshare`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use redb::{Database, TableDefinition};

use super::{ending, is_refused, serve, told};
use crate::support::client::try_send;
use crate::support::hookcache::PROGRAM;
use crate::support::process::{Process, Recipe};
use crate::support::stack::dead_lettered;
use crate::support::{Hookcache, Reply, TempDir, eventually, free_port, http_get, http_post};

const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("format");
const PROBE: &str = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// Enough for a new buffer and a new store, and soon full.
const DISK: &str = "8m";

fn set_of(key: &str, bytes: usize) -> String {
    format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["{key}"],"data":"{}"}}"#, "x".repeat(bytes))
}

async fn until_read(base: &str, key: &str) -> Reply {
    let url = format!("{base}/v1/keys/{key}");
    eventually(&format!("{key} is readable"), || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await
}

/// A data folder that holds one entry, and that nobody has open.
async fn used() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut hookcache = Hookcache::spawn(folder.path(), &[], &[]);
    eventually("ready", || async {
        let url = format!("{}/readyz", hookcache.admin_url());
        try_send(http::Method::GET, &url, &[], "").await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), set_of("k", 1)).await.status, 202);
    until_read(&hookcache.url(), "k").await;
    assert!(hookcache.sigterm().await.success());
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_newer_format_is_refused_and_left_as_it_is() {
    for (file, kind) in [("buffer.redb", "buffer"), ("store.redb", "store")] {
        let folder = used().await;
        let path = folder.path().join(file);
        let database = Database::open(&path).expect("nobody has it open");
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(FORMAT).unwrap();
            assert!(table.insert(kind, 99).unwrap().is_some(), "the format stands where it stood");
        }
        transaction.commit().unwrap();
        drop(database);
        is_refused(serve(folder.path(), &[], &[]), &[file, "newer hookcache", "format 99", "--data-dir"]);
        let database = Database::open(&path).expect("it is whole");
        let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
        assert_eq!(transaction.open_table(FORMAT).unwrap().get(kind).unwrap().unwrap().value(), 99);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_process_uses_is_refused_and_that_one_goes_on() {
    let folder = TempDir::new().unwrap();
    let first = Hookcache::spawn(folder.path(), &[], &[]);
    eventually("both files", || async { folder.path().join("store.redb").exists().then_some(()) }).await;
    is_refused(serve(folder.path(), &[], &[]), &["in use by another process", "--data-dir"]);
    assert_eq!(http_post(&format!("{}/v1/set", first.url()), set_of("k", 1)).await.status, 202);
    until_read(&first.url(), "k").await;
}

#[test]
fn a_file_that_hookcache_did_not_write_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buffer.redb");
    std::fs::write(&path, "a letter to my mother").unwrap();
    is_refused(serve(folder.path(), &[], &[]), &["buffer.redb", "not a buffer", "--data-dir"]);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "a letter to my mother");
}

#[test]
fn a_folder_that_can_not_be_made_is_told_with_the_flag_that_chooses_another() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    is_refused(serve(&file.join("data"), &[], &[]), &["file/data", "--data-dir"]);
}

/// A command in a mount namespace of its own, where this was mounted before.
fn mounted(mount: &str, command: &[&str]) -> (PathBuf, Vec<OsString>) {
    let id = Command::new("id").arg("-u").output().expect("id");
    // Who isn't root becomes so in a user namespace.
    let flags = if id.stdout.starts_with(b"0\n") { "-m" } else { "-rm" };
    let script = format!("{mount} && exec \"$@\"");
    let mut args: Vec<OsString> = [flags, "sh", "-c", &script, "sh"].map(Into::into).to_vec();
    args.extend(command.iter().map(Into::into));
    ("unshare".into(), args)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_folder_is_told_with_the_flag_that_chooses_another() {
    let (used, fresh) = (used().await, TempDir::new().unwrap());
    for folder in [used.path(), fresh.path()] {
        let folder = folder.display().to_string();
        let mount = format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}");
        let serve =
            [PROGRAM, "serve", "--data-dir", &folder, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let (program, args) = mounted(&mount, &serve);
        let ended = ending(program).args(args).output().expect("unshare");
        is_refused(told(&ended), &[&folder, "can't be written", "--data-dir"]);
    }
}

/// A server whose data folder is a small disk of its own.
struct SmallDisk {
    _folder: TempDir,
    process: Process,
    url: String,
    /// Where this process sees that disk.
    seen: PathBuf,
}

impl SmallDisk {
    async fn start() -> Self {
        let (folder, listen, admin) = (TempDir::new().unwrap(), free_port(), free_port());
        let path = folder.path().display().to_string();
        let (data, control) = (format!("127.0.0.1:{listen}"), format!("127.0.0.1:{admin}"));
        let serve = [PROGRAM, "serve", "--data-dir", &path, "--listen", &data, "--admin-listen", &control];
        let (program, args) = mounted(&format!("mount -t tmpfs -o size={DISK} tmpfs {path}"), &serve);
        let recipe = Recipe { program, args, env: Vec::new(), port: admin, probe: PROBE, ready: &["HTTP/1.1 200"] };
        let process = Process::start(recipe).await;
        let seen = Path::new("/proc").join(process.pid().to_string()).join("root").join(path.trim_start_matches('/'));
        Self { _folder: folder, process, url: format!("http://{data}"), seen }
    }

    /// Fills what room is left.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.seen.join("filler")).expect("the disk of the process is seen");
        for size in [64 << 10, 4 << 10, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.seen.join("filler")).expect("it is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_and_with_room_again_everything_accepted_is_there_and_sets_work() {
    let mut disk = SmallDisk::start().await;
    assert!(disk.seen.join("buffer.redb").exists());
    let set_url = format!("{}/v1/set", disk.url);
    assert_eq!(http_post(&set_url, set_of("before", 1_000)).await.status, 202);
    until_read(&disk.url, "before").await;
    disk.fill();

    let (mut accepted, mut refused) = (Vec::new(), None);
    for n in 0..2_000 {
        let key = format!("k{n}");
        let reply = http_post(&set_url, set_of(&key, 20_000)).await;
        if reply.status == 202 {
            accepted.push(key);
        } else {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("a disk that is full");
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (503, &"buffer-full".into()), "{}", refused.text());
    assert!(!refused.header("retry-after").is_empty());
    assert!(!refused.text().contains("redb") && !refused.text().contains("tmp"), "{}", refused.text());
    assert_eq!(until_read(&disk.url, "before").await.text().len(), 1_002, "what is stored is still served");

    disk.make_room();
    eventually("a set is accepted again", || async {
        (http_post(&set_url, set_of("after", 1_000)).await.status == 202).then_some(())
    })
    .await;
    for key in accepted.iter().map(String::as_str).chain(["before", "after"]) {
        until_read(&disk.url, key).await;
    }
    let admin = format!("http://127.0.0.1:{}", disk.process.port());
    eventually("ready", || async { (http_get(&format!("{admin}/readyz")).await.status == 200).then_some(()) }).await;
    let page = http_get(&format!("{admin}/metrics")).await.text();
    assert_eq!(dead_lettered(&page), 0.0, "an outage makes no dead letters");
    assert!(disk.process.sigterm().await.success(), "{:#?}", disk.process.captured());
}
