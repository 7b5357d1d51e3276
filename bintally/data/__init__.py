"""From an object store to a split manifest: fetch, check, describe, split, draw."""
