"""Data: a file becomes a data set."""
