"""The end of a tenant, across all apps: marked, restored, removed with the proof that nothing is left; and its command line."""
