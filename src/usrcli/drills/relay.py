"""A saboteur between two ends: `python -m usrcli.drills.relay FAULT PROGRAM ARGUMENTS…`.

It stands where ssh stands (USR_SSH_COMMAND), runs the real program behind it, passes every
frame on, and does one thing wrong once:

    drop:DIR        one object of a run is left out
    truncate:DIR    one object loses its second half
    flip:DIR        one bit of one object is turned
    rename:DIR      a tree gives one file another name
    cut:DIR         the connection ends in the middle of a run
    touch:PATH      when the first chunks are asked for or sent, PATH is rewritten
DIR is `down` (to the client) or `up` (to the remote).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from usrstore.objects.ids import Kind
from usrstore.remote.wire import (
    FRAME_HEAD,
    MAGIC,
    Record,
    decode_objects,
    encode_object_heads,
)

Change = Callable[[list[Record]], list[Record]]
_SKIP = 1  # the event log travels first; the fault is to hit what comes after it


class Saboteur:
    """Looks at frames of one direction and spoils one of them."""

    def __init__(self, fault: str) -> None:
        self.fault, _, self.argument = fault.partition(":")
        # A blunt saboteur passes everything on: the drill must then see its contracts fail.
        self.blunt = bool(os.environ.get("USR_DRILL_BLUNT"))
        self._chunks_seen = 0
        self.done = False

    def watches(self, direction: str) -> bool:
        return not self.blunt and (self.fault == "touch" or self.argument == direction)

    def frame(self, kind: bytes, body: bytes) -> bytes:
        """The body to pass on instead. Raises: EOFError to hang up."""
        if self.done or kind != b"D":
            return body
        records = list(decode_objects(body))
        if not any(len(record[4]) for record in records):
            return body  # a run of names
        if self.fault == "touch":
            if any(record[0] is Kind.CHUNK for record in records):
                self._touch()
            return body
        change = getattr(self, f"_{self.fault}")
        return _join(change(records))

    def asked(self, body: bytes) -> None:
        """A message on its way to the remote: chunks are about to be read there."""
        if self.fault == "touch" and not (self.done or self.blunt) and b"\xa4send" in body:
            self._touch()

    def _target(self, records: list[Record]) -> int | None:
        """The object to spoil: a chunk, but not the first that travels unless it is alone."""
        for at, record in enumerate(records):
            if record[0] is Kind.CHUNK:
                self._chunks_seen += 1
                if self._chunks_seen > _SKIP:
                    return at
        return None

    def _drop(self, records: list[Record]) -> list[Record]:
        at = self._target(records)
        if at is None:
            return records
        self.done = True
        return records[:at] + records[at + 1 :]

    def _truncate(self, records: list[Record]) -> list[Record]:
        return self._spoil(records, lambda data: data[: len(data) // 2])

    def _flip(self, records: list[Record]) -> list[Record]:
        def turned(data: bytes) -> bytes:
            middle = len(data) // 2
            return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

        return self._spoil(records, turned)

    def _spoil(self, records: list[Record], change: Callable[[bytes], bytes]) -> list[Record]:
        at = self._target(records)
        if at is None:
            return records
        self.done = True
        kind, oid, encoding, size, stored = records[at]
        records[at] = (kind, oid, encoding, size, change(bytes(stored)))
        return records

    def _rename(self, records: list[Record]) -> list[Record]:
        for at, (kind, oid, encoding, size, stored) in enumerate(records):
            data = bytes(stored)
            place = data.find(b"part-")
            if kind is Kind.TREE and place >= 0:
                self.done = True
                data = data[:place] + b"Part-" + data[place + 5 :]
                records[at] = (kind, oid, encoding, size, data)
                break
        return records

    def _cut(self, records: list[Record]) -> list[Record]:
        if self._target(records) is not None:
            self.done = True
            raise EOFError
        return records

    def _touch(self) -> None:
        """Another program writes at the remote, as programs do: a new file under the name."""
        self.done = True
        scratch = f"{self.argument}.new"
        with open(self.argument, "rb") as file:
            data = bytearray(file.read())
        data[len(data) // 2] ^= 0xFF
        with open(scratch, "wb") as file:
            file.write(data)
        os.replace(scratch, self.argument)


def _join(records: list[Record]) -> bytes:
    rows: list[list[object]] = [
        [int(kind), oid, encoding, size, len(stored)]
        for kind, oid, encoding, size, stored in records
    ]
    return encode_object_heads(rows) + b"".join(record[4] for record in records)


def _pump(source: BinaryIO, target: BinaryIO, saboteur: Saboteur, direction: str) -> None:
    """Pass frames on until one end is done."""
    with contextlib.suppress(OSError, EOFError, ValueError):
        if direction == "down":
            _pass_magic(source, target)
        while head := source.read(FRAME_HEAD.size):
            size, kind = FRAME_HEAD.unpack(head)
            body = source.read(size)
            if direction == "up" and kind == b"M":
                saboteur.asked(body)
            if saboteur.watches(direction):
                body = saboteur.frame(kind, body)
            target.write(FRAME_HEAD.pack(len(body), kind) + body)
            target.flush()
    with contextlib.suppress(OSError):
        target.close()


def _pass_magic(source: BinaryIO, target: BinaryIO) -> None:
    seen = b""
    while not seen.endswith(MAGIC):
        byte = source.read(1)
        if not byte:
            raise EOFError
        seen += byte
    target.write(seen)
    target.flush()


def main(argv: list[str]) -> int:
    saboteur = Saboteur(argv[0])
    child = subprocess.Popen(argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    up = threading.Thread(
        target=_pump, args=(sys.stdin.buffer, child.stdin, saboteur, "up"), daemon=True
    )
    up.start()
    _pump(child.stdout, sys.stdout.buffer, saboteur, "down")  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        child.stdout.close()
    child.terminate()
    return child.wait() and 255


if __name__ == "__main__":
    # The other pump may be waiting for input that never comes; nothing is left to clean up.
    os._exit(main(sys.argv[1:]))
