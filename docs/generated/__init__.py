"""The makers of the reference pages."""
