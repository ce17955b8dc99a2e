"""Studies that hold the tuner to its claims, each by a command: `python3 serve.py bench --claims NAME`."""
