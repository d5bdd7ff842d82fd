"""Figures of the broker as ratios to peers and floors measured in the same run: ``python -m bench``."""
