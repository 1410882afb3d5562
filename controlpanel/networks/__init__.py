"""A tenant's networks: rows that say which there are, acts on them, and what connects containers with them."""
