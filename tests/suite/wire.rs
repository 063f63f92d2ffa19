//! The server of these stories behaves as Gitea does, tried with the generated client over gRPC-Web.
