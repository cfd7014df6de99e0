"""What compiled code shows without being run: its text, and its machine code."""
