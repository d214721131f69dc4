"""Families of generated objects: each a function from a generator of randomness to a model."""
