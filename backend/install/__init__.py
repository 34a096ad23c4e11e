"""Downloads, converts, verifies and removes models."""
