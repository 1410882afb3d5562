"""The fault run: parts are killed at random under load, power is cut at random, and what must hold is looked at afterwards."""
