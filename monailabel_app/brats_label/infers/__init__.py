"""The models that clients are offered: an automatic one, and one that takes clicks."""
