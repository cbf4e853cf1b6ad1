"""`python -m ghn_init` is `ghn-init`."""

from ghn_init.cli import main

main()
