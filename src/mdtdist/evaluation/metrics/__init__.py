"""Distances between sets and scores of pairs: features, pictures, voxels; bootstrap intervals."""
