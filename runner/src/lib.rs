//! esteira: a Gitea Actions runner.
