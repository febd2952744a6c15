# What is done often. `./scripts/test` is every check that a machine without Docker can do.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The features of a program that can do everything; `--all-features` has those of tests, too.
features := "s3,gcs,azure,postgres,redis,otel"
jobs := env("CARGO_BUILD_JOBS", num_cpus())

# Checks and tests what needs no service
default: check test

# Formatting and lints, with all features and with none
check:
    cargo fmt --check
    cargo clippy --all-targets --all-features --locked -- -D warnings
    cargo clippy --all-targets --no-default-features --locked -- -D warnings

# Tests that need no service and no package manager
test *arguments:
    cargo test --locked {{ arguments }}

# A release of what features are named; with mold and sccache, where they are installed
build features=features:
    #!/usr/bin/env bash
    set -euo pipefail
    if type -P sccache > /dev/null; then export RUSTC_WRAPPER=sccache; fi
    if type -P mold > /dev/null; then wrap=(mold -run); else wrap=(); fi
    "${wrap[@]}" cargo build --release --locked --features '{{ features }}' --jobs '{{ jobs }}'

# What is given to others: see the profile `dist`
dist features=features:
    cargo build --profile dist --locked --features '{{ features }}' --bin rustaccio --jobs '{{ jobs }}'

# Runs the registry, with a settings file if one is named
serve config='':
    cargo run --features '{{ features }}' -- {{ if config == '' { '' } else { '--config ' + quote(config) } }}

# All checks and tests of `./scripts/test`, which installs what it needs
all:
    ./scripts/test

# The image, with a container engine; `scripts/image` does without one
image features='s3':
    docker build --tag rustaccio --build-arg 'CARGO_FEATURES={{ features }}' .

# Dockerfile, compose files, chart, workflows, unit and scripts
lint:
    ./scripts/lint-delivery

# A bucket at http://127.0.0.1:9002, its console at http://127.0.0.1:9003
minio-up:
    docker compose --file deploy/compose/minio.yml up --wait

# Ends it, and deletes what it has
minio-down:
    docker compose --file deploy/compose/minio.yml --profile registry down --volumes

# Tests on that bucket, or on the one that RUSTACCIO_S3_IT_* name
test-s3-it *arguments:
    RUSTACCIO_S3_IT_ENDPOINT="${RUSTACCIO_S3_IT_ENDPOINT:-http://127.0.0.1:9002}" \
    RUSTACCIO_S3_IT_REGION="${RUSTACCIO_S3_IT_REGION:-us-east-1}" \
    RUSTACCIO_S3_IT_BUCKET="${RUSTACCIO_S3_IT_BUCKET:-rustaccio-it}" \
    RUSTACCIO_S3_IT_ACCESS_KEY="${RUSTACCIO_S3_IT_ACCESS_KEY:-minioadmin}" \
    RUSTACCIO_S3_IT_SECRET_KEY="${RUSTACCIO_S3_IT_SECRET_KEY:-minioadmin}" \
        cargo test --locked --features s3,test-services --test it -- buckets:: cache_shared:: lost_answers:: {{ arguments }}

# Postgres at 127.0.0.1:55432, Redis at 127.0.0.1:56379
governance-up:
    docker compose --file deploy/compose/governance.yml up --wait

# Ends them, and deletes what they have
governance-down:
    docker compose --file deploy/compose/governance.yml --profile registry down --volumes

# Tests on them, or on those that RUSTACCIO_POSTGRES_IT_URL and RUSTACCIO_REDIS_IT_URL name
test-governance-it *arguments:
    RUSTACCIO_POSTGRES_IT_URL="${RUSTACCIO_POSTGRES_IT_URL:-postgres://postgres:postgres@127.0.0.1:55432/rustaccio}" \
    RUSTACCIO_REDIS_IT_URL="${RUSTACCIO_REDIS_IT_URL:-redis://127.0.0.1:56379/}" \
        cargo test --locked --features postgres,redis,test-services --test it -- postgres:: migrate:: limits:: {{ arguments }}
