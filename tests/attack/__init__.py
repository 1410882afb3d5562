"""Attacks on the walls between tenants, each tried with its wall and, as a control, without it. docs/security.md says what they test."""
