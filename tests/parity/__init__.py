"""Replays recorded cases of the reference implementation against this code."""
