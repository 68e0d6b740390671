"""Things with a serial number each."""
