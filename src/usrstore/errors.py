"""Every error a caller can meet, in one tree grouped by what the caller can do about it.

    UsrError(message, *, hint, code)
    ├ InvalidInputError     fix the call            ├ TrustError        stop, ask a person
    ├ NotFoundError         name something else     ├ UnsupportedError  upgrade
    ├ ConflictError         look again, retry       ├ RemoteError       look at the link, retry
    ├ IntegrityError        stop, read the runbook  ├ StorageError      fix the machine
    └ MergeConflictError    choose, then continue

The class says how to react; `code` (kebab-case, append-only, frozen by a test) says
exactly what happened; `hint` says what to do next. Exit statuses belong to the CLI.
"""

from __future__ import annotations

from collections.abc import Sequence

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the readers of JSON, TOML and YAML let out when a text is none: beside their own errors,
whatever a date that is no date, a number without digits or brackets without end makes of them."""


class UsrError(Exception):
    """Something went wrong that a person can act on.

    Args:
        message: what happened, and what was left untouched.
        hint: what to do next, as one sentence or one command.
        code: stable kebab-case name; defaults to the class's own.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class InvalidInputError(UsrError):
    code = "invalid-input"


class ConfigError(InvalidInputError):
    code = "config"


class InvalidNameError(InvalidInputError):
    code = "invalid-name"


class UnsafeFileError(InvalidInputError):
    """A folder holds what no state can hold: links, devices, names that escape."""

    code = "unsafe-file"


class RegistryError(InvalidInputError):
    code = "registry"


class OverlayError(InvalidInputError):
    """Overlay files that cannot be read as such, or that do not fit the base."""

    code = "overlay"


class NotFoundError(UsrError):
    code = "not-found"


class DatasetNotFoundError(NotFoundError):
    code = "dataset-not-found"


class RevisionNotFoundError(NotFoundError):
    code = "revision-not-found"


class AmbiguousRevisionError(InvalidInputError):
    code = "revision-ambiguous"


class RemoteNotFoundError(NotFoundError):
    code = "remote-not-found"


class ObjectNotFoundError(NotFoundError):
    code = "object-not-found"


class ConflictError(UsrError):
    code = "conflict"


class RefConflictError(ConflictError):
    """A ref no longer has the value the caller expected."""

    code = "ref-moved"


class DivergedError(ConflictError):
    """Both sides changed since they last agreed."""

    code = "diverged"


class LockedError(ConflictError):
    code = "locked"


class ChangedWhileReadError(ConflictError):
    """A file, or a whole folder, changed while it was being captured or moved."""

    code = "changed-while-read"


class IntegrityError(UsrError):
    code = "integrity"


class DecodeError(IntegrityError):
    """Bytes that are not a canonical object of the format."""

    code = "decode"


class HashMismatchError(IntegrityError):
    code = "hash-mismatch"


class IncompleteError(IntegrityError):
    """A state reaches an object that is not here."""

    code = "incomplete"


class VerificationError(IntegrityError):
    """A transfer's check failed; the message begins with the words that scripts match."""

    code = "verification"


class MergeConflictError(UsrError):
    """Both sides changed the same thing, and only a person can choose.

    Attributes:
        conflicts: what they are, as plain values for JSON.
    """

    code = "merge-conflict"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        conflicts: Sequence[dict[str, object]] = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.conflicts = tuple(conflicts)


class TrustError(UsrError):
    code = "trust"


class UnsignedError(TrustError):
    code = "signature-absent"


class BadSignatureError(TrustError):
    code = "signature-bad"


class UnknownSignerError(TrustError):
    code = "signer-unknown"


class RollbackError(TrustError):
    code = "rollback"


class ForkError(TrustError):
    code = "fork"


class StaleError(TrustError):
    """The newest state of a remote is older than this root allows."""

    code = "stale"


class GraftError(TrustError):
    """A manifest of another dataset, or one that does not descend from what it replaces."""

    code = "graft"


class UnsupportedError(UsrError):
    code = "unsupported"


class RemoteError(UsrError):
    code = "remote"


class ConnectionLostError(RemoteError):
    code = "connection-lost"


class ProtocolError(RemoteError):
    code = "protocol"


class StorageError(UsrError):
    code = "storage"


class DiskFullError(StorageError):
    code = "disk-full"


class ReadOnlyError(StorageError):
    code = "read-only"


class OutcomeUnknownError(StorageError):
    """The machine failed where a ref moves, and then could not say whether it had moved."""

    code = "outcome-unknown"


class BucketError(RemoteError, StorageError):
    """A remote that is nothing but storage: a link and a disk in one, and it fails as either."""

    code = "bucket"
