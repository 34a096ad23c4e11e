"""Clouds of Gaussians: their colours, fitting them to images, and meshes made of them."""
