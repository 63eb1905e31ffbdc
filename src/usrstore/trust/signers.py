"""Who may sign: OpenSSH's `allowed_signers` file as a value.

The text that was read is the text that is written, comments and all; a new signer is a
line at the end. Lines mean what they mean to `ssh-keygen -Y verify`, with one difference:
a line that we cannot honour to the letter (a certificate authority, an unknown option or
kind of key) is an error that names it, where OpenSSH would pass over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from usrstore.errors import ConfigError, InvalidInputError
from usrstore.trust.sshsig import KEY_ALGORITHMS, NAMESPACE, PublicKey

MAX_TEXT_CHARS = 4 * 1024 * 1024  # ten thousand signers and their comments

_BLANK = " \t"
_TIME_DIGITS = (8, 12, 14)  # YYYYMMDD, YYYYMMDDHHMM, YYYYMMDDHHMMSS


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line: these people may sign with this key, for these purposes, in this time."""

    principals: tuple[str, ...]
    key: PublicKey
    namespaces: tuple[str, ...] | None = None
    valid_after_s: int | None = None
    valid_before_s: int | None = None

    @property
    def name(self) -> str:
        """The first principal, as the file spells it."""
        return self.principals[0]

    def allows(self, *, namespace: str, at_s: int | None) -> bool:
        """Whether this line accepts a signature for `namespace` made at `at_s`.

        A line that is limited in time accepts nothing whose time is not known.
        """
        if self.namespaces is not None and not _matches(namespace, self.namespaces):
            return False
        if at_s is None:
            return self.valid_after_s is None and self.valid_before_s is None
        return (self.valid_after_s is None or self.valid_after_s <= at_s) and (
            self.valid_before_s is None or at_s <= self.valid_before_s
        )


