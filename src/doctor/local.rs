//! Judges what this machine gives: files, disks and limits. Pure.

use super::{Finding, Sheet};

/// Descriptors for what is not a connection of a client: listeners, files, the backends' connections.
const OTHER_FILES: u64 = 64;

/// What takes file descriptors, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    pub connections_max: u64,
    /// To Redis.
    pub backend_connections: u64,
    /// The soft limit; `None` where there is none.
    pub limit: Option<u64>,
}

pub fn judge_descriptors(descriptors: Descriptors) -> Vec<Finding> {
    const CHECK: &str = "open-files";
    let Descriptors { connections_max, backend_connections, limit } = descriptors;
    let needed = connections_max + backend_connections + OTHER_FILES;
    let mut sheet = Sheet::new("this process");
    match limit {
        Some(limit) if limit < needed => sheet.risky(
            CHECK,
            format!(
                "{limit} files may be open (ulimit -n), and {needed} are needed where http.connections_max = \
                 {connections_max}"
            ),
            format!("raise it to {needed} where the server is started, or lower http.connections_max"),
        ),
        Some(limit) => sheet.ok(CHECK, format!("{limit} may be open, {needed} are needed")),
        None => sheet.ok(CHECK, "no limit"),
    }
    sheet.finish()
}

#[cfg(feature = "embedded")]
pub use embedded::{Growth, judge_file, judge_room};

#[cfg(feature = "embedded")]
mod embedded {
    use std::path::Path;

    use super::super::{Finding, Sheet, bytes};
    use crate::disk::inspect::{FileState, FolderState, Inspected, Room};

    /// How much a file may still grow.
    #[derive(Debug, Clone, Copy)]
    pub enum Growth {
        /// Up to this many bytes, by a setting.
        UpTo { bytes_max: u64, key: &'static str },
        /// As its contents do.
        Open,
    }

    /// Free space below this is no room for a store, whatever it holds: a commit needs some itself.
    const FREE_BYTES_MIN: u64 = 64 << 20;

    /// A file and its folder, as they are before it is opened.
    pub fn judge_file(path: &Path, found: &Inspected) -> Vec<Finding> {
        let mut sheet = Sheet::new(path.display().to_string());
        folder(&found.folder, &mut sheet);
        file(&found.file, &mut sheet);
        sheet.finish()
    }

    pub fn judge_room(path: &Path, room: Room, growth: Growth) -> Vec<Finding> {
        let mut sheet = Sheet::new(path.display().to_string());
        space(room, growth, &mut sheet);
        sheet.finish()
    }

    fn folder(found: &FolderState, sheet: &mut Sheet) {
        const CHECK: &str = "data-folder";
        match found {
            FolderState::Writable => sheet.ok(CHECK, "can be written"),
            FolderState::Absent => sheet.ok(CHECK, "is made at the first start"),
            FolderState::NotWritable(why) => sheet.dangerous(
                CHECK,
                format!("can't be written ({why})"),
                "allow it, or choose another folder with --data-dir",
            ),
        }
    }

    fn file(found: &FileState, sheet: &mut Sheet) {
        const CHECK: &str = "data-file";
        const ELSEWHERE: &str = "choose another folder with --data-dir";
        match found {
            FileState::Absent => sheet.ok(CHECK, "is made at the first start"),
            FileState::InUse => sheet.ok(CHECK, "in use by a running server"),
            FileState::Fine => sheet.ok(CHECK, "of a format that this version reads"),
            FileState::NotClosed => sheet.note(
                CHECK,
                "was not closed, as after a kill",
                "nothing is lost; the next start walks it once, which takes a while where it is large",
            ),
            FileState::Newer { found, reads } => sheet.dangerous(
                CHECK,
                format!("written by a newer hookcache (format {found}, this one reads {reads})"),
                format!("start the newer one, or {ELSEWHERE}"),
            ),
            FileState::Foreign(why) => {
                sheet.dangerous(CHECK, format!("hookcache did not write it ({why})"), ELSEWHERE);
            }
            FileState::Unreadable(why) => {
                sheet.dangerous(CHECK, format!("can't be read ({why})"), format!("allow it, or {ELSEWHERE}"));
            }
        }
    }

    fn space(room: Room, growth: Growth, sheet: &mut Sheet) {
        const CHECK: &str = "disk-space";
        let Room { file_bytes, free_bytes } = room;
        let told = format!("{} free", bytes(free_bytes));
        match growth {
            Growth::UpTo { bytes_max, key } if free_bytes < bytes_max.saturating_sub(file_bytes) => sheet.risky(
                CHECK,
                format!("{told}, and {key} lets it take {}: the disk is full first", bytes(bytes_max)),
                format!("make room, or lower {key}"),
            ),
            Growth::Open if free_bytes < FREE_BYTES_MIN => {
                sheet.risky(CHECK, format!("{told}: the disk is full soon"), "make room");
            }
            Growth::UpTo { .. } | Growth::Open => sheet.ok(CHECK, told),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::super::Severity::{self, Dangerous, Note, Ok, Risky};
        use super::*;

        fn bad(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
            findings.iter().filter(|f| f.severity > Ok).map(|f| (f.check, f.severity)).collect()
        }

        #[test]
        fn files_and_folders_are_judged() {
            let of = |found: &Inspected| bad(&judge_file(Path::new("d/buffer.redb"), found));
            let fine = Inspected { file: FileState::Fine, folder: FolderState::Writable };
            let files = [
                (FileState::NotClosed, Note),
                (FileState::Newer { found: 2, reads: 1 }, Dangerous),
                (FileState::Foreign(String::new()), Dangerous),
                (FileState::Unreadable(String::new()), Dangerous),
            ];
            for (file, severity) in files {
                assert_eq!(of(&Inspected { file, ..fine.clone() }), [("data-file", severity)]);
            }
            for file in [FileState::Absent, FileState::InUse, FileState::Fine] {
                assert_eq!(of(&Inspected { file, ..fine.clone() }), []);
            }
            let folder = FolderState::NotWritable(String::new());
            assert_eq!(of(&Inspected { folder, ..fine }), [("data-folder", Dangerous)]);
        }

        #[test]
        fn a_disk_that_is_full_before_its_file_is_told() {
            let of = |free_bytes, growth| {
                bad(&judge_room(Path::new("d/buffer.redb"), Room { file_bytes: 100, free_bytes }, growth))
            };
            let up_to = |bytes_max| Growth::UpTo { bytes_max, key: "buffer.max_bytes" };
            assert_eq!((of(50, up_to(150)), of(50, up_to(151))), (vec![], vec![("disk-space", Risky)]));
            assert_eq!(of(FREE_BYTES_MIN, Growth::Open), []);
            assert_eq!(of(FREE_BYTES_MIN - 1, Growth::Open), [("disk-space", Risky)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity::{Ok, Risky};
    use super::*;

    #[test]
    fn too_few_descriptors_are_told() {
        for (limit, severity) in [(Some(1_024), Ok), (Some(900), Risky), (None, Ok)] {
            let found = judge_descriptors(Descriptors { connections_max: 900, backend_connections: 12, limit });
            assert_eq!(found[0].severity, severity, "{limit:?}");
        }
    }
}
