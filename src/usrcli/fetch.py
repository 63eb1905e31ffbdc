"""fetch: a remote's state into the store, and no further."""

from __future__ import annotations

import click

from usrcli import targets
from usrcli.context import make_who, print_json
from usrcli.links import peer_of
from usrcli.render.progress import reporter
from usrstore.trust.policy import Mode
from usrstore.verbs import believing
from usrstore.verbs.site import Site


@click.command(short_help="Bring a remote's state into the store only")
@click.argument("dataset")
@click.argument("remote")
@click.option(
    "--trust",
    type=click.Choice(["strict", "tofu", "none"]),
    help="Which signatures to believe [.usr/config, else tofu].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fetch(dataset: str, remote: str, trust: Mode | None, as_json: bool) -> int:
    """Bring the state of DATASET at REMOTE into the store, kept; the folder is not touched.

    Look at it with `usr show REMOTE/DATASET`, take it with `usr checkout`.
    """
    from usrstore.verbs.fetch import fetch as verb

    root, name = targets.find(dataset)
    progress = reporter("auto")
    with peer_of(root, remote) as peer:
        try:
            site = Site.open(root, name, make_who(root))
            result = verb(site, peer, remote, mode=believing.mode_of(root, trust), emit=progress)
        finally:
            progress.done()
    if as_json:
        print_json(
            {
                "dataset": name,
                "remote": remote,
                "manifest": result.manifest.hex(),
                "fresh": result.fresh,
                "payload": result.payload,
            }
        )
    else:
        click.echo(
            f"{remote}/{name} {result.manifest.short} ({'new' if result.fresh else 'as before'})"
        )
    return 0
