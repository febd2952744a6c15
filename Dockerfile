# An image of the registry: the program alone, on a base without a shell, as a user without rights.
#
#   docker build -t rustaccio .
#   docker build -t rustaccio --build-arg CARGO_FEATURES=s3,postgres,redis,otel .
#
# Nothing is configured in it; settings are variables of the container. `scripts/image` runs what is
# said here without a container engine.

# Of the image itself an SBOM would name the base's packages alone: Cargo.lock names what the program is made of.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# The Debian of the builder is that of the base below: the program wants no newer C library than it has.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# Features of Cargo.toml, with commas between.
ARG CARGO_FEATURES=s3
# `dist`, or `release`; `dev` is quick to build and slow to run.
ARG CARGO_PROFILE=dist
# Each job may want 2 GB of memory.
ARG CARGO_BUILD_JOBS=2

# What we depend on changes less often than what we write: a layer of its own, made of empty sources.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin benches \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs src/bin/sync_examples.rs \
    && cp src/main.rs benches/hot.rs \
    # Processors of Arm have pages of up to 64 kB, whatever the builder has.
    && if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && cargo build --locked --profile "$CARGO_PROFILE" --features "$CARGO_FEATURES" --bin rustaccio

COPY . .
# Sources that are older than the empty ones would count as built.
RUN touch src/lib.rs src/main.rs src/bin/sync_examples.rs \
    && if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && cargo build --locked --profile "$CARGO_PROFILE" --features "$CARGO_FEATURES" --bin rustaccio \
    && mkdir -p out/volume/data \
    && cp target/*/rustaccio out/rustaccio

# The C library, certificates of authorities, and the user `nonroot`; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="rustaccio" \
      org.opencontainers.image.description="A private npm registry and caching proxy" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY --from=build /build/out/rustaccio /usr/local/bin/rustaccio
# A new volume takes its owner from here; backups go beside the data.
COPY --from=build --chown=65532:65532 /build/out/volume /var/lib/rustaccio

ENV RUSTACCIO_BIND=0.0.0.0:4873 \
    RUSTACCIO_DATA_DIR=/var/lib/rustaccio/data
# A number, which Kubernetes can see is not root.
USER 65532:65532
WORKDIR /var/lib/rustaccio
VOLUME /var/lib/rustaccio
EXPOSE 4873
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/rustaccio", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/rustaccio"]
