"""What the scripts measure, and how they sum it up."""
