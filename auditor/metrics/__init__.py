"""Metrics of attribution maps: `views` of one map, `drift` between two of them.

Names are imported from the modules themselves, so that ``auditor.metrics.drift`` stays a module.
"""
