"""Faults planted in compiled programs, and the proof that some of them are none."""
