"""Serving: registered models that answer, one by one over HTTP or all of a file."""
