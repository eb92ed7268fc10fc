"""Diagnose scores on disk, of any size: the command `diagnose`."""
