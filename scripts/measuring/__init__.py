"""Measurements behind the scripts, and their summaries."""
