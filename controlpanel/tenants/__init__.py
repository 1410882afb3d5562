"""What is yours: tenants, memberships, roles, and the one permission check."""
