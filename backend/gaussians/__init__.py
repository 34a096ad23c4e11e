"""Clouds of Gaussians: their colours, fitting them to pictures, and meshes made of them."""
