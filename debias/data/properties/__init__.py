"""Properties of images as numbers, and how well each alone predicts the class."""
