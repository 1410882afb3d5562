"""Who did what to which object, from where: append-only, one hash chain per tenant."""
