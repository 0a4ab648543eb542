"""Curvature and bounds: each states what it bounds and under which assumptions."""
