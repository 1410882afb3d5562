"""The containers of a tenant: desired and observed, and the acts on them."""
