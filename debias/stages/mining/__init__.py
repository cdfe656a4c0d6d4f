"""Miners: each gives every training image a conflict score from 0 to 1, by its id, and a threshold for suspects."""
