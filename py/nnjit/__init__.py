"""nnjit: a deep-learning compiler and autotuner that runs in the browser. `python3 serve.py` opens it."""
