"""Files of containers and images: copying, changes, export, commit, and the difference of any two. No rows of its own."""
