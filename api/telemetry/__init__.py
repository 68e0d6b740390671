"""What the service says about itself to those who watch it: numbers, log lines, traces. Never what it answers."""
