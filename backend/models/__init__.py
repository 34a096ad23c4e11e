"""The networks: one file per architecture, and the converters that fill them from published weights."""
