"""Four programs with a bug that no ordinary test meets, found by exploration, and the same programs mended.

python -m examples.exploration
"""
