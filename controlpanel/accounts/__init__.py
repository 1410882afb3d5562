"""Who you are: users and API tokens."""
