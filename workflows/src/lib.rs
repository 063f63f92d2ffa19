//! The workflow language of GitHub and Gitea Actions, pure: no I/O, no clock, no environment.
