"""Quality and speed of a model folder on its prepared test objects."""
