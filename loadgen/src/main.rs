//! The program `loadgen`: reads its arguments, drives the library with real sockets, reports.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    match program::run() {
        Ok(code) => code,
        Err(failure) => {
            program::complain(&failure);
            failure.code()
        }
    }
}
