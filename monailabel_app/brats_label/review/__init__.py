"""Review of an archive: which case to correct next, who has it, how well two readers agree, and what labels cost."""
