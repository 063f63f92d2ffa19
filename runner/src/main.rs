//! The program `esteira`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The agent comes before everything else: it has its own small event loop and stands in every job.
    if let Some(("agent", words)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return esteira::agent::main(words);
    }
    esteira::cli::main()
}
