"""Where biased data comes from and how it reaches the device."""
