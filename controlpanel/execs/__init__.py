"""Commands that run in containers: what was asked, what became of them."""
