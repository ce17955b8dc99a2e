"""What `serve.py` is made of: fetching, the environment, the wheel, the HTTP server, the checks.

Standard library only, because it runs before anything is installed; never part of the browser wheel.
"""
