"""Labels that people submit: read, checked, and kept with every earlier version."""
