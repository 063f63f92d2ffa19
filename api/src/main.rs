//! The program `task-api`.

fn main() {}
