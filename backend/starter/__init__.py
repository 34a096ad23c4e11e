"""The starter: its small world, training recipes, judges, figures and weights."""
