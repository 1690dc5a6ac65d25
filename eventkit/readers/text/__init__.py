"""Text, a row an event."""
