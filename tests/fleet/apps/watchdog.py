"""Hides the package `watchdog`, so that Werkzeug's reloader looks at the times of files.

With it, the reloader watches everything below `sys.path`, and the queue of inotify overflows on large trees.
"""
