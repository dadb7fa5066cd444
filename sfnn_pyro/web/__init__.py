"""The page on which a person draws and the network completes: its export, and what it needs."""
