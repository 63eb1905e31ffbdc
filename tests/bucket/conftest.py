"""A pair whose other half is a bucket."""

from __future__ import annotations

import pytest

from support import buckets
from support.datasets import REGISTRY
from support.lab import Lab, make_config, sample_files


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("config"))


@pytest.fixture
def lab(home, config, moto_server, capsys, monkeypatch):
    """The command line, and a remote `b` that is a bucket of a real server."""
    made = Lab(home, config, capsys, monkeypatch)
    monkeypatch.setenv("HOME", str(home))  # nobody's own ~/.aws
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    made.usr("init", made.root)
    (made.root / "registry.yaml").write_bytes(REGISTRY)
    made.prefix = buckets.fresh()
    made.url = f"s3://{moto_server.bucket}/{made.prefix}"
    made.usr(
        *("remotes", "add", "b", "--type", "bucket", "--url", made.url),
        *("--endpoint", moto_server.endpoint),
    ).ok()
    made.write(sample_files())
    return made
