//! Checks the files given as arguments and prints what is found: the smallest use of the linter.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reads files and prints")]

use workflows::{Colour, FileKind, LintOptions, SourceFile, lint, render};

fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        let source = SourceFile::new(&path, &std::fs::read_to_string(&path)?);
        let options = LintOptions { kind: FileKind::of_path(&path), ..LintOptions::default() };
        for finding in lint(&source, &options) {
            print!("{}", render(&finding, &source, Colour::Never));
        }
    }
    Ok(())
}
