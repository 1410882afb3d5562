"""The vocabulary: frozen dataclasses and enums that every floor shares. Standard library only, no input or output."""
