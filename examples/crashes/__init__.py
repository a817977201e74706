"""A small store that loses data in four ways, and its fixed version.

python -m examples.crashes
"""
