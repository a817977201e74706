"""Six programs with a bug that ordinary tests do not find, but exploration does, and the same programs fixed.

python -m examples.exploration
"""
