"""Frozen networks that judge pictures and shapes, in plain torch with the key names of their public weights."""
