"""The version of the auditor; the packaging reads it here."""

__version__ = "0.1.0"
