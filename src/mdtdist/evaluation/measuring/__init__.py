"""Exported files measured under a protocol: one record per system."""
