"""Renders training data from the user's own files; started by render_dataset.py, needs only bpy and numpy."""
