"""bintally counts the items in bin photos, says how sure it is, and holds the count against the record."""

__version__ = "0.1.0"
