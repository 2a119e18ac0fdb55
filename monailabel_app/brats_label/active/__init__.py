"""Which patient to annotate next: what is measured of each, where that is kept, and how one is chosen."""
