//! The wire: messages of `ping.v1`, `runner.v1` and `agent.v1`, and the transport that carries them.
