//! The end-to-end stories: the real `esteira` against a Gitea made of Rust, a module per subject.

mod wire;
