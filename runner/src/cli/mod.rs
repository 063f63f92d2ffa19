//! The command line: what can be said, and which part of the program does it.

mod deploy;
mod exec;
mod expr;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Gitea Actions runner.
#[derive(Debug, Parser)]
#[command(name = "esteira", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the workflows of the current repository here, without a server.
    Exec(Box<exec::ExecArgs>),
    /// Evaluate expressions, one JSON object a line.
    #[command(hide = true)]
    Expr,
    /// Deploy a stack to Docker Swarm and wait until it has converged.
    Deploy(Box<deploy::DeployArgs>),
}

impl Cli {
    /// Does what was asked for.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Exec(args) => exec::run(*args).await,
            Command::Expr => expr::run(std::io::stdin().lock(), std::io::stdout().lock()),
            Command::Deploy(args) => deploy::run(*args).await,
        }
    }
}
