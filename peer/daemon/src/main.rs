//! The program `meshnode`; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    meshnode::main()
}
