"""Measures of how good asset folders are."""
