"""``python -m whytransfer`` is the command ``whytransfer``."""

from whytransfer.cli import main

main()
