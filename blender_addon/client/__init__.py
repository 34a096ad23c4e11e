"""The add-on's side of the backend process: its environment, its life, its jobs."""
