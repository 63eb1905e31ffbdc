# `just` lists what there is; every recipe is one line of ./dev, so just itself is optional.

default:
    @just --list

# Make the environment
setup:
    ./dev setup

# The main job: the sync-fidelity runbook with real faults
drill *options:
    ./dev drill {{options}}

# The tests
test *options:
    ./dev test {{options}}

# The tests at length: more examples, every server
deep *options:
    ./dev deep {{options}}

# Every decoder and both ends of the wire, guided by coverage
fuzz *options:
    ./dev fuzz {{options}}

# ruff, mypy, import contracts
lint:
    ./dev lint

# Format and apply safe fixes
fmt:
    .venv/bin/ruff format .
    .venv/bin/ruff check --fix .

# The benchmarks beside their peers
bench *names:
    ./dev bench {{names}}

# What CI runs
check:
    .ci/run
