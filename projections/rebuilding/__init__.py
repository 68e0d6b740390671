"""Making read models anew from the log."""
