"""bench: what limits a transfer from here, measured."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from usrcli.context import find_root, json_option, print_json
from usrcli.links import connect, find_profile
from usrcli.render.text import human_bytes

if TYPE_CHECKING:
    from usrstore.verbs.pace import Pace, Part

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_LEAST = 1_000_000


class _Size(click.ParamType[int]):
    """Bytes, as people write them."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        from usrstore.remote.messages import MAX_GAUGE_BYTES

        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,12})([kMG]?)B?", str(value))
        size = int(found[1]) * _UNITS[found[2]] if found else 0
        if not _LEAST <= size <= MAX_GAUGE_BYTES:
            most = human_bytes(MAX_GAUGE_BYTES)
            self.fail(f"{value} is no size between 1M and {most}; write 200M or 1G", param, ctx)
        return size


@click.group(short_help="Measure what limits a transfer")
def bench() -> None:
    """Measurements of the places and links that are yours."""


@bench.command()
@click.argument("remote")
@click.option("--size", type=_Size(), default="200M", show_default=True, help="Bytes a part.")
@json_option
def transfer(remote: str, size: int, as_json: bool) -> int:
    """Measure disks, processors and the link to REMOTE, and name the slowest part.

    Each part is measured alone with SIZE bytes of no meaning: nothing of it stays at either end,
    and no dataset is looked at.
    """
    from usrstore.errors import RemoteError
    from usrstore.remote import multiplex
    from usrstore.remote.client import WirePeer
    from usrstore.verbs.pace import pace

    root = find_root()
    profile = find_profile(root, remote)
    peer = connect(profile, root)
    try:
        if isinstance(peer, WirePeer):
            # Who shares a connection leaves the cipher to the process that holds it.
            with contextlib.suppress(RemoteError):
                master = multiplex.master_pid(profile, os.environ)
                peer.carriers += () if master is None else (master,)
        found = pace(root, peer, size)
    finally:
        peer.close()
    sentence = _verdict(found, remote)
    if as_json:
        parts = [asdict(part) for part in found.parts]
        print_json(
            {
                "remote": remote,
                "size": found.size,
                "round_trip_us": found.round_trip_us,
                "parts": parts,
                "ssh_busy": found.ssh_busy,
                "slowest": asdict(found.slowest),
                "limit": asdict(found.limit),
                "verdict": sentence,
            }
        )
        return 0
    place = ""
    for part in found.parts:
        _line("" if part.place == place else _place(part, remote), part.name, _speed(part))
        if part.place == "link" != place and found.round_trip_us is not None:
            _line("", "round trip", f"{found.round_trip_us / 1000:.1f} ms")
            if found.ssh_busy is not None:
                _line("", "ssh at work", f"{found.ssh_busy:.0%}")
        place = part.place
    click.echo(sentence)
    return 0


def _line(place: str, name: str, value: str) -> None:
    click.echo(f"{place:<8} {name:<15} {value:>12}")


def _place(part: Part, remote: str) -> str:
    return remote if part.place == "there" else part.place


def _speed(part: Part) -> str:
    return f"{human_bytes(part.bytes_per_s)}/s"


def _verdict(found: Pace, remote: str) -> str:
    """One sentence: what to look at first."""
    from usrstore.verbs.pace import PUSH_QUESTIONS

    slowest, limit = found.slowest, found.limit
    way = {"send": f"to {remote}", "receive": f"from {remote}"}.get(slowest.name, "")
    where = f"at {remote}" if limit.place == "there" else "here"
    act = "writing" if slowest.name == "write and sync" else "reading"
    what = {
        "hash": f"hashing {where}",
        "disk": f"{act} the disk {where}",
        "cipher": f"ssh's cipher here, on the way {way}",
        "network": f"the network {way} (or its other end)",
        "link": f"the link {way}",
    }[limit.what]
    seconds = found.size / max(1, slowest.bytes_per_s)
    text = f"The slowest part is {what}: {_speed(slowest)}, "
    text += f"{seconds:.2f} s for {human_bytes(found.size)}"
    if found.round_trip_us is not None:
        waiting = PUSH_QUESTIONS * found.round_trip_us / 1_000_000
        text += f"; the {PUSH_QUESTIONS} questions of a push wait {waiting:.2f} s"
    return f"{text}."
