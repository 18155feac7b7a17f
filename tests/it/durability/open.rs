//! What can't be opened is refused at start, in words that say who must act.

use std::fs;
use std::path::{Path, PathBuf};

use hookcache::buffer::embedded::{self as buffer, Options};
use hookcache::disk::OpenError;
use hookcache::envelope::Clock;
use hookcache::store::embedded as store;

use super::buffer_options;
use super::fake_disk::FakeDisk;

fn open_buffer(path: &Path) -> Result<(buffer::Appender, buffer::Taker), OpenError> {
    buffer::open(Options { path: path.to_owned(), ..buffer_options() })
}

fn refusal(path: &Path) -> String {
    open_buffer(path).err().expect("it is refused").to_string()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/buffer.redb");
    (folder, path)
}

#[test]
fn a_second_opener_is_told_that_the_folder_is_in_use_and_may_open_it_later() {
    let (_folder, path) = folder();
    let first = open_buffer(&path).unwrap();
    let text = refusal(&path);
    assert!(text.contains("in use by another process") && text.contains("--data-dir"), "{text}");
    drop(first);
    open_buffer(&path).unwrap();
}

#[test]
fn a_folder_of_a_newer_version_is_refused_with_both_formats() {
    let (_folder, path) = folder();
    drop(open_buffer(&path).unwrap());
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let format = redb::TableDefinition::<&str, u64>::new("format");
        transaction.open_table(format).unwrap().insert("buffer", 7).unwrap();
        transaction.commit().unwrap();
    }
    for _ in 0..2 {
        let text = refusal(&path);
        assert!(text.contains("written by a newer hookcache (format 7), this one reads 1"), "{text}");
    }
}

#[test]
fn what_hookcache_did_not_write_is_refused_and_left_as_it_is() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "a diary, not a database\n".repeat(1_000)).unwrap();
    let text = refusal(&path);
    assert!(text.contains("not a buffer that hookcache wrote"), "{text}");
    assert!(fs::read_to_string(&path).unwrap().starts_with("a diary"));

    let other = path.with_file_name("store.redb");
    drop(store::open(store::Options { path: other.clone() }, Clock::system()).unwrap());
    let text = refusal(&other);
    assert!(text.contains("not a buffer that hookcache wrote"), "{text}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let text = refusal(&file.join("buffer.redb"));
    assert!(text.contains("file/buffer.redb") && text.contains("--data-dir"), "{text}");
}

/// Root may write anywhere, so a folder without write permission proves nothing; `/proc` takes no file from anybody.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_file_is_told() {
    let text = refusal(Path::new("/proc/hookcache/buffer.redb"));
    assert!(text.contains("/proc/hookcache/buffer.redb") && text.contains("--data-dir"), "{text}");
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told() {
    let disk = FakeDisk::default();
    disk.leave_room(Some(4_096));
    let error = buffer::open_on(disk.storage(), buffer_options(), Clock::system()).err().expect("it is refused");
    assert!(matches!(&error, OpenError::Full { .. }), "{error}");
    assert!(error.to_string().contains("is full"), "{error}");
}

#[test]
fn a_start_that_was_cut_off_leaves_nothing_in_the_way() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_file_name("buffer.redb.new"), vec![0; 100_000]).unwrap();
    drop(open_buffer(&path).unwrap());
    assert!(path.exists() && !path.with_file_name("buffer.redb.new").exists());
    open_buffer(&path).unwrap();
}
