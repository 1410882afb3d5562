"""What containers use: live, by one stream per container and web process, however many browsers watch; and their traffic, by month."""
