"""`python -m usrcli` is `usr`."""

from usrcli.main import main

main()
