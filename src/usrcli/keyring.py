"""Which key signs: the one that is configured, else one of our own, made on first use.

`.usr/config` [signing] key = "path" | "agent" | "none"   →   USR_SIGNING_KEY   →   own key
"""

from __future__ import annotations

import os

import click

from usrstore.errors import ConfigError, StorageError
from usrstore.root import Root
from usrstore.trust.keys import Signer, generate, load_private_key
from usrstore.trust.sshsig import PublicKey

OWN_KEY = "id_ed25519"


class Keyring:
    """A person's keys, as far as they are asked for."""

    def __init__(self, configured: str | None, folder: str, agent_socket: str | None) -> None:
        self._configured = configured
        self._folder = folder
        self._agent_socket = agent_socket
        self._signer: Signer | None = None
        self._asked = False

    def signer(self) -> Signer | None:
        """Raises: ConfigError, StorageError."""
        if not self._asked:
            self._signer = self._find()
            self._asked = True
        return self._signer

    def own(self) -> frozenset[str]:
        """Fingerprints of our keys; makes none."""
        if self._asked:
            return frozenset({self._signer.public_key.fingerprint} if self._signer else ())
        public = self._public_path()
        if public is None or not os.path.exists(public):
            signer = self.signer() if self._configured == "agent" else None
            return frozenset({signer.public_key.fingerprint} if signer else ())
        with open(public, encoding="utf-8") as file:
            return frozenset({PublicKey.parse(file.readline()).fingerprint})

    def _public_path(self) -> str | None:
        if self._configured in ("none", "agent"):
            return None
        path = self._configured or os.path.join(self._folder, OWN_KEY)
        return path if path.endswith(".pub") else f"{path}.pub"

    def _find(self) -> Signer | None:
        if self._configured == "none":
            return None
        if self._configured == "agent":
            return self._from_agent(None)
        if self._configured:
            return self._from_file(self._configured)
        path = os.path.join(self._folder, OWN_KEY)
        if not os.path.exists(path):
            self._make(path)
        return self._from_file(path)

    def _from_agent(self, key: PublicKey | None) -> Signer:
        from usrstore.trust.agent import AgentSigner, agent_keys

        if not self._agent_socket:
            raise ConfigError(
                "the signing key is in an agent, but SSH_AUTH_SOCK names none",
                hint="eval $(ssh-agent); ssh-add",
                code="agent-unreachable",
            )
        keys = agent_keys(self._agent_socket)
        chosen = key if key in keys else (keys[0] if keys and key is None else None)
        if chosen is None:
            raise ConfigError("the agent does not hold the signing key", hint="ssh-add KEY")
        return AgentSigner(self._agent_socket, chosen)

    def _from_file(self, path: str) -> Signer:
        """A key file; what cannot be read in the clear is asked of the agent or ssh-keygen."""
        path = os.path.expanduser(path)
        public = self._read_public(path)
        if public is not None and public.on_token:
            from usrstore.trust.keygen import KeygenSigner

            return KeygenSigner.open(path)
        if path.endswith(".pub"):
            return self._from_agent(public)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as exc:
            raise ConfigError(
                f"the signing key {path} cannot be read: {exc.strerror}",
                hint="check its owner and mode, or set [signing] key in .usr/config",
                code="key-unreadable",
            ) from exc
        try:
            return load_private_key(data)
        except ConfigError as exc:
            if exc.code == "key-encrypted" and public is not None and self._agent_socket:
                return self._from_agent(public)
            raise

    def _read_public(self, path: str) -> PublicKey | None:
        public = path if path.endswith(".pub") else f"{path}.pub"
        try:
            with open(public, encoding="utf-8") as file:
                return PublicKey.parse(file.readline())
        except (OSError, UnicodeDecodeError):
            return None

    def _make(self, path: str) -> None:
        """A first key, 0600, and its public half; the person is told once."""
        private, public = generate()
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return  # another command made it just now
        except OSError as exc:
            raise StorageError(
                f"cannot make a signing key in {self._folder}: {exc.strerror}",
                hint="set [signing] key in .usr/config, or USR_SIGNING_KEY",
            ) from exc
        with os.fdopen(fd, "wb") as file:
            file.write(private)
        with open(f"{path}.pub", "w", encoding="utf-8") as file:
            file.write(f"{public.line()}\n")
        click.echo(f"note: made a signing key, {path} ({public.fingerprint})", err=True)


def open_keyring(root: Root | None, folder: str, environment: dict[str, str]) -> Keyring:
    """The keyring of this user in this root. Raises: ConfigError."""
    section = root.config.get("signing", {}) if root is not None else {}
    configured = section.get("key") if isinstance(section, dict) else None
    if configured is not None and not isinstance(configured, str):
        raise ConfigError("signing.key in .usr/config must be a path, 'agent' or 'none'")
    configured = configured or environment.get("USR_SIGNING_KEY")
    if configured and root is not None and configured not in ("agent", "none"):
        configured = os.path.join(root.settings_folder, os.path.expanduser(configured))
    return Keyring(configured, folder, environment.get("SSH_AUTH_SOCK"))
