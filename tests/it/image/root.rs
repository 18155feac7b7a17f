//! Makes the image without Docker. A clean folder stands for the folder in which the first stage works; this machine, which
//! must be a Debian with what the base image has, for the rest of that stage. The last stage begins with nothing, so a
//! folder that holds what it copies is all that a container would see.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::dockerfile::{Copy, Stage, Step, Values, read};
use super::{context, settings::Settings};
use crate::support::{TempDir, repository};

/// What commands of the Dockerfile see of this process' variables, in place of those of the base image.
const KEPT: &[&str] = &["HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "http_proxy", "https_proxy", "no_proxy"];
/// What the base image lacks and this machine may have: a command that asks for it fails here, too.
const ABSENT: &[&str] = &["c++", "clang", "cmake", "curl", "g++", "git", "make", "pkg-config", "python3"];
/// What a builder has no other way to learn.
pub const REVISION: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
pub const SOURCE: &str = "https://git.example/hookcache";
const PROGRAM: &str = "target/release/hookcache";
/// A root that is read-only, but for the volume.
const IN_THE_ROOT: &str = r#"set -eu
root=$1 volume=$2; shift 2
mount --bind "$root" "$root"
mount --bind "$root$volume" "$root$volume"
mount -o remount,bind,ro "$root"
exec env -i "$@""#;

pub fn stages() -> Vec<Stage> {
    let text = fs::read_to_string(repository().join("Dockerfile")).expect("the Dockerfile");
    let given = Values::from([("REVISION".into(), REVISION.into()), ("SOURCE".into(), SOURCE.into())]);
    read(&text, &given).unwrap_or_else(|fault| panic!("Dockerfile: {fault}"))
}

pub struct Image {
    folder: TempDir,
    pub settings: Settings,
}

impl Image {
    /// By every command of the Dockerfile. Takes minutes.
    pub fn built() -> Self {
        Self::make(None)
    }

    /// Around a program that is there: by every command but those of cargo.
    pub fn around(program: &Path) -> Self {
        Self::make(Some(program))
    }

    fn make(program: Option<&Path>) -> Self {
        let stages = stages();
        let [build, last] = stages.as_slice() else { panic!("two stages are known here: {stages:?}") };
        let work = TempDir::new().expect("a temporary folder");
        if let Some(program) = program {
            fs::create_dir_all(work.path().join("target/release")).expect("it is ours");
            // With its symbols it is large. A folder on another disk can't have a link.
            let there = work.path().join(PROGRAM);
            fs::hard_link(program, &there).or_else(|_| fs::copy(program, &there).map(drop)).expect("the program");
        }
        let workdir = run(build, work.path(), program.is_some());
        let folder = TempDir::new().expect("a temporary folder");
        for copy in last.steps.iter().filter_map(|step| if let Step::Copy(copy) = step { Some(copy) } else { None }) {
            assert_eq!(copy.from, build.name, "{copy:?}: only what was built comes into the image");
            let within = |source: &String| match Path::new(source).strip_prefix(&workdir) {
                Ok(path) => path.display().to_string(),
                Err(_) => panic!("{copy:?}: not of {workdir}"),
            };
            let sources = copy.sources.iter().map(within).collect();
            place(&Copy { sources, ..copy.clone() }, work.path(), folder.path());
        }
        Self { folder, settings: Settings::of(last) }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the container finds its volume, seen from here.
    pub fn volume(&self) -> PathBuf {
        self.path().join(self.settings.volume.trim_start_matches('/'))
    }

    /// A command in this root and no other, as the image's user, with the image's variables and these. It keeps the
    /// network, so that tests reach it.
    pub fn command(&self, env: &[(&str, &str)], command: &[&str]) -> (PathBuf, Vec<OsString>) {
        let Settings { user, workdir, volume, .. } = &self.settings;
        let (user, group) = user.expect("a user");
        // Who isn't root becomes so in a user namespace, and there the image's user in one more.
        let (first, second) = if is_root() {
            ("-m", vec![format!("--setgid={group}"), format!("--setuid={user}")])
        } else {
            ("-rm", vec!["--user".into(), format!("--map-user={user}"), format!("--map-group={group}")])
        };
        let mut values = self.settings.env.clone();
        values.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut args: Vec<OsString> = [first, "sh", "-c", IN_THE_ROOT, "sh"].map(Into::into).to_vec();
        args.extend([self.path().into(), volume.into()]);
        args.extend(values.iter().map(|(name, value)| format!("{name}={value}").into()));
        args.push(on_path("unshare").into());
        args.extend([format!("--root={}", self.path().display()).into(), format!("--wd={workdir}").into()]);
        args.extend(second.into_iter().map(Into::into));
        args.extend(command.iter().map(Into::into));
        ("unshare".into(), args)
    }
}

/// Runs a stage in a folder, and tells how the stage calls that.
fn run(stage: &Stage, folder: &Path, has_program: bool) -> String {
    let context = TempDir::new().expect("a temporary folder");
    context::export(context.path());
    let mut workdir = String::new();
    for step in &stage.steps {
        match step {
            Step::Workdir(path) => workdir.clone_from(path),
            Step::Copy(copy) => {
                assert_eq!(copy.from, None, "{copy:?}: there is no stage before");
                place(copy, context.path(), folder);
            }
            Step::Run(line, _) if has_program && line.contains("cargo") => {}
            Step::Run(line, env) => shell(line, env, folder),
            step => panic!("{step:?}: nothing of the stage that builds comes into the image"),
        }
    }
    workdir
}

fn shell(line: &str, env: &Values, folder: &Path) {
    let own = |name: &str| std::env::var(name).unwrap_or_default();
    let absent = TempDir::new().expect("a temporary folder");
    for name in ABSENT {
        let path = absent.path().join(name);
        fs::write(&path, "#!/bin/sh\necho \"the base image has no $0\" >&2\nexit 127\n").expect("it is ours");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("umask 022\n{line}")).current_dir(folder).env_clear();
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("PATH", format!("{}:{}", absent.path().display(), own("PATH")));
    command.env("CARGO_HOME", std::env::var("CARGO_HOME").unwrap_or_else(|_| own("HOME") + "/.cargo"));
    let output = command.envs(env).output().expect("a shell");
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A `COPY`, out of one folder of ours into another. What is in a folder is copied, not the folder.
fn place(copy: &Copy, from: &Path, into: &Path) {
    let to = into.join(copy.to.trim_start_matches("./").trim_start_matches('/'));
    for source in &copy.sources {
        let source = from.join(source);
        assert!(source.exists(), "{copy:?}: {} is not there", source.display());
        let (source, to) = match source.is_dir() {
            true => (source.join("."), to.clone()),
            false if copy.to.ends_with('/') => (source.clone(), to.join(source.file_name().expect("a file"))),
            false => (source, to.clone()),
        };
        let folder = if source.is_dir() { Some(to.as_path()) } else { to.parent() };
        fs::create_dir_all(folder.expect("below the root")).expect("it is ours");
        succeeds(Command::new("cp").args(["--archive", "--link", "--force"]).arg(&source).arg(&to));
    }
    if let Some((user, group)) = copy.owner.filter(|_| is_root()) {
        succeeds(Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(&to));
    }
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("a command of Debian");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().expect("id").stdout.starts_with(b"0\n")
}

fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {name}"))
}
