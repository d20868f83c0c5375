"""What each step on the host does, and the command line that does the same."""
