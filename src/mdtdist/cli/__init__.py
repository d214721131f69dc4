"""The command line: one file per command, nothing but argument handling."""
