"""What lets a person into a bucket: the environment, and the files that their tools share.

Handed to the library for one command, written nowhere and shown nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from usrstore.errors import ConfigError

_KEYS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}


def gather(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with what AWS's own files add for AWS_PROFILE.

    Keys in the environment win over those of a file, as with AWS's own tools.

    Raises:
        ConfigError: AWS_PROFILE names a profile that no file has, or a file cannot be read.
    """
    found = dict(environment)
    profile = environment.get("AWS_PROFILE")
    secrets_path = _path(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config_path = _path(environment, "AWS_CONFIG_FILE", "config")
    name = profile or "default"
    secrets = _section(secrets_path, name)
    config = _section(config_path, name if name == "default" else f"profile {name}")
    if profile and secrets is None and config is None:
        raise ConfigError(
            f"AWS_PROFILE names {profile!r}, and neither {secrets_path} nor {config_path} has it",
            hint="aws configure list-profiles",
        )
    both = {**(config or {}), **(secrets or {})}
    if both.get("aws_access_key_id") and not environment.get("AWS_ACCESS_KEY_ID"):
        for key, variable in _KEYS.items():
            if both.get(key):
                found[variable] = both[key]
    if both.get("region") and not (found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION")):
        found["AWS_REGION"] = both["region"]
    if both.get("endpoint_url") and not found.get("AWS_ENDPOINT_URL"):
        found["AWS_ENDPOINT_URL"] = both["endpoint_url"]
    return found


def _path(environment: Mapping[str, str], variable: str, name: str) -> str:
    return environment.get(variable) or os.path.join(os.path.expanduser("~"), ".aws", name)


def _section(path: str, name: str) -> dict[str, str] | None:
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        # What the parser says would quote the line, and the line may be a secret.
        raise ConfigError(f"{path} cannot be read as AWS's tools write it") from None
    return dict(parser[name]) if parser.has_section(name) else None
