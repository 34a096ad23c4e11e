"""What Blender and the backend both load: Python's standard library and numpy only."""
