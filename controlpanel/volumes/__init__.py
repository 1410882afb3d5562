"""Volumes: rows that follow the hosts, and acts on them."""
