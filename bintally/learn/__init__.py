"""From a split manifest to a trained, calibrated, scored counter."""
