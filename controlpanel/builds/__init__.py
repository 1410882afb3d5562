"""Builds: who asked for what, how it went, what it said. The host does them; their logs are files of the panel's."""
