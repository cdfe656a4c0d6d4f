"""Find the shortcut that a classifier has learned, and train one that does without."""
