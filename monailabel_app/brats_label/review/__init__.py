"""Review of an archive: which case to correct next, who is editing it, agreement of two readers, and reading times."""
