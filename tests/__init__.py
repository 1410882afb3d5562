"""Tests: the same paths as what they prove; flows/ goes through every floor, support/ is what they share."""
