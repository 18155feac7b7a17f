//! Which glibc a program needs.

use std::process::Command;

/// `provided.al2023` has glibc 2.34.
const GLIBC_MAX: (u32, u32) = (2, 34);

pub fn assert_old_enough(program: &str) {
    let output = Command::new("objdump").args(["-T", program]).output().expect("objdump (binutils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let version = |word: &str| {
        let (major, minor) = word.trim_matches(['(', ')']).strip_prefix("GLIBC_")?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    };
    let newest = text.split_whitespace().filter_map(version).max().expect("it is linked with glibc");
    assert!(newest <= GLIBC_MAX, "{program} needs glibc {newest:?}");
}
