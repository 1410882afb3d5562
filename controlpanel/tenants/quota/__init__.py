"""Quotas: what may be limited (resources), the one ledger that admits and counts (ledger), how a limit is shown and read (words)."""
