//! The program `esteira`.

fn main() {}
