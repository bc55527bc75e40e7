//! The program `meshbench`. Everything it does is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    scenarios::command::main()
}
