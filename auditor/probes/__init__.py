"""Probes: each turns a model, images and settings into records of values per image."""
