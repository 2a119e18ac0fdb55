"""Segmentation for clients: an automatic model, one that takes clicks, and batches of cases."""
