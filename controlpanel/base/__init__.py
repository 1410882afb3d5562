"""What every app stands on: errors to HTTP, the database threads, the live feed, middleware. Knows no resource."""
