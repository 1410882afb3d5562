#!/usr/bin/env python3
"""Slipway's one command; ./manage.py --help lists what it does. Needs Python >= 3.11 and nothing else."""

import sys

if sys.version_info < (3, 11):
    sys.exit(f"slipway: Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run it with a newer python3")

from workers.platform.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
