"""Checks of compiled code that need no run: of its text, and of its machine code."""
