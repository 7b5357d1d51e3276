"""Pages and plots, made from what the stages wrote."""
