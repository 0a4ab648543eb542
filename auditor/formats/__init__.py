"""Read a user's model from what it was saved as; one module for each format."""

from auditor.formats.loaded import Loaded

__all__ = ["Loaded"]
