//! The program as a file.

#[path = "../../tests/support/glibc.rs"]
mod glibc;

#[test]
fn it_needs_no_newer_glibc_than_its_runtime_has() {
    glibc::assert_old_enough(env!("CARGO_BIN_EXE_hookcache-webhooks"));
}
