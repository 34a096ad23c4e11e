"""Trains models: the loop, objectives, full-size trainers and data readers."""
