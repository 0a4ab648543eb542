"""The sections of the report, one module each; every ``build`` turns a result into flowables."""
