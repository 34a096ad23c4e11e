"""The process that turns a prompt into views and splats; it has its own Python and never imports Blender."""