@dataclass(frozen=True, slots=True)
class AllowedSigners:
    """The whole file: its lines as written, and what they allow."""

    lines: tuple[str, ...] = ()
    signers: tuple[AllowedSigner, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of an `allowed_signers` file.

        Raises:
            ConfigError: naming the first line that does not hold.
        """
        if len(text) > MAX_TEXT_CHARS:
            raise ConfigError(f"{len(text)} characters are too many for allowed signers")
        lines = tuple(text.removesuffix("\n").split("\n")) if text else ()
        signers = []
        for number, line in enumerate(lines, start=1):
            content = line.rstrip("\r").strip(_BLANK)
            if not content or content.startswith("#"):
                continue
            try:
                signers.append(_parse_line(content))
            except ConfigError as exc:
                hint = exc.hint or "a line reads: PRINCIPALS [OPTIONS] KEY-TYPE BASE64-KEY"
                message = f"allowed signers, line {number}: {exc.message}"
                raise ConfigError(message, hint=hint, code="allowed-signers") from exc
        return cls(lines, tuple(signers))

    def find(self, key: PublicKey, *, namespace: str = NAMESPACE, at_s: int | None) -> str | None:
        """The principal that may sign with `key` for `namespace` at `at_s`; the first line wins."""
        for signer in self.signers:
            if signer.key == key and signer.allows(namespace=namespace, at_s=at_s):
                return signer.name
        return None

    def without(self, gone: Sequence[AllowedSigner]) -> Self:
        """These signers without some; comments and blank lines stay as they are."""
        kept = []
        for line in self.lines:
            content = line.rstrip("\r").strip(_BLANK)
            if content and not content.startswith("#") and _parse_line(content) in gone:
                continue
            kept.append(line)
        return type(self)(tuple(kept), tuple(s for s in self.signers if s not in gone))

    def with_signer(self, principal: str, key: PublicKey) -> Self:
        """These signers and one more, allowed to sign what we sign and nothing else.

        Raises:
            InvalidInputError: if `principal` is no plain name.
        """
        if not principal or not principal.isprintable() or set(principal) & set(' ,"*?!#\\'):
            message = f"not the name of a signer: {principal!r}"
            raise InvalidInputError(message, hint="use a plain name such as user@example.org")
        signer = AllowedSigner((principal,), key, (NAMESPACE,))
        if signer in self.signers:
            return self
        line = f'{principal} namespaces="{NAMESPACE}" {key.line()}'
        return type(self)((*self.lines, line), (*self.signers, signer))

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def _parse_line(content: str) -> AllowedSigner:
    quoted = content.startswith('"')
    head, _, rest = content[1:].partition('"') if quoted else _split_word(content)
    principals = tuple(head.split(","))
    if not all(principals) or '"' in head:
        raise ConfigError("a principal is empty, or quoted by itself")
    if principals[0].startswith("!"):
        raise ConfigError("the first principal is a negated one and names nobody")
    first, _, after = _split_word(rest.lstrip(_BLANK))
    if first in KEY_ALGORITHMS:
        return AllowedSigner(principals, PublicKey.parse(rest))
    options = _parse_options(first)
    key = PublicKey.parse(after)
    after_s, before_s = (
        _parse_time(name, options[name]) if name in options else None
        for name in ("valid-after", "valid-before")
    )
    if after_s is not None and before_s is not None and before_s <= after_s:
        raise ConfigError("valid-before is not later than valid-after")
    namespaces = tuple(options["namespaces"].split(",")) if "namespaces" in options else None
    return AllowedSigner(principals, key, namespaces, after_s, before_s)


def _split_word(text: str) -> tuple[str, str, str]:
    """Text up to the first blank outside quotes, that blank, and the rest."""
    inside = False
    for at, char in enumerate(text):
        if char == '"' and text[at - 1 : at] != "\\":
            inside = not inside
        elif char in _BLANK and not inside:
            return text[:at], char, text[at + 1 :]
    return text, "", ""


def _parse_options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    while text:
        name, equals, rest = text.partition("=")
        name = name.lower()
        if name.split(",")[0] == "cert-authority":
            raise ConfigError(
                "certificate authorities are not supported",
                hint="list the keys that it certifies, one a line",
            )
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise ConfigError(f"{name!r} is no option and no kind of key that is known here")
        if name in options:
            raise ConfigError(f"{name} is given twice")
        value, end = _dequote(rest) if equals else ("", 0)
        if not end or rest[end : end + 1] not in ("", ",") or rest[end:] == ",":
            raise ConfigError(f"{name} wants a value in quotes, and no comma after the last")
        options[name], text = value, rest[end + 1 :]
    return options


def _dequote(text: str) -> tuple[str, int]:
    """The value of a quoted string at the start of `text`, and where it ends (0: nowhere)."""
    if not text.startswith('"'):
        return "", 0
    at = 1
    while at < len(text) and text[at] != '"':
        at += 2 if text.startswith('\\"', at) else 1
    return text[1:at].replace('\\"', '"'), at + 1 if at < len(text) else 0


def _parse_time(name: str, text: str) -> int:
    """Seconds since 1970; like OpenSSH in the local time zone (no summer time) unless Z."""
    import time
    from datetime import UTC, datetime

    upper = text.upper()
    digits = upper.removesuffix("UTC") if upper.endswith("UTC") else upper.removesuffix("Z")
    if not (digits.isascii() and digits.isdecimal() and len(digits) in _TIME_DIGITS):
        raise ConfigError(f"{name} is no time: {text!r} (YYYYMMDD[HHMM[SS]][Z])")
    parts = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, len(digits), 2))]
    try:
        moment = datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
        if digits != upper:
            seconds = int(moment.timestamp())
        else:
            seconds = int(time.mktime((*moment.timetuple()[:8], 0)))
    except (ValueError, OverflowError) as exc:
        raise ConfigError(f"{name} is no time: {text!r} ({exc})") from exc
    if seconds <= 0:  # OpenSSH reads zero as "no limit", which is the opposite
        raise ConfigError(f"{name} is not after 1970: {text!r}")
    return seconds


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    """OpenSSH's pattern list: `*` and `?`; one negated match refuses whatever else matches."""
    from fnmatch import fnmatchcase

    def match(pattern: str) -> bool:
        return fnmatchcase(text, pattern.replace("[", "[[]"))

    if any(match(pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(match(pattern) for pattern in patterns if not pattern.startswith("!"))
