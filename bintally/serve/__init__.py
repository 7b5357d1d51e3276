"""The counter without torch: an exported model, and the HTTP server around it."""
