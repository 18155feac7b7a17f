//! The report: sections of tables in Markdown.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::args::{Args, ROUNDS_TO_KEEP_MIN};
use crate::stage::program;

pub struct Report {
    text: String,
}

impl Report {
    pub fn begin(args: &Args) -> Self {
        let Args { rounds, seconds, .. } = args;
        let mut this = Self { text: "# Results\n".to_owned() };
        this.say(&format!(
            "`make compare` has written this file. Each figure is the median of {rounds} rounds of {seconds} s, with the \
             least and the most in parentheses; the subjects took turns, round by round, and a ratio is that of two \
             figures of one round. Times are milliseconds, CPU is microseconds per request, the kernel's work for a \
             process included. The generator of the load ran on the same machine, so that requests per second and times \
             say less than CPU does."
        ));
        let rows = [
            ("machine", machine()),
            ("load average at the start", load_average()),
            ("hookcache", told(Command::new(program()).arg("--version"))),
            ("Redis", told(Command::new("redis-server").arg("--version"))),
            ("webdis", package("webdis")),
            ("wrk", package("wrk")),
        ];
        let rows = rows.map(|(what, value)| vec![what.to_owned(), value]);
        this.table(&["what", "which"], &rows);
        this
    }

    pub fn section(&mut self, title: &str, words: &str) {
        let _ = write!(self.text, "\n## {title}\n");
        self.say(words);
        eprintln!("== {title}");
    }

    pub fn say(&mut self, words: &str) {
        let _ = write!(self.text, "\n{words}\n");
    }

    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let _ = write!(self.text, "\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
        rows.iter().for_each(|row| self.text += &line(row));
    }

    pub fn quote(&mut self, lines: &str) {
        let _ = write!(self.text, "\n```\n{}\n```\n", lines.trim_end());
    }

    /// Printed; kept in the repository only if it says enough.
    pub fn end(mut self, args: &Args, path: &Path) {
        self.say(&format!("Load average at the end: {}.", load_average()));
        println!("{}", self.text);
        if args.is_to_be_kept() {
            std::fs::write(path, &self.text).expect("a file");
            eprintln!("written to {}", path.display());
        } else {
            eprintln!("not kept: that takes all sections and {ROUNDS_TO_KEEP_MIN} rounds");
        }
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("?", |model| model.trim_start_matches([' ', '\t', ':']));
    format!("{} cores, {model}, Linux {}", models.len(), read("/proc/sys/kernel/osrelease").trim())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

fn package(name: &str) -> String {
    told(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", name]))
}

/// The first line that a program says.
fn told(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("?").to_owned()
}
