# What one can do in this tree: `just` lists the tasks (https://just.systems). Each only calls an existing command, so
# everything works without just too. testenv/workflows/check checks that the commands exist.

# list the tasks
list:
    @just --list --unsorted

# install what building and testing need, on Debian or Ubuntu, as root
setup:
    testenv/demo/setup --tests

# build everything, unoptimised
build:
    cargo build --locked --workspace

# compile without building, with clippy's lints as errors
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings

# format the Rust code
format:
    cargo fmt --all

# run the tests of one crate: just crate gpusetup --test docker
crate NAME *ARGUMENTS:
    cargo test --locked -p {{ NAME }} {{ ARGUMENTS }}

# lint, unit and property tests: some minutes, before a pull request
quick:
    testenv/test --quick

# the above, the demo, and the main scenarios on a booted host: before a merge
test:
    testenv/test

# everything that CI runs: 45 minutes on two cores
ci:
    .ci/run

# run scenarios on a booted host: just scenario debian-13 removal
scenario HOST NAME:
    testenv/hosts/boot {{ HOST }} {{ NAME }}

# a shell on a booted host with gpusetup and a fake driver with two GPUs
shell HOST:
    testenv/hosts/boot {{ HOST }} --shell

# GPU containers on this machine, without a GPU and without changing the machine
demo:
    testenv/demo/run

# try every way of getting a GPU into a container, on a machine with a real GPU
gpu *OPTIONS:
    testenv/gpu {{ OPTIONS }}

# measure what a container's start costs: just bench --rounds 5
bench *OPTIONS:
    testenv/bench/start {{ OPTIONS }}

# fuzz every parser, a minute each
fuzz SECONDS="60":
    testenv/fuzz/run {{ SECONDS }}

# build all packages, into target/packages
packages:
    packaging/setup
    packaging/build

# write the pages that are made from tables, and build the book
docs:
    UPDATE_DOCS=1 cargo test --locked -p gpu-host -p gpusetup
    testenv/docs/book
