"""What strangers wrote: files that are checked before a library reads them, names made fit to show.

SECURITY.md says which files are data, and what is promised of them.
"""
