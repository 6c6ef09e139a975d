"""Measures of the codes of groups."""
