# Three images: `api` (the task API), `runner` (esteira itself) and `job` (what its jobs run in). The first two hold one
# static program each, and no shell.
#
#   docker build --target api    -t esteira/task-api:local .
#   docker build --target runner -t esteira/runner:local .
#   docker build --target job    -t esteira/job:local .
#
# Base images are arguments, for networks that have their own. Both builders of Docker can build this file.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG NODE_IMAGE=node:24-bookworm-slim
ARG DOCKER_CLI_IMAGE=docker:28-cli
ARG JOB_IMAGE=${RUST_IMAGE}

# The workspace without its code: what is compiled from here on changes only with Cargo.lock.
FROM ${RUST_IMAGE} AS workspace
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY workflows/Cargo.toml workflows/
COPY proto/Cargo.toml proto/
COPY runner/Cargo.toml runner/
COPY api/Cargo.toml api/
COPY tests/Cargo.toml tests/
# Cargo wants to see every program, test and bench that a manifest names.
RUN for crate in workflows proto runner api tests; do \
      mkdir -p "$crate/src" && : >"$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs" && \
      awk -v crate="$crate" '/^\[/ { kind = $0 ~ /^\[\[(bench|test)\]\]/ ? $0 : "" } \
        kind != "" && /^name/ { gsub(/"/, "", $3); print crate "/" (kind ~ /bench/ ? "benches" : "tests") "/" $3 ".rs" }' "$crate/Cargo.toml" | \
      while read -r file; do mkdir -p "$(dirname "$file")" && echo 'fn main() {}' >"$file"; done; \
    done
# `dev` compiles in a fraction of the time, for tests.
ARG CARGO_PROFILE=release

FROM workspace AS api-build
ARG CARGO_PROFILE=release
RUN cargo build --locked --profile "$CARGO_PROFILE" -p api
COPY api api
# /metrics and the log tell the commit.
ARG COMMIT=unknown
ENV TASKS_BUILD_COMMIT=${COMMIT}
# The copied files are older than what was just built from empty ones.
RUN find api -name '*.rs' -exec touch {} + && \
    cargo build --locked --profile "$CARGO_PROFILE" -p api && \
    mkdir -p /image/etc/ssl/certs /image/data /image/tmp && chmod 1777 /image/tmp && chown 10001:10001 /image/data && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    echo 'tasks:x:10001:10001::/data:/' >/image/etc/passwd && \
    cp target/*/*/task-api /image/

FROM scratch AS api
LABEL org.opencontainers.image.title="task API" org.opencontainers.image.licenses="MIT"
COPY --from=api-build /image /
USER 10001:10001
# Without a database URL the tasks are in a SQLite file here.
ENV TASKS_DATA_DIR=/data
VOLUME /data
EXPOSE 5000
ENTRYPOINT ["/task-api"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/task-api", "--healthcheck"]

FROM workspace AS runner-build
ARG CARGO_PROFILE=release
RUN cargo build --locked --profile "$CARGO_PROFILE" -p runner
COPY workflows workflows
COPY proto proto
COPY runner runner
RUN find workflows proto runner -name '*.rs' -exec touch {} + && \
    cargo build --locked --profile "$CARGO_PROFILE" -p runner --bin esteira && \
    mkdir -p /image/etc/ssl/certs /image/etc/esteira /image/data /image/tmp && chmod 1777 /image/tmp && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    cp runner/service/config.yaml /image/etc/esteira/ && \
    echo 'root:x:0:0::/data:/' >/image/etc/passwd && \
    cp target/*/*/esteira /image/

# The variables of the official image are honoured: GITEA_INSTANCE_URL, GITEA_RUNNER_REGISTRATION_TOKEN (or _FILE),
# GITEA_RUNNER_NAME, GITEA_RUNNER_LABELS, CONFIG_FILE, ... The first start registers; identity and journals are in /data.
# runner/docs/install.md shows the ways to run it.
FROM scratch AS runner
LABEL org.opencontainers.image.title="esteira" org.opencontainers.image.description="A Gitea Actions runner" org.opencontainers.image.licenses="MIT"
COPY --from=runner-build /image /
ENV HOME=/data CONFIG_FILE=/etc/esteira/config.yaml
WORKDIR /data
VOLUME /data
ENTRYPOINT ["/esteira"]
CMD ["daemon"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["/esteira", "healthcheck"]

FROM ${NODE_IMAGE} AS node
FROM ${DOCKER_CLI_IMAGE} AS docker-cli

# An image for jobs that needs no third party's: git, bash, ssh and a compiler are in the Rust image, the rest is added.
FROM ${JOB_IMAGE} AS job
LABEL org.opencontainers.image.title="esteira job image" org.opencontainers.image.licenses="MIT"
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=docker-cli /usr/local/bin/docker /usr/local/bin/
COPY --from=docker-cli /usr/local/libexec/docker/cli-plugins /usr/local/libexec/docker/cli-plugins
# The tests of the task API start a PostgreSQL of their own; in a job (CI=true) none of them may be left out.
RUN ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || \
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*; }
RUN for program in git bash curl ssh cargo gcc; do command -v "$program" >/dev/null || { echo "JOB_IMAGE has no $program" >&2; exit 1; }; done; \
    { command -v rustup >/dev/null && rustup component add rustfmt clippy llvm-tools; } || command -v cargo-tarpaulin
RUN command -v cargo-tarpaulin || cargo install --locked cargo-llvm-cov
COPY --from=runner-build /image/esteira /usr/local/bin/
CMD ["bash"]
