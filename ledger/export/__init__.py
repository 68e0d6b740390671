"""The log in files: chunks of it in order, and a manifest that says what they hold, so that anyone can check them."""
