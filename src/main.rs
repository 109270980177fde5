fn main() -> std::process::ExitCode {
    drystone::cli::main()
}
