"""The platform of one machine: install, start, watch, show and remove its parts. Standard library only.

It stands below ``workers`` because it is the root side of a host: it knows the panel only as command lines. manage.py is its
door, and runs it before any virtual environment exists; hence no import from outside the standard library here, except
behind the commands that run inside the installed release (health, demo, uninstall).
"""
