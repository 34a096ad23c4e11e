"""Clouds of Gaussians: their colours, and fitting them to pictures."""
