"""What the clients have in common: read from a server, checked against one, and written for each language."""
