"""What ``make doctor`` checks. Nothing here needs a package before the check that looks for it."""
