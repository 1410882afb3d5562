"""How a container runs: who is its parent, who makes it, who reads its output."""
