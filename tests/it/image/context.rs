//! What `docker build .` sends: the tracked files that `.dockerignore` lets through.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::repository;

/// What `.dockerignore` says.
pub struct Ignored {
    /// A path or `*`, and whether it is let in again (`!`). The last that fits decides.
    rules: Vec<(String, bool)>,
}

impl Ignored {
    pub fn read(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (pattern, again) = line.strip_prefix('!').map_or((line, false), |pattern| (pattern, true));
            if pattern != "*" && pattern.contains(['*', '?', '[', '\\']) {
                return Err(format!("{line}: teach the test what this pattern means"));
            }
            rules.push((pattern.trim_matches('/').to_owned(), again));
        }
        Ok(Self { rules })
    }

    pub fn of_repository() -> Self {
        let text = fs::read_to_string(repository().join(".dockerignore")).expect(".dockerignore");
        Self::read(&text).unwrap_or_else(|e| panic!(".dockerignore: {e}"))
    }

    /// Is this file sent? A rule that fits a folder fits all that is in it.
    pub fn lets_in(&self, path: &str) -> bool {
        let fits = |rule: &str| {
            rule == "*" || path.strip_prefix(rule).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.rules.iter().rev().find(|(rule, _)| fits(rule)).is_none_or(|(_, again)| *again)
    }
}

/// The tracked files of the repository, with `/`.
pub fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(repository()).output().expect("git");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("our paths are UTF-8");
    listed.split_terminator('\0').map(str::to_owned).collect()
}

/// What is sent.
pub fn sent() -> Vec<String> {
    let ignored = Ignored::of_repository();
    tracked().into_iter().filter(|path| ignored.lets_in(path)).collect()
}

/// Puts what is sent into a folder, with its times: cargo goes by them.
pub fn export(to: &Path) {
    let mut cp = Command::new("cp");
    cp.args(["-a", "--parents", "-t"]).arg(to).args(sent()).current_dir(repository());
    assert!(cp.status().expect("cp").success());
}
