"""update-ref: move a ref by hand. Plumbing; its output is an API."""

from __future__ import annotations

import click

from usrcli.context import find_root, make_who
from usrstore.errors import InvalidInputError
from usrstore.objects.ids import ObjectId
from usrstore.objects.names import check_ref

_ABSENT = "absent"


@click.command("update-ref", short_help="Move a ref, if it is what you expect")
@click.argument("ref")
@click.argument("values", nargs=-1, metavar="NEW EXPECTED", required=True)
@click.option("-d", "--delete", is_flag=True, help="Take the ref away: REF EXPECTED.")
@click.option("-m", "--message", default="update-ref", help="Why, for the operation log.")
def update_ref(ref: str, values: tuple[str, ...], delete: bool, message: str) -> int:
    """Give REF the value NEW if it is EXPECTED now; `absent` stands for no such ref.

    There is no form without an expected value. Both are whole ids, 64 digits. No folder is
    touched; the number of the operation is printed, and `usr undo` takes it back.
    """
    if len(values) != (1 if delete else 2):
        raise click.UsageError("give REF NEW EXPECTED, or -d REF EXPECTED")
    from usrstore.verbs import refs

    root = find_root()
    new = None if delete else _value(values[0])
    expected = _value(values[-1])
    number = refs.move(root, make_who(root), check_ref(ref), expected, new, reason=message)
    click.echo(str(number))
    return 0


def _value(text: str) -> ObjectId | None:
    if text == _ABSENT:
        return None
    try:
        return ObjectId.parse(text)
    except InvalidInputError as exc:
        raise InvalidInputError(
            exc.message, hint=f"`usr rev-parse` prints whole ids; or say {_ABSENT}"
        ) from exc
