"""`engine.py` is compiled as it stands: what is called for each flow is in `shared.py`."""
