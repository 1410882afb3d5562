"""What containers use, live: one stream per container and web process, however many browsers watch."""
