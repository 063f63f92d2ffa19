//! The program `esteira`.

use std::process::ExitCode;

use clap::Parser as _;
use esteira::cli::Cli;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The agent comes before everything else: it has its own small event loop and stands in every job.
    if let Some(("agent", words)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return esteira::agent::main(words);
    }
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("error: cannot start: {error}\n"),
            );
            ExitCode::from(2)
        }
    }
}
