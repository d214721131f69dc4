"""Errors a user can cause. Each message names the value given, what is expected and what to do."""


class InputError(ValueError):
    """Wrong input from a user; the command line turns it into one sentence and exit code 2."""
